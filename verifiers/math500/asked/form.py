"""What a problem asks an answer to look like, read from its text once: a form, a unit, a base, an interval.

An answer must have a form only if the reference has it, too. So no answer that looks like the reference is refused for
its form, even if a problem merely speaks of factors or is misread.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from math import gcd
from string import ascii_letters

from verifiers.amounts import currencies_of
from verifiers.math500.asked.finished import is_literal_fraction
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
    has_number_with_unit,
    nouns_in,
    units_in,
    words_of,
)
from verifiers.math500.compare.meaning import meaning
from verifiers.math500.compare.normal_form import folded, ordered, without_sign
from verifiers.math500.compare.regions import Region
from verifiers.math500.compare.value_names import INVERSE_FUNCTIONS
from verifiers.math500.read import units
from verifiers.math500.read.lexer import Malformed, tokens_of
from verifiers.math500.read.reader import read, read_formula
from verifiers.math500.read.text import key as normal_text
from verifiers.math500.read.tree import ATOMS, MINUS_ONE, Node, parts, rebuilt, symbols
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
from verifiers.math500.read.words import IS

PROBLEMS_REMEMBERED = 4096
CALCULUS = ("\\int", "\\ln", "natural log", "derivative", "differentia", "\\frac{d", "e^")
"""Signs and words by which a problem is one of calculus."""
OTHER_LOGARITHMS = ("\\log", "10^", "base", "decibel", " ph ")
"""Signs and words by which a logarithm of a problem may have base 10."""
_SEPARATORS = ("\\\\", "\\le", "\\ge", "\\text", "=", "<", ">", ",", "&")
"""Signs at which a formula is cut if no grammar reads it as a whole."""


class Form:
    """What a problem asks for; each property is read from its text when a verdict first needs it.

    The problem "" stands for one that is not known, which asks for nothing.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem

    @cached_property
    def lower(self) -> str:
        """The problem in lower case, with a space before it."""
        return " " + self.problem.lower()

    @cached_property
    def words(self) -> list[str]:
        """The words of the problem in lower case, as `words_of` gives them."""
        return words_of(self.lower)

    @cached_property
    def asks(self) -> frozenset[str]:
        """The forms that the problem asks for: of `NAMED_PHRASES`, or "ordered", "factored", "template", "percent"."""
        lower = self.lower
        asks = {name for phrase, name in NAMED_PHRASES if phrase in lower}
        if asks_for_order(lower):
            asks.add("ordered")
        if "factor" in lower and asks_to_factor(lower):
            asks.add("factored")
        if ("the form" in lower or "following form" in lower) and template_of(self.problem):
            asks.add("template")
        if "percent" in lower or "%" in lower:
            pairs = zip(("", *self.words), self.words, strict=False)  # each word with the word before it
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
        """{normal text of a formula whose value the problem asks for: the formula}."""
        return formulas_asked_for(self.problem)

    @cached_property
    def asked_keys(self) -> frozenset:
        """The `side_key` of each of `asked_formulas`."""
        return frozenset(map(side_key, self.asked_formulas.values()))

    @cached_property
    def dimension(self) -> int:
        """3 if the problem asks for a volume, 2 for an area, 1 for a length, else 0."""
        return dimension_in(self.words)

    @property
    def speaks_of_bases(self) -> bool:
        return "base" in self.lower or "hexadecimal" in self.lower

    @cached_property
    def base(self) -> str:
        """The base that the problem names, such as "8"; "" if it names none."""
        return base_in(self.words) if self.speaks_of_bases else ""

    @cached_property
    def nouns(self) -> frozenset[str]:
        """Words behind "which" and "what". One of them names what is asked for, as in "Which property is it?"."""
        return frozenset(nouns_in(self.words))

    @cached_property
    def has_natural_logs(self) -> bool:
        """True if a logarithm without a base is the natural one: the problem is of calculus, and names no other."""
        has_others = any(sign in self.lower for sign in OTHER_LOGARITHMS)
        return not has_others and any(sign in self.lower for sign in CALCULUS)

    @cached_property
    def is_point(self) -> bool:
        """True if the problem asks for a point, so that (2, 5) is a point."""
        return any(mark in self.lower for mark in POINTS)

    @cached_property
    def is_interval(self) -> bool:
        """True if the problem asks for an interval and for no point, so that (2, 5) is an interval."""
        return not self.is_point and any(mark in self.lower for mark in INTERVALS)

    def holds(self, answer: Value, gold: Value) -> bool:
        """True if the answer has every form that is asked for and that the reference has."""
        rules = [RULES[name] for name in self.asks if name in RULES]
        if any(has_form(rule, gold, gold) and not has_form(rule, answer, gold) for rule in rules):
            return False
        if "template" in self.asks and not self.keeps_template(answer, gold):
            return False
        if "slope" in self.asks and type(gold) is Relation and type(answer) is Relation:
            # If the reference is y = 2x + 1, the answer must also have y alone on a side, and nothing to multiply out.
            lone_variables = [side for side in gold.sides if is_expression(side) and side[0] == "sym"]
            if lone_variables:
                no_reference = ()  # `is_expanded` looks at the answer alone
                return lone_variables[0] in answer.sides and is_expanded([*expressions(answer)], no_reference)
        return True

    def keeps_template(self, answer: Value, gold: Value) -> bool:
        """False if the reference has the layout of the formula behind "in the form", and the answer another layout.

        An answer with more or fewer expressions than the reference is not judged.
        """
        of_answer, of_gold = layouts_of(answer), layouts_of(gold)
        if sorted(template_of(self.problem)) != of_gold or len(of_answer) != len(of_gold):
            return True
        return of_answer == of_gold

    def allows_unit(self, answer: Value, gold: Value, in_units: bool) -> bool:
        """True unless the unit of the answer contradicts the unit that is asked for, or the quantity: cm for an area.

        `in_units`: True if the answer is in "units", which measure a length.
        """
        unit = answer.unit if type(answer) is Quantity else ""
        if not unit and not in_units:
            return True
        wanted = gold.unit if type(gold) is Quantity else ""
        power = 1 if in_units else units.power_of(unit)
        has_wrong_power = power and self.dimension and power != self.dimension  # cm for an area
        if not wanted and has_wrong_power:
            return False
        both_known = units.is_known(unit) and units.is_known(wanted)
        is_same_unit = unit == wanted or (wanted and both_known and not units.conflict(unit, wanted))
        if not unit or is_same_unit:
            return True
        if unit.startswith("degree "):
            unit = "degree"  # the comparison has judged the scale, such as Celsius
        if unit == "percent":
            return bool(wanted) or "percent" in self.asks or self.asks.isdisjoint(WITHOUT_PERCENT)
        # The currencies among the units that are asked for or, if no unit is, among all that are mentioned.
        named = [other for other in self.units or self.mentioned if units.is_money(other)]
        if units.is_money(unit) and named:
            if any(currencies_of(unit) & currencies_of(currency) for currency in named):
                return True
            if self.units:
                return False
            # A problem that only mentions cents may ask for dollars.
            small_change = units.SMALL_CHANGE.intersection(named)
            return any(units.conversion(unit, currency) for currency in small_change)
        if self.units and units.is_known(unit):
            return unit in self.units or self.asks_for_rate(unit)
        if not self.speaks_of(unit):
            return False
        name = unit.partition("^")[0]
        same_kind = {other for other in self.mentioned if units.conversion(other, name)}
        # Beside cents alone, an answer in dollars is allowed. So is any unit if none of its kind is mentioned.
        only_small_change = same_kind <= units.SMALL_CHANGE
        return name in same_kind or only_small_change

    def asks_for_rate(self, unit: str) -> bool:
        """True for "mile / hour" and "/ hour" if the problem asks for miles and its last sentence has "per hour"."""
        above, _, below = unit.partition(" / ")
        _, _, question = self.problem.rstrip(" .?\n").rpartition(". ")
        return bool(below) and above in {"", *self.units} and f"per {below}" in question

    def speaks_of(self, unit: str) -> bool:
        """False if the problem has neither a unit nor a word of this unit's kind: for seconds, no "time" and no "hour".

        Any problem may speak of rates, and of kinds that `KIND_WORDS` lacks. A problem that is not known may speak of
        any unit.
        """
        kind = units.kind_of(unit)
        if "/" in unit or kind not in KIND_WORDS or not self.words:
            return True
        return kind in map(units.kind_of, self.mentioned) or not KIND_WORDS[kind].isdisjoint(self.words)

    def has_letters(self, letters: frozenset[str] | set[str]) -> bool:
        """True if the problem has one of these letters, with any index: in a formula, or as a word by itself."""
        in_formulas = "".join(formulas_of(self.without_commands))
        words = {word.strip(".,;:?!") for word in self.without_commands.split()}
        for letter in letters:
            without_index = letter.partition("_")[0]
            if without_index.startswith("\\"):
                found = without_index in self.problem
            else:
                found = without_index in in_formulas or without_index in words
            if found:
                return True
        return False

    @cached_property
    def without_commands(self) -> str:
        """The problem without the names of LaTeX's commands."""
        first, *pieces = self.problem.split("\\")
        return first + "".join(piece.lstrip(ascii_letters) for piece in pieces)

    def has_variable(self, letter: str) -> bool:
        """True if the problem has a letter, but not only as a unit behind a number (the V of 12 V) or as an article."""
        for formula in formulas_of(self.without_commands):
            if any(c == letter and not is_unit_at(formula, place) for place, c in enumerate(formula)):
                return True
        words = [word.strip(".,;:?!()$") for word in self.without_commands.split()]
        return any(
            word == letter and not ends_in_number(before) and not is_article(word, following)
            for before, word, following in zip(["", *words], words, [*words[1:], ""], strict=False)
        )

    @cached_property
    def has_quantity(self) -> bool:
        r"""True if the problem has a number with a unit: 12 volts, 2 kg, `20\text{ V}`."""
        return has_number_with_unit(words_of(self.without_commands.replace(",", " ")))

    def asks_for(self, side: Value) -> bool:
        """True if the problem asks for this formula, in any layout: for y^3 + x^3 if it says "Find $x^3+y^3$."."""
        return side_key(side) in self.asked_keys

    def text_behind_asked(self, answer: str) -> str:
        """The text behind the equals sign of an answer that repeats the formula asked for; "" for any other answer.

        No grammar has to read that formula, which may be a sum with dots or an operation that the problem defines.
        """
        normal_answer = normal_text(answer)
        asked = next((text for text in self.asked_formulas if normal_answer.startswith(f"{text}=")), None)
        if asked is None:
            return ""
        signs_to_pass = asked.count("=") + 1  # those in the formula itself, and the one behind it
        return answer.split("=", signs_to_pass)[-1]

    def asks_for_another(self, side: Value) -> bool:
        """True for f(4) if the problem asks for f(3) or f^{-1}(4)."""
        name = function_called(side)
        if not name or side_key(side) in self.asked_keys:
            return False
        return any(function_called(formula) == name for formula in self.asked_formulas.values())

    def states(self, value: Value, gold: Value, letters: frozenset[str]) -> bool:
        """True if the value is a formula of the problem, not a bare number or name, and looks unlike the reference.

        `letters`: the variables of the reference.
        """
        key = formula_key(value)
        if key is None or key == formula_key(gold):
            return False
        return key in formula_keys(self.problem, letters)


