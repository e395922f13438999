"""Compares an equation with a value, by the value that its chain of sides gives, and an equation with an equation.

For answers such as `m + n = 20 + 16 = 36` for 36, and `2x - y + 1 = 0` for `y = 2x + 1`.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.math500 import tree
from verifiers.math500.compare.normal_form import negative
from verifiers.math500.compare.probe import NO, YES, compare
from verifiers.math500.compare.regions import is_less
from verifiers.math500.compare.value_names import EULER, is_multiple, is_name, named_value, names_value
from verifiers.math500.tree import INFINITIES, MINUS_ONE, Node, substituted, symbols
from verifiers.math500.values import (
    Based,
    Relation,
    Row,
    Value,
    Words,
    expressions,
    is_expression,
)
from verifiers.reading.problem import Problem
from verifiers.verdicts import PROBE, RATIONAL, TYPED


class Chains:
    """Compares one answer with one reference: expressions and equations.

    Its subclass `Comparison` adds the other kinds of values, and has the methods `same` (two values of any kind) and
    `in_order` (two lists), which are called here.
    """

    rational = True  # False once anything but exact rational numbers has decided
    structured = False  # True once an equation, a list or another value that is no expression was compared

    def __init__(self, length: int, strict: bool, problem: Problem) -> None:
        """`length`: characters of both texts."""
        self.length, self.strict, self.problem = length, strict, problem
        self.sides: list[Value] = []  # the sides that give a value: 20 + 16 and 36 of m + n = 20 + 16 = 36

    @property
    def tier(self) -> int:
        """How the verdict was found: `TYPED`, `RATIONAL` or `PROBE`."""
        if self.structured:
            return TYPED
        return RATIONAL if self.rational else PROBE

    def same_expression(self, answer: Node, gold: Node) -> int:
        """Compares two expressions. In strict mode their forms must agree, too."""
        if answer == gold and tree.holds_container(gold):
            return YES  # P(10, 3)
        if answer in INFINITIES or gold in INFINITIES:
            self.rational = False
            return YES if answer == gold else NO
        if self.strict and not tree.keeps_form(answer, gold):
            return NO
        verdict, rational = compare(answer, gold, self.length)
        self.rational &= rational
        return verdict

    # ---- a value behind its name ----

    def same_relation(self, answer: Value, gold: Value) -> int:
        """Compares two values, at least one of which is an equation or another relation."""
        self.structured = True
        if type(answer) is Relation and type(gold) is Relation:
            return self.same_relations(answer, gold)
        if type(answer) is Relation:
            value = self.value_of_chain(answer, gold)
            return NO if value is None else self.same(value, gold)
        value = named_value(gold)
        # 5 is right for x = 5. For y = 2x + 3, 2x + 3 is right unless strict.
        may_lack_name = value is not None and not (self.strict and any(map(symbols, expressions(value))))
        return self.same(answer, value) if may_lack_name else NO

    def value_of_chain(self, answer: Relation, gold: Value) -> Value | None:
        """The value that `a = b = c` gives, where the reference is a value: the last side that is no name.

        None if the sides that are no names differ, or if the equation still has to be solved.
        """
        operators, sides = answer.operators, answer.sides
        if operators == ("in",) and type(sides[0]) in (tuple, Row) and is_name(sides[0]):
            return None if is_expression(sides[1]) else sides[1]  # x in (2, 5)
        if operators[-1] == "mod":
            return sides[-1]  # 7^2 = 1 (mod 12)
        if operators[-1] == "approx" and not self.strict and may_be_rounded(*sides[-2:]):
            operators, sides = operators[:-1], sides[:-1]  # the exact value stands before its approximation
        if any(operator != "=" for operator in operators):
            return None
        are_names = self.names_among(sides, gold)
        letters = [("sym", name) for name in symbols(gold)] if is_expression(gold) else []
        if any(side in letters for side in sides[:-1]):
            return None  # x = (x - 1)/2 gives no value
        values = [side for side, is_a_name in zip(sides, are_names, strict=True) if not is_a_name]
        values = values or [sides[-1]]
        lenient_comparison = type(self)(self.length, strict=False, problem=self.problem)
        last = values[-1]
        for value in values[:-1]:
            # Each of the two is tried as the answer, and then both in base ten: 345_6 = 137.
            pairs = (value, last), (last, value), (in_decimal(value), in_decimal(last))
            if all(lenient_comparison.same(*pair) == NO for pair in pairs):
                return None
        self.sides += values
        return last

    def names_among(self, sides: Sequence[Value], gold: Value) -> list[bool]:
        """For each side, True if it is a name of the value and no value itself: the m + n of m + n = 36."""
        first, last = sides[0], sides[-1]
        are_names = [names_value(side, gold) for side in sides]
        are_names[-1] = is_expression(last) and is_name(last) and last != gold  # 5 = x
        letters = [symbols(side) if is_expression(side) else frozenset() for side in sides]
        if is_expression(first):
            are_names[0] |= self.stands_for_value(first, gold)
        if are_names[0] and not letters[-1]:
            # A = \pi r h = 24: a side with other letters, between a name and a number, is a formula and no value.
            for k in range(1, len(sides) - 1):
                is_formula = bool(letters[k]) and letters[k].isdisjoint(letters[0])
                # x = 2y = 24 is an equation if the problem has y.
                are_names[k] |= is_formula and (
                    type(first) is Words or not self.problem.has_letters(letters[k])
                )
        if not is_expression(first):
            return are_names
        if are_names[0] and first[0] in ("+", "*", "^", "/"):
            # r^2 + s^2 = (r + s)^2 - 2rs = 19: a side in the letters of the name is a name, too.
            for k in range(1, len(sides) - 1):
                are_names[k] |= bool(letters[k]) and letters[k] <= letters[0]
        return are_names

    def stands_for_value(self, first: Node, gold: Value) -> bool:
        """True if a first side stands for the value, although it has a number or is a constant.

        2c of 2c = 10, if the problem has no c; log_6 45 of log_6 45 = a + b; e of e = 1/2, an eccentricity.
        """
        letters = symbols(first)
        if self.problem.text and is_multiple(first) and not self.problem.has_letters(letters):
            return True
        if not is_expression(gold):
            return False
        if first[0] == "fn" and not letters and symbols(gold):
            return True
        return first == EULER and "e" not in tree.leaves(gold, "const")

    # ---- two equations ----

    def same_relations(self, answer: Relation, gold: Relation) -> int:
        """Compares two relations: x = 2 + 2 = 4 and x = 4 are the same, and 2y = 4x and y = 2x unless strict."""
        value = named_value(gold)
        if value is not None and len(answer.sides) > 2 and answer.sides[0] == gold.sides[0]:
            if {"=", "approx"}.issuperset(answer.operators):
                rest = Relation(answer.operators[1:], answer.sides[1:])
                last = self.value_of_chain(rest, value)  # x = 2 + 2 = 4
                return NO if last is None else self.same(last, value)
        if answer.operators != gold.operators:
            return NO
        if self.in_order(answer.sides, gold.sides) == YES:
            return YES
        if answer.operators == ("=",) and self.in_order(answer.sides[::-1], gold.sides) == YES:
            return YES
        gives_number = value is not None and not (is_expression(value) and symbols(value))
        if gives_number:
            return NO  # the reference is x = 5, so the unsolved 2x = 10 is no answer
        are_expressions = all(map(is_expression, answer.sides + gold.sides))
        if self.strict or answer.operators != ("=",) or not are_expressions:
            return NO
        return self.proportional(difference(answer), difference(gold))

    def proportional(self, a: Node, g: Node) -> int:
        """YES if a = c * g for a constant c that is not 0, so that the equations a = 0 and g = 0 say the same.

        With a' and g', the values at a point, a * g' = g * a' is compared everywhere.
        """
        point = sample_point(symbols(g))
        a_there, g_there = substituted(a, point), substituted(g, point)
        verdict, _ = compare(("*", (a, g_there)), ("*", (g, a_there)), self.length)
        are_nonzero = all(compare(value, tree.ZERO, self.length)[0] == NO for value in (g_there, a_there))
        return verdict if are_nonzero else NO


def difference(relation: Relation) -> Node:
    """The left side of an equation minus its right side."""
    left, right = relation.sides
    return ("+", (left, ("*", (MINUS_ONE, right))))


def sample_point(names: frozenset[str]) -> dict[Node, Node]:
    """{variable: a rational number of its own}: always the same point for the same names."""
    return {("sym", name): ("num", 1009 + 89 * k * k + 7 * k, 113) for k, name in enumerate(sorted(names))}


def may_be_rounded(exact: Value, last: Value) -> bool:
    r"""False if the last side of a chain is not the exact side, rounded up or down to its digits: 3.15 for \pi.

    True if this cannot be told, because a side is no expression, or the last one no number.
    """
    if not (is_expression(exact) and is_expression(last) and last[0] == "num") or symbols(exact):
        return True
    # A little more than half a unit of the last place, because `is_less` proves nothing of equal numbers.
    half = ("num", 501, 1000 * last[2])
    error = ("+", (exact, negative(last)))
    return is_less(error, half) and is_less(negative(error), half)


def in_decimal(value: Value) -> Value:
    """A number with a base in base ten: 137 for 345_6; any other value as it is."""
    try:
        return ("num", int(value.digits, int(value.base)), 1) if type(value) is Based else value
    except ValueError:  # the digits are none of that base
        return value
