"""Compares the meanings of an answer and a reference: values of any kind, such as numbers, lists, sets and intervals.

A unit, a base, or the name before an equals sign may stand in only one of the two. If it stands in both, it must agree.

An expression is a tuple, such as ("num", n, d) for the number n/d or ("*", factors) for a product (see tree.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from verifiers.math500 import tree
from verifiers.math500.compare.chains import Chains
from verifiers.math500.compare.meaning import is_vector
from verifiers.math500.compare.probe import NO, UNSURE, YES
from verifiers.math500.compare.regions import Region
from verifiers.math500.compare.value_names import base_of
from verifiers.math500.tree import Node, symbols
from verifiers.math500.values import (
    Based,
    Matrix,
    Quantity,
    Ratio,
    Relation,
    Row,
    Set,
    Several,
    Union,
    Value,
    Words,
    is_expression,
    quotient,
)
from verifiers.math500.words import ARTICLES, SUBJECT_WORDS
from verifiers.reading.problem import Problem
from verifiers.reading.units import conflict, conversion, is_known

ITEM_LIMIT = 20  # items of a list in any order: each is compared with each
PRODUCT_LIMIT = 3  # letters of a word that may be a product of variables
UNIT_VECTORS = (("const", "i"), ("sym", "j"), ("sym", "k"))  # i is read as the imaginary unit
ROUND = ("(", ")")


class Compared(NamedTuple):
    """What a comparison gives."""

    verdict: int
    """NO, YES or UNSURE."""
    tier: int
    """How it was found: `TYPED`, `RATIONAL` or `PROBE`."""
    sides: list[Value]
    """The sides of the answer that give its value: 20 + 16 and 36 of m + n = 20 + 16 = 36; none but for equations."""


def compared(answer: Value, gold: Value, problem: Problem, *, strict: bool, length: int) -> Compared:
    """Whether an answer has the value of the reference, whatever its form; raises `Undefined` where it has none.

    `length`: characters of both texts.
    """
    comparison = Comparison(length, strict, problem)
    verdict = comparison.same(answer, gold)
    return Compared(verdict, comparison.tier, comparison.sides)


class Comparison(Chains):
    """Compares one answer with one reference. `Chains` has the attributes, and compares expressions and equations."""

    def same(self, answer: Value, gold: Value) -> int:
        """NO, YES or UNSURE: whether two values of any kind are the same answer."""
        if is_expression(answer) and is_expression(gold):
            return self.same_expression(answer, gold)
        answer_kind, gold_kind = type(answer), type(gold)
        if Region in (answer_kind, gold_kind):
            return self.same_region(answer, gold)
        if Relation in (answer_kind, gold_kind):
            return self.same_relation(answer, gold)
        if answer_kind is Several and is_expression(value_and_unit(gold)[0]):
            return self.same_value_of_list(answer, gold)
        if Quantity in (answer_kind, gold_kind):
            return self.same_quantity(answer, gold)
        self.structured = True
        return self.same_container(answer, gold)

    def same_region(self, answer: Value, gold: Value) -> int:
        """Compares a region with a value by the intervals alone, whatever the variable: 2 < x < 5 and (2, 5)."""
        self.structured = True
        answer, gold = (side.where if type(side) is Region else side for side in (answer, gold))
        return self.same_container(answer, gold)

    def same_value_of_list(self, answer: Several, gold: Value) -> int:
        """Compares a list with one value. The list may be a value with a condition, or one value in two notations.

        Examples: "1/(p + 1), p > -1", whose condition is on a letter of the reference, and "3/4 or 75%".
        """
        first, *others = answer.items
        letters = {("sym", name) for name in symbols(value_and_unit(gold)[0])}
        if len(others) == 1 and type(others[0]) in (Region, Relation) and is_expression(first):
            letter = others[0].name if type(others[0]) is Region else others[0].sides[0]
            return self.same(first, gold) if letter in letters else NO
        if answer.join != "or":
            return NO
        first, *others = map(without_percent, answer.items)  # 5 or 5% are two values
        if any(self.same(first, other) != YES for other in others):
            return NO
        # As with the sides of 3/4 = 0.75, it is enough that one of the values has the form that the problem asks for.
        self.sides += answer.items
        verdicts = [self.same(item, gold) for item in answer.items]
        return YES if YES in verdicts else max(verdicts)  # UNSURE is above YES and NO (see probe.py)

    def same_container(self, answer: Value, gold: Value) -> int:
        """Compares two values that are not both expressions: as values of one kind or, if need be, of two kinds."""
        answer_kind, gold_kind = type(answer), type(gold)
        if answer == gold:
            return YES
        if Based in (answer_kind, gold_kind):
            return self.same_base(answer, gold)
        if gold_kind in (Several, Set) and answer_kind in (Several, Set):
            return self.same_list(answer, gold)
        if gold_kind is Row and answer_kind is Row:
            return self.same_row(answer, gold)
        if gold_kind is Union and answer_kind is Union:
            return self.any_order(answer.parts, gold.parts)
        if gold_kind is Matrix and answer_kind is Matrix:
            if list(map(len, answer.rows)) == list(map(len, gold.rows)):
                return self.in_order(sum(answer.rows, ()), sum(gold.rows, ()))
        if gold_kind is Words and answer_kind is Words:
            return self.same_words(answer.words, gold.words)
        letters = letters_of(gold)
        if letters and letters_of(answer) == letters:
            return YES  # abc and bca
        return NO if self.strict else self.same_loosely(answer, gold)

    def same_loosely(self, answer: Value, gold: Value) -> int:
        """Compares values of two kinds that may say the same.

        These are lists with brackets and without, vectors and matrices, ratios and quotients, a value and its set {5}.
        """
        answer_kind, gold_kind = type(answer), type(gold)
        # 3, 4 or y = 4, x = 3 for (3, 4).
        is_pair = gold_kind is Row and answer_kind is Several and (gold.opening, gold.closing) == ROUND
        if is_pair and not self.problem.is_interval:
            has_names = any(type(item) is Relation for item in answer.items)
            items = by_name(answer.items) if has_names else answer.items
            return self.in_order(items, gold.items) if items else NO
        # (3, 4) for x = 3, y = 4.
        if gold_kind is Several and answer_kind is Row and (answer.opening, answer.closing) == ROUND:
            items = by_name(gold.items)
            return self.in_order(answer.items, items) if items else NO
        # (1, 2) for a matrix of one column.
        if {answer_kind, gold_kind} == {Row, Matrix} and is_vector(answer) and is_vector(gold):
            return self.in_order(entries(answer), entries(gold))
        if is_vector(gold) and is_expression(answer):
            # 2i - k for (2, 0, -1).
            vector = by_units(answer, len(entries(gold)))
            if vector:
                return self.in_order(vector, entries(gold))
        if gold_kind is Row and is_expression(answer) and answer[0] == "*" and len(answer[1]) == 2:
            name, inside = answer[1]
            if name[0] == "sym" and name[1][0].isupper() and inside[0] == "held":
                return self.same(inside[1], gold)  # P(3, -4) for (3, -4): the pair is "held" in the product
        # 7/3 for 7 : 3.
        if Ratio in (answer_kind, gold_kind):
            answer, gold = quotient(answer), quotient(gold)
            are_quotients = all(is_expression(side) and side[0] == "/" for side in (answer, gold))
            return self.same(answer, gold) if are_quotients else NO
        if is_expression(gold) and answer_kind is Set and len(answer.items) == 1:
            return self.same(answer.items[0], gold)  # {5} for 5
        return NO

    # ---- lists ----

    def same_list(self, answer: Several | Set, gold: Several | Set) -> int:
        """Compares lists and sets. "Bob or Ann" is wrong for "Bob and Ann", but 2 or 3 is right for 2, 3."""
        are_lists = type(answer) is Several and type(gold) is Several
        if are_lists and answer.join == "or" and gold.join != "or" and type(gold.items[0]) is Words:
            return NO
        return self.any_order(answer.items, gold.items)

    def same_row(self, answer: Row, gold: Row) -> int:
        """Compares two rows: (2, 5) is not [2, 5), but <2, 5> for vectors, if the problem asks for no interval."""
        if (answer.opening, answer.closing) != (gold.opening, gold.closing):
            are_vectors = is_vector(answer) and is_vector(gold)
            if self.strict or not are_vectors or self.problem.is_interval:
                return NO
        return self.in_order(answer.items, gold.items)

    def in_order(self, answer: Sequence[Value], gold: Sequence[Value]) -> int:
        """Compares lists place by place: NO if two items differ, UNSURE if two may differ, else YES."""
        if len(answer) != len(gold):
            return NO
        verdict = YES
        for a, g in zip(answer, gold, strict=True):
            item_verdict = self.same(a, g)
            if item_verdict == NO:
                return NO
            verdict = max(verdict, item_verdict)
        return verdict

    def any_order(self, answer: Sequence[Value], gold: Sequence[Value]) -> int:
        """Compares lists whose order is free: both must have the same items, each equally often."""
        gold = unnamed(gold)
        if len(answer) != len(gold):
            return NO
        if len(gold) > ITEM_LIMIT or self.problem.is_sorted:
            return self.in_order(answer, gold)
        nouns = [noun_of(item) for item in gold]
        if "" not in nouns and len(set(nouns)) > 1 and "" not in map(noun_of, answer):
            # 3 apples and 2 pears are no 2 apples and 3 pears
            answer, gold = sorted(answer, key=noun_of), sorted(gold, key=noun_of)
            return self.in_order(answer, gold) if list(map(noun_of, answer)) == sorted(nouns) else NO
        unmatched, verdict = list(answer), YES
        for g in gold:
            item_verdict = self.take_same(g, unmatched)
            if item_verdict == NO:
                return NO
            verdict = max(verdict, item_verdict)
        return verdict

    def take_same(self, gold: Value, items: list[Value]) -> int:
        """YES if one of the items is the same as `gold`; the item is then taken out of them. Else UNSURE or NO."""
        unsure = False
        for k, a in enumerate(items):
            item_verdict = self.same(a, gold)
            if item_verdict == YES:
                del items[k]
                return YES
            if item_verdict == UNSURE:
                unsure = True
        return UNSURE if unsure else NO

    # ---- words, quantities and numbers with a base ----

    def same_words(self, answer: Sequence[str], gold: Sequence[str]) -> int:
        """YES for the same words. One side may also name the thing that its words describe: "the series converges"."""
        answer, gold = [word.lower() for word in answer], [word.lower() for word in gold]
        plain_answer, plain_gold = without_subject(answer), without_subject(gold)
        if not plain_gold or plain_answer != plain_gold:
            return NO
        at_most_one_has_more = plain_answer == answer or plain_gold == gold
        return YES if at_most_one_has_more else NO

    def same_quantity(self, answer: Value, gold: Value) -> int:
        """Compares values with units, either of which may be missing: 5 and 5 cm; 120 minutes and 2 hours."""
        value, unit = value_and_unit(answer)
        gold_value, gold_unit = value_and_unit(gold)
        if unit == "percent" and not gold_unit and is_expression(value):
            if not is_above_one(gold_value):
                value = ("pct", value)  # 50% for 0.5
            elif self.problem.text and not self.problem.has_percent:
                return NO  # 50% for 50, which only a problem that speaks of per cent may mean
        if not conflict(unit, gold_unit):
            return self.same(value, gold_value)
        ratio = None if self.strict else conversion(unit, gold_unit)  # (60, 1) for hours and minutes
        if not ratio or not is_expression(value):
            return NO
        return self.same(("*", (("num", *ratio), value)), gold_value)

    def same_base(self, answer: Value, gold: Value) -> int:
        """Compares numbers, at least one of which has a base. The answer may leave the base out: 345 for 345_6."""
        if type(gold) is Based:
            may_lack_base = is_expression(answer) and tree.is_whole(answer) and not self.strict
            return YES if may_lack_base and str(answer[1]) == gold.digits else NO
        # The reference has the digits in the base that the problem asks for, or is in base ten.
        if answer.base == self.problem.base:
            return YES if gold == ("num", int(answer.digits), 1) else NO
        return self.same(("num", int(answer.digits), 1), gold) if answer.base == "10" else NO


def without_subject(words: list[str]) -> list[str]:
    """The words without articles and what they describe: ["converges"] for the words of "the series converges".

    The last word is never taken as an article: the "a" of "vitamin a".
    """
    without_articles = [word for word in words[:-1] if word not in ARTICLES] + words[-1:]
    return [word for word in without_articles if word not in SUBJECT_WORDS]


def value_and_unit(side: Value) -> tuple[Value, str]:
    """(5, "cm") for 5 cm; any other value with "" for its unit."""
    return (side.value, side.unit) if type(side) is Quantity else (side, "")


def noun_of(side: Value) -> str:
    """The noun behind a value if it is no known unit, without the s of the plural: "apple" for 3 apples; else ""."""
    unit = value_and_unit(side)[1]
    return "" if is_known(unit) else unit.removesuffix("s")


def without_percent(side: Value) -> Value:
    """The number 0.75 for 75%; any other value as it is."""
    is_percent = type(side) is Quantity and side.unit == "percent" and is_expression(side.value)
    return ("pct", side.value) if is_percent else side


def is_above_one(value: Value) -> bool:
    """True for a number above 1 or below -1."""
    return is_expression(value) and value[0] == "num" and abs(value[1]) > value[2]


def letters_of(value: Value) -> list[str]:
    """The sorted letters of a product of variables, or of a short word without repeated letters: a, b, c for bca.

    No letters for any other value.
    """
    if type(value) is Words:
        word, *others = value.words
        is_short = not others and len(word) <= PRODUCT_LIMIT and len(set(word)) == len(word)
        return sorted(word) if is_short and (word.islower() or len(word) == 1) else []
    if not is_expression(value):
        return []
    factors = value[1] if value[0] == "*" else (value,)
    letters = [factor[1] for factor in factors if factor[0] in ("sym", "const")]
    return sorted(letters) if len(letters) == len(factors) else []


def entries(vector: Row | Matrix) -> Sequence[Value]:
    """The entries of a vector, which is a row or a matrix of one row or column."""
    return vector.items if type(vector) is Row else sum(vector.rows, ())


def by_units(node: Node, size: int) -> Sequence[Node]:
    r"""The entries of a vector written with unit vectors: 2, 0, -1 for `2\mathbf{i} - \mathbf{k}`.

    Empty if the expression is no sum of multiples of different unit vectors. `size`: 2 or 3 entries.
    """
    terms = node[1] if node[0] == "+" else (node,)
    found: dict[Node, Node] = {}
    for term in terms:
        factors = term[1] if term[0] == "*" else (term,)
        vectors = [factor for factor in factors if factor in UNIT_VECTORS[:size]]
        if len(vectors) != 1 or vectors[0] in found:
            return ()
        found[vectors[0]] = ("*", (tree.ONE, *(factor for factor in factors if factor is not vectors[0])))
    return [found.get(vector, tree.ZERO) for vector in UNIT_VECTORS[:size]]


def by_name(items: Sequence[Value]) -> Sequence[Value]:
    r"""Equations such as `y = 7, x = 2` or `x = y = 2`, sorted by their letters: x = 2, y = 7.

    Empty if an item is no equation, or if a letter comes twice. Latin and Greek letters have no order between them:
    `r = 2, \theta = 1` stays as it is written.
    """
    if any(type(item) is not Relation or set(item.operators) != {"="} for item in items):
        return ()
    # One equation for each letter: x = 2 and y = 2 for x = y = 2.
    items = [Relation(("=",), (side, item.sides[-1])) for item in items for side in item.sides[:-1]]
    are_greek = {base_of(item.sides[0]).startswith("\\") for item in items}
    if len(are_greek) == 1:  # all letters are Greek, or none is
        items = sorted(items, key=lambda item: str(item.sides[0]))
    return items if len({item.sides[0] for item in items}) == len(items) else ()


def unnamed(items: Sequence[Value]) -> Sequence[Value]:
    """1 and 6 for the list `x = 1, 6`; the items of any other list as they are."""
    if len(items) < 2 or type(items[0]) is not Relation or items[0].operators != ("=",):
        return items
    return (items[0].sides[1], *items[1:])