form_of = lru_cache(PROBLEMS_REMEMBERED)(Form)
NO_FORM = form_of("")


def has_form(rule: Rule, value: Value, gold: Value) -> bool:
    """True if a value has the form that a rule of `RULES` wants, which may depend on the reference."""
    return rule(folded_expressions(value), folded_expressions(gold))


def folded_expressions(value: Value) -> list[Node]:
    """All expressions of a value, each as `folded` gives it."""
    return [folded(node) for node in expressions(value)]


def layouts_of(value: Value) -> list[tuple[bool, ...]]:
    """The `layout` of each expression of a value, sorted."""
    return sorted(map(layout, folded_expressions(value)))


def asks_to_factor(text: str) -> bool:
    """True for "Factor $x^2-1$."; false if a thing has a factor, or grows by a factor."""
    for phrase in FACTOR:
        before, found, _ = text.partition(phrase)
        word_before = ["", *before.split()][-1]  # "" where the text begins
        begins_clause = word_before[-1:] in ("", *".:;,?")
        if found and (begins_clause or word_before in BEFORE_FACTOR):
            return True
    return False


# ---- formulas of a problem ----


@lru_cache(PROBLEMS_REMEMBERED)
def template_of(problem: str) -> tuple[tuple[bool, ...], ...]:
    """The `layout` of each side of the formula behind "in the form"; () if there is no such formula."""
    for before, formula in texts_and_formulas(problem):
        if before.rstrip(" :\n\"`'“").endswith(("the form", "following form")):
            value = meaning_of(formula.strip(" .,;\n"), letters=None)
            if value is not None and (is_expression(value) or type(value) is Relation):
                return tuple(layout(folded(side)) for side in expressions(value))
    return ()


