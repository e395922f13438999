"""What a problem asks an answer to look like, read from its text once: a form, a unit, a base, an interval.

An answer must have a form only if the reference has it. So a problem that merely speaks of factors, or is misread,
refuses nothing that looks like its reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from math import gcd
from string import ascii_letters

from verifiers.amounts import currencies_of
from verifiers.math500.asked.form_rules import (
    RULES,
    Rule,
    is_decimal_literal,
    is_expanded,
    layout,
)
from verifiers.math500.asked.question import (
    ASKING,
    BEFORE_FACTOR,
    FACTOR,
    INTERVALS,
    KIND_WORDS,
    NAMED_PHRASES,
    POINTS,
    WITHOUT_PERCENT,
    asks_for_order,
    base_in,
    dimension_in,
    nouns_in,
    units_in,
    words_of,
)
from verifiers.math500.compare.fold import folded, ordered, without_sign
from verifiers.math500.compare.meaning import meaning
from verifiers.math500.compare.naming import INVERSE_FUNCTIONS
from verifiers.math500.compare.regions import Region
from verifiers.math500.read import units
from verifiers.math500.read.lexer import Malformed, tokens_of
from verifiers.math500.read.reader import read, read_formula
from verifiers.math500.read.text import key as normal_text
from verifiers.math500.read.tree import Node, parts, rebuilt, symbols
from verifiers.math500.read.values import (
    Matrix,
    Name,
    Quantity,
    Relation,
    Value,
    expressions,
    inside,
    is_expression,
)

PROBLEMS_REMEMBERED = 4096
_SEPARATORS = ("\\\\", "\\le", "\\ge", "\\text", "=", "<", ">", ",", "&")
"""Signs at which a formula is cut if no grammar reads it as a whole."""


class Form:
    """What a problem asks for; each property is read from its text when a verdict first needs it."""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    @cached_property
    def lower(self) -> str:
        return " " + self.problem.lower()

    @cached_property
    def words(self) -> list[str]:
        return words_of(self.lower)

    @cached_property
    def asks(self) -> frozenset[str]:
        """The forms that it asks for: names in `NAMED_PHRASES`, and "ordered", "factored", "template", "percent"."""
        lower = self.lower
        asks = {name for phrase, name in NAMED_PHRASES if phrase in lower}
        if asks_for_order(lower):
            asks.add("ordered")
        if "factor" in lower and asks_to_factor(lower):
            asks.add("factored")
        if ("the form" in lower or "following form" in lower) and template_of(self.problem):
            asks.add("template")
        if "percent" in lower or "%" in lower:
            pairs = zip(("", *self.words), self.words, strict=False)
            if any(word.startswith(("percent", "%")) and not before[-1:].isdigit() for before, word in pairs):
                asks.add("percent")  # "what percent", "x%", not "15 percent"
        return frozenset(asks)

    @cached_property
    def asked_and_mentioned(self) -> tuple[set[str], set[str]]:
        """(the units that are asked for, all units of the problem)."""
        return units_in(self.words)

    @property
    def units(self) -> set[str]:
        """The units that are asked for."""
        return self.asked_and_mentioned[0]

    @cached_property
    def unit_letter(self) -> str:
        """The letter by which an answer may write the unit that is asked for, N for newtons; "" if there is none."""
        return next(filter(None, map(units.letter_of, sorted(self.units))), "")

    @property
    def mentioned(self) -> set[str]:
        """All units that stand in the problem, asked for or not."""
        return self.asked_and_mentioned[1]

    @cached_property
    def asked_formulas(self) -> dict[str, Value]:
        """{normal text of a formula that it asks for: the formula}."""
        return formulas_asked_for(self.problem)

    @cached_property
    def asked_keys(self) -> frozenset:
        """The `side_key` of each formula that it asks for."""
        return frozenset(map(side_key, self.asked_formulas.values()))

    @cached_property
    def dimension(self) -> int:
        """3 if it asks for a volume, 2 for an area, 1 for a length, else 0."""
        return dimension_in(self.words)

    @property
    def speaks_of_bases(self) -> bool:
        return "base" in self.lower or "hexadecimal" in self.lower

    @cached_property
    def base(self) -> str:
        """The base that it names, such as "8"; "" if it names none."""
        return base_in(self.words) if self.speaks_of_bases else ""

    @cached_property
    def nouns(self) -> frozenset[str]:
        """Words behind "which" and "what", among them what is asked for, such as "property"."""
        return frozenset(nouns_in(self.words))

    @cached_property
    def is_point(self) -> bool:
        """True if it asks for a point, so that (2, 5) is one."""
        return any(mark in self.lower for mark in POINTS)

    @cached_property
    def is_interval(self) -> bool:
        """True if it asks for an interval and for no point, so that (2, 5) is an interval."""
        return not self.is_point and any(mark in self.lower for mark in INTERVALS)

    def holds(self, answer: Value, gold: Value) -> bool:
        """True if the answer has every form that is asked for and that the reference has."""
        rules = [RULES[name] for name in self.asks if name in RULES]
        if any(has_form(rule, gold, gold) and not has_form(rule, answer, gold) for rule in rules):
            return False
        if "template" in self.asks:
            nodes_of_answer, wanted = (
                [folded(node) for node in expressions(value)] for value in (answer, gold)
            )
            template = template_of(self.problem)
            laid, own_laid = (sorted(map(layout, nodes)) for nodes in (wanted, nodes_of_answer))
            if sorted(template) == laid != own_laid and len(nodes_of_answer) == len(wanted):
                return False
        if "slope" in self.asks and type(gold) is type(answer) is Relation:
            solved = [side for side in gold.sides if is_expression(side) and side[0] == "sym"]
            return not solved or (solved[0] in answer.sides and is_expanded([*expressions(answer)], ()))
        return True

    def allows_unit(self, answer: Value, gold: Value, in_units: bool) -> bool:
        """True unless the unit of the answer contradicts the unit that is asked for, or the quantity: cm for an area.

        in_units: whether the answer is in "units", which measure a length.
        """
        unit = answer.unit if type(answer) is Quantity else ""
        if not (unit or in_units):
            return True
        wanted = gold.unit if type(gold) is Quantity else ""
        power = 1 if in_units else units.power_of(unit)
        if not wanted and power and self.dimension and power != self.dimension:
            return False
        both_known = units.is_known(unit) and units.is_known(wanted)
        if unit in ("", wanted) or (wanted and both_known and not units.conflict(unit, wanted)):
            return True
        if unit.startswith("degree "):
            unit = "degree"  # the comparison has judged the scale, such as Celsius
        if unit == "percent":
            return bool(wanted) or "percent" in self.asks or self.asks.isdisjoint(WITHOUT_PERCENT)
        name = unit.partition("^")[0]
        if units.is_money(unit) and (named := list(filter(units.is_money, self.units or self.mentioned))):
            return any(currencies_of(unit) & currencies_of(one) for one in named)
        if self.units and units.is_known(unit):
            first, _, second = unit.partition(" / ")
            question = self.problem.rstrip(" .?\n").rpartition(". ")[2]
            return unit in self.units or bool(
                second and first in {"", *self.units} and f"per {second}" in question
            )
        if not self.speaks_of(unit):
            return False
        alike = {one for one in self.mentioned if units.conversion(one, name)}
        return not alike or name in alike

    def speaks_of(self, unit: str) -> bool:
        """False if the problem has neither a unit nor a word of this unit's kind: for seconds, no "time" and no "hour".

        Any problem may speak of rates, and of kinds that `KIND_WORDS` lacks.
        """
        kind = units.kind_of(unit)
        if "/" in unit or kind not in KIND_WORDS or not self.words:
            return True
        return kind in map(units.kind_of, self.mentioned) or not KIND_WORDS[kind].isdisjoint(self.words)

    def has_letters(self, letters: frozenset[str] | set[str]) -> bool:
        """True if the problem has one of these letters, with any index: in a formula, or as a word by itself."""
        first, *commands = self.problem.split("\\")
        found = first + "".join(one.lstrip(ascii_letters) for one in commands)
        inside = "".join(formulas_of(found))
        alone = {word.strip(".,;:?!") for word in found.split()}
        bases = [letter.partition("_")[0] for letter in letters]
        return any(
            base in self.problem if base.startswith("\\") else base in inside or base in alone
            for base in bases
        )

    def asks_for(self, side: Value) -> bool:
        """True if the problem asks for this formula, in any layout: for y^3 + x^3 if it says "Find $x^3+y^3$."."""
        return side_key(side) in self.asked_keys

    def behind_asked(self, answer: str) -> str:
        """The text behind the equals sign of an answer that repeats the formula asked for; "" for any other answer.

        No grammar has to read that formula, which may be a sum with dots or an operation that the problem defines.
        """
        normal_answer = normal_text(answer)
        name = next((one for one in self.asked_formulas if normal_answer.startswith(f"{one}=")), None)
        return "" if name is None else answer.split("=", name.count("=") + 1)[-1]

    def asks_for_another(self, side: Value) -> bool:
        """True for f(4) if the problem asks for f(3) or f^{-1}(4)."""
        name = function_called(side)
        calls = name and any(function_called(formula) == name for formula in self.asked_formulas.values())
        return bool(calls) and side_key(side) not in self.asked_keys

    def states(self, value: Value, gold: Value, letters: frozenset[str]) -> bool:
        """True if the value is a formula of the problem, no bare number or name, and looks unlike the reference."""
        key = key_of(value)
        if key is None or key == key_of(gold):
            return False
        return key in formulas(self.problem, letters)


form_of = lru_cache(PROBLEMS_REMEMBERED)(Form)
NONE = form_of("")


def has_form(rule: Rule, value: Value, gold: Value) -> bool:
    """True if a value has the form of a rule, with the reference beside it."""
    return rule(*([folded(node) for node in expressions(side)] for side in (value, gold)))


def asks_to_factor(text: str) -> bool:
    """True for "Factor $x^2-1$."; false if a thing has a factor, or grows by a factor."""
    before = [text.partition(mark)[0].split() for mark in FACTOR if mark in text]
    return any(not words or words[-1][-1] in ".:;,?" or words[-1] in BEFORE_FACTOR for words in before)


# ---- its formulas ----


@lru_cache(PROBLEMS_REMEMBERED)
def template_of(problem: str) -> tuple[tuple[bool, ...], ...]:
    """The `layout` of each side of the formula behind "in the form"; () if there is no such formula."""
    pieces = plain_dollars(problem).split("$")
    for before, formula in zip(pieces[::2], pieces[1::2], strict=False):
        if before.rstrip(" :\n\"`'“").endswith(("the form", "following form")):
            value = meaning_of(formula.strip(" .,;\n"), None)
            if value is not None and (is_expression(value) or type(value) is Relation):
                return tuple(layout(folded(side)) for side in expressions(value))
    return ()


def plain_dollars(problem: str) -> str:
    """The problem with single dollars around all its formulas."""
    for mark in ("$$", "\\[", "\\]", "\\(", "\\)"):
        problem = problem.replace(mark, "$")
    return problem.replace("\\$", "")


def formulas_of(problem: str) -> list[str]:
    """The texts of the formulas of a problem."""
    return [formula.strip(" .,;\n") for formula in plain_dollars(problem).split("$")[1::2]]


@lru_cache(PROBLEMS_REMEMBERED)
def formulas(problem: str, letters: frozenset[str]) -> frozenset:
    """The `key_of` of each formula of a problem and of each part of it that has one."""
    found: set = set()
    for formula in formulas_of(problem):
        value = meaning_of(formula, letters)
        pieces = [formula]
        for separator in _SEPARATORS if value is None else ():
            pieces = [part for piece in pieces for part in piece.split(separator)]
        values = [value] if value is not None else [meaning_of(piece, letters) for piece in pieces]
        for one in filter(None, values):
            found.update(keys_in(one))
    return frozenset(found)


def meaning_of(formula: str, letters: frozenset[str] | None) -> Value | None:
    """The meaning of a formula; None if no grammar reads it."""
    try:
        return meaning(read(tokens_of(formula, letters), letters).value)
    except (Malformed, ArithmeticError, ValueError, RecursionError):
        return None


def keys_in(value: Value) -> Iterator[tuple]:
    """The `key_of` of a value and of the values in it, as far as they have one."""
    key = key_of(value)
    if key is not None:
        yield key
    for part in inside(value):
        yield from keys_in(part)


def key_of(value: Value) -> object:
    """What all layouts of a value have in common, 2.0 x and x 2; None for a number, reduced fraction, name or words."""
    if not is_expression(value):
        if type(value) is Quantity:
            return key_of(value.value)
        if type(value) is Relation and {"=", "mod"}.issuperset(value.operators):
            sides = [ordered(folded(whole(side))) if is_expression(side) else side for side in value.sides]
            return ("=", tuple(sorted(sides, key=repr))) if sum(map(is_long, sides)) else None
        return (value, value.is_written) if type(value) is Region else None
    node = folded(whole(value))
    literal = without_sign(node)[0]
    # A mixed number or a repeating decimal.
    is_mixed = literal[0] == "num" and not is_decimal_literal(literal)
    node = ordered(node)
    return node if is_mixed or is_long(node) else None


def whole(node: Node) -> Node:
    """An expression with its whole numbers written without a point: 2 for 2.0."""
    if node[0] == "num":
        return ("num", node[1] // node[2], 1) if node[1] % node[2] == 0 else node
    return rebuilt(node, map(whole, parts(node)))


def is_long(node: Value) -> bool:
    """True for x + 1 and 4/6, false for a number, a reduced fraction, a letter, and letters in a row."""
    if type(node) is Matrix:
        return True
    if not is_expression(node) or node[0] in ("sym", "const", "held", "pm"):
        return False
    if node[0] == "num":
        return False
    if node[0] == "*":
        inner = [part for part in node[1] if part != ("num", -1, 1)]
        return (len(inner) > 1 and not all(part[0] == "sym" for part in inner)) or any(map(is_long, inner))
    if node[0] == "/" and node[1][0] == node[2][0] == "num":
        return gcd(node[1][1], node[2][1]) > 1
    return True


def function_called(node: Value) -> Node | None:
    """The f of f(3) and of f^{-1}(3); None for a value that is no such call."""
    if not is_expression(node) or node[0] != "*" or len(node[1]) != 2:
        return None
    name, argument = node[1]
    if name in INVERSE_FUNCTIONS and not symbols(argument):
        return name[1]
    return name if name[0] == "sym" and argument[0] == "paren" else None


def side_key(side: Value) -> object:
    """What all layouts of one side of an equation have in common."""
    return ordered(folded(side)) if is_expression(side) else side


def formulas_asked_for(problem: str) -> dict[str, Value]:
    """{normal text: formula} of the formulas behind a phrase of `ASKING`: "Find $x + y$."."""
    pieces = plain_dollars(problem).split("$")
    found = (
        formula.strip(" .,;?~\n").rstrip("\\")
        for before, formula in zip(pieces[::2], pieces[1::2], strict=False)
        if before.lower().rstrip(" :\n").endswith(ASKING)
    )
    return {normal_text(formula): formula_or_name(formula) for formula in found}


def formula_or_name(formula: str) -> Value:
    """The meaning of a formula, or a name if no grammar reads it, as for the side of an equation."""
    try:
        return read_formula(tokens_of(formula, None))
    except Malformed:
        return Name(formula)