def plain_dollars(problem: str) -> str:
    """The problem with single dollars around all its formulas."""
    for mark in ("$$", "\\[", "\\]", "\\(", "\\)"):
        problem = problem.replace(mark, "$")
    return problem.replace("\\$", "")


def is_unit_at(formula: str, place: int) -> bool:
    r"""True if a letter stands behind a number, with a space or a brace between them: the V of `12\text{ V}`."""
    before = formula[:place].rstrip(" ~{,;")
    return ends_in_number(before) and len(before) < place and not formula[place + 1 : place + 2].isalpha()


def ends_in_number(text: str) -> bool:
    r"""True for a text such as `1.6` and `1.6 \times 10^{-19}`."""
    return text[-1:].isdigit() or text.endswith("}")


def is_article(word: str, following: str) -> bool:
    """True for the article A of "A wire"; false for the name A of "A is"."""
    return word == "A" and following.islower() and following not in IS


def formulas_of(problem: str) -> list[str]:
    """The texts of the formulas of a problem."""
    return [formula.strip(" .,;\n") for _, formula in texts_and_formulas(problem)]


def texts_and_formulas(problem: str) -> list[tuple[str, str]]:
    """(the text before it, the formula) for each formula of a problem."""
    pieces = plain_dollars(problem).split("$")  # a text, a formula, a text, ...
    return list(zip(pieces[::2], pieces[1::2], strict=False))


@lru_cache(PROBLEMS_REMEMBERED)
def formula_keys(problem: str, letters: frozenset[str]) -> frozenset:
    """The `formula_key` of each formula of a problem, and of each part of it that has one."""
    found: set = set()
    for formula in formulas_of(problem):
        whole = meaning_of(formula, letters)
        values = [whole]
        if whole is None:
            pieces = [formula]
            for separator in _SEPARATORS:
                pieces = [part for piece in pieces for part in piece.split(separator)]
            values = [meaning_of(piece, letters) for piece in pieces]
        for value in filter(None, values):
            found.update(keys_in(value))
    return frozenset(found)


def meaning_of(formula: str, letters: frozenset[str] | None) -> Value | None:
    """The meaning of a formula; None if no grammar reads it. `letters`: the variables in it; None for all letters."""
    try:
        return meaning(read(tokens_of(formula, letters), letters).value)
    except (Malformed, ArithmeticError, ValueError, RecursionError):
        return None


def keys_in(value: Value) -> Iterator[tuple]:
    """The `formula_key` of a value and of the values in it, as far as they have one."""
    key = formula_key(value)
    if key is not None:
        yield key
    for part in inside(value):
        yield from keys_in(part)


def formula_key(value: Value) -> object:
    """What all layouts of a formula have in common: the same for 2.0 x and x 2.

    None for what is too short to be called a formula: a number, a reduced fraction, a name, words.
    """
    if not is_expression(value):
        if type(value) is Quantity:
            return formula_key(value.value)
        if type(value) is Relation and {"=", "mod"}.issuperset(value.operators):
            sides = [
                ordered(folded(without_needless_points(side))) if is_expression(side) else side
                for side in value.sides
            ]
            return ("=", tuple(sorted(sides, key=repr))) if any(map(is_long, sides)) else None
        # "x in (2, 5)" and 2 < x < 5 are the same region, but two formulas.
        return (value, value.is_written) if type(value) is Region else None
    node = folded(without_needless_points(value))
    unsigned, _ = without_sign(node)
    # Of numbers, only mixed numbers and repeating decimals count: 1 1/2, 0.333...
    is_more_than_digits = unsigned[0] == "num" and not is_decimal_literal(unsigned)
    key = ordered(node)
    return key if is_more_than_digits or is_long(key) else None


def without_needless_points(node: Node) -> Node:
    """An expression with its whole numbers written without a point: 2 for 2.0."""
    if node[0] == "num":
        _, n, d = node
        return ("num", n // d, 1) if n % d == 0 else node
    return rebuilt(node, map(without_needless_points, parts(node)))


def is_long(node: Value) -> bool:
    """True for x + 1 and 4/6, false for a number, a reduced fraction, a letter, and letters in a row."""
    if type(node) is Matrix:
        return True
    if not is_expression(node) or node[0] in ATOMS:
        return False
    if node[0] == "*":
        factors = [factor for factor in node[1] if factor != MINUS_ONE]
        are_letters = all(factor[0] == "sym" for factor in factors)
        return (len(factors) > 1 and not are_letters) or any(map(is_long, factors))
    if is_literal_fraction(node):
        return gcd(node[1][1], node[2][1]) > 1
    return True


def function_called(node: Value) -> Node | None:
    """The f of f(3) and of f^{-1}(3); None for a value that is no such call."""
    if not is_expression(node) or node[0] != "*" or len(node[1]) != 2:
        return None
    name, argument = node[1]
    if name in INVERSE_FUNCTIONS and not symbols(argument):
        return name[1]  # the f of f^{-1}
    return name if name[0] == "sym" and argument[0] == "paren" else None


def side_key(side: Value) -> object:
    """What all layouts of a side of an equation have in common; unlike `formula_key`, also for a number or a name."""
    return ordered(folded(side)) if is_expression(side) else side


def formulas_asked_for(problem: str) -> dict[str, Value]:
    """{normal text: formula} for the formulas behind a phrase of `ASKING`: "Find $x + y$."."""
    found = (
        formula.strip(" .,;?~\n").rstrip("\\")
        for before, formula in texts_and_formulas(problem)
        if before.lower().rstrip(" :\n").endswith(ASKING)
    )
    return {normal_text(formula): formula_or_name(formula) for formula in found}


def formula_or_name(formula: str) -> Value:
    """The formula as the reader gives it, or a `Name` of its text if no grammar reads it."""
    try:
        return read_formula(tokens_of(formula, variables=None))  # any letter may be a variable
    except Malformed:
        return Name(formula)
