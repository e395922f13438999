"""What a problem asks an answer to look like, read from its text once: a form, a unit, a base, an interval.

An answer must have a form only if the reference has it, too. So no answer that looks like the reference is refused for
its form, even if a problem merely speaks of factors or is misread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from math import gcd
from string import ascii_letters

from verifiers.math500.asked.finished import is_literal_fraction
from verifiers.math500.asked.form_rules import RULES, Rule, is_decimal_literal, is_expanded, layout
from verifiers.math500.compare.meaning import meaning
from verifiers.math500.compare.normal_form import folded, ordered, without_sign
from verifiers.math500.compare.regions import Region
from verifiers.math500.compare.same import quotient
from verifiers.math500.parser import read, read_formula
from verifiers.math500.tree import ATOMS, MINUS_ONE, Node, parts, rebuilt
from verifiers.math500.values import (
    Matrix,
    Name,
    Quantity,
    Relation,
    Value,
    expressions,
    inside,
    is_expression,
)
from verifiers.math500.words import NUMBER_WORDS
from verifiers.reading import markup, units
from verifiers.reading.amounts import SIGNS
from verifiers.reading.markup import SORTING, has_price
from verifiers.reading.markup import key as normal_text
from verifiers.reading.tokens import Malformed, tokens_of

PROBLEMS_REMEMBERED = 4096
# {form: the phrases of problems that ask for it, with | between them}. They are plain texts: $ begins a formula.
_PHRASES = {
    "expanded": "expand $|expand the|expand and|expand:|expand \\|expanded form|expanded poly|multiply out|"
    "as a polynomial",
    "factored": "factored form|factoriz|factoris|factor completely|factored completely|as a product of",
    "primes": "prime factor|product of prime",
    "simplified": "simplify|simplified|simplest",
    "ordered": "order from|in order of|from least|from smallest|from shortest|in increasing order|in ascending order|"
    "in decreasing order|in descending order|alphabetical|chronological|numerical order|reverse order|correct order|"
    "right order|backwards",
    "lowest": "lowest terms|simplest form|simplest fraction|reduced f|fully reduced|simplified fraction|reduce $|"
    "reduce the fraction",
    "common fraction": "common fraction",
    "fraction": "as a fraction in |lowest terms|fractional form|simplified fraction|simplest fraction|reduced fraction|"
    "reduce the fraction|proper or improper|improper fraction",
    "mixed": "mixed number|mixed fraction",
    "improper": "an improper fraction",
    "decimal": "as a decimal|to a decimal|terminating decimal|decimal form|decimal place|in decimal|nearest tenth|"
    "nearest hundredth|nearest thousandth|dollars and cents",
    "repeating": "repeating decimal",
    "parts": "partial fraction",
    "rational": "rationaliz|rationalis",
    "radical": "simplest radical|simplified radical|simplify the radical",
    "scientific": "scientific notation",
    "one fraction": "single fraction|one fraction",
    "slope": "slope-intercept|slope intercept|$y = mx|$y=mx",
    "power": "as a power|as a single power|power of a single|exponential notation|using exponents|in exponent form",
    "single": "single log|single trig|single term|single radical|single root",
}
_NAMED_PHRASES = [(phrase, name) for name, phrases in _PHRASES.items() for phrase in phrases.split("|")]
_FACTOR = ("factor $", "factor \\(", "factor the ", "factor over ", "factored as ", "factor:")
"""Phrases that ask to factor where they begin a sentence or follow a word of `_BEFORE_FACTOR`: "Factor $x^2-1$."."""
_BEFORE_FACTOR = ("to", "completely", "and", "then", "be", "please")
_POINTS = (
    "ordered pair,ordered triple,coordinates,(x\0y),(x\0 y),vector,the point,vertex,midpoint".replace(
        ",", "|"
    ).replace("\0", ",")
).split("|")
"""Phrases by which a problem asks for a point, so that (2, 5) is no interval."""
_INTERVALS = (
    "interval|domain|range|inequalit|all values of|all real values|solution set|values of $|satisf|for which|\\le|\\ge"
).split("|")
"""Phrases by which a problem asks for an interval, so that (2, 5) is no point."""
_ASKING = ("find", "value of", "values of", "compute", "evaluate", "determine", "calculate", "simplify", "expression",
    "what is")  # fmt: skip
"""Phrases right before the formula that is asked for: "Find $x + y$."."""
_WITHOUT_PERCENT = ("fraction", "common fraction", "decimal")
"""Notations that a problem asks for, in which an answer has no per cent sign."""
_KIND_WORDS = {
    "mm": frozenset(
        "perimeter circumference length lengths radius diameter height width distance area volume long longer far "
        "farther tall taller high higher deep deeper wide wider thick thickness depth dimension dimensions side sides "
        "edge edges hypotenuse segment square cube".split()
    ),
    "degree": frozenset(
        "circ angle angles arc rotation rotated triangle polygon parallel temperature asin acos atan arcsin "
        "arccos".split()
    ),
    "second": frozenset("time long old age when clock duration".split()),
    "cent": frozenset(
        "cost costs price prices pay pays paid earn earns earned money spend spends bill worth win profit salary wage "
        "savings save saves tax value charge fee income discount invoice".split()
    ),
}
"""{a unit, which stands for all of its kind: the words by which a problem speaks of such a quantity}."""
_KIND_WORDS["radian"] = _KIND_WORDS["degree"]
_SAME_KINDS = {"ounce": "g", "teaspoon": "l"}
"""{a unit, which stands for its kind: the one that stands for the same quantity in metric units}."""
_PLURAL = {
    *"feet cm mm nm km ft mph kg fahrenheit".split(),
    *(word for word in units.UNITS if word.endswith("s") and len(word) > 2),
}
"""Names of units as a problem asks for them, in the plural or short: "how many feet", "in cm"."""
_NO_UNIT = frozenset("percents percent percentage in second us".split())
"""Names of units that mostly mean something else in a problem: "in" is inch only in "5 in"."""
_POWERS = {"area": "2", "volume": "3"}
"""{a measure: the power of its unit}; other measures are lengths."""
_CALCULUS = ("\\int", "\\ln", "natural log", "derivative", "differentia", "\\frac{d", "e^")
"""Signs and words by which a problem is one of calculus."""
_OTHER_LOGARITHMS = ("\\log", "10^", "base", "decibel", " ph ")
"""Signs and words by which a logarithm of a problem may have base 10."""
_SEPARATORS = ("\\\\", "\\le", "\\ge", "\\text", "=", "<", ">", ",", "&")
"""Signs at which a formula is cut if no grammar reads it as a whole."""
# {character: the text in its place}: marks of mathematics are left out, and marks of a sentence become words.
_MARKS = str.maketrans(
    {"°": " degrees ", **dict.fromkeys("$\\{}()~*", " "), **{mark: f" {mark} " for mark in ".,?;:-"}}
)


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
        """The words of the problem in lower case, without marks of mathematics; each mark of a sentence is a word."""
        return self.lower.translate(_MARKS).split()

    @cached_property
    def asks(self) -> frozenset[str]:
        """The forms that the problem asks for: keys of `_PHRASES`, "template" and "percent"."""
        lower = self.lower
        asks = {name for phrase, name in _NAMED_PHRASES if phrase in lower}
        if "factor" in lower and asks_to_factor(lower):
            asks.add("factored")
        if ("the form" in lower or "following form" in lower) and template_of(self.problem):
            asks.add("template")
        if asks_for_order(lower):
            asks.add("ordered")
        if markup.COPRIME.search(lower):
            asks.add("coprime")
        pairs = zip(("", *self.words), self.words, strict=False)  # each word with the word before it
        if any(word.startswith(("percent", "%")) and not before[-1:].isdigit() for before, word in pairs):
            asks.add("percent")  # "what percent", "x%", not "15 percent"
        return frozenset(asks)

    @cached_property
    def units(self) -> set[str]:
        """The units that are asked for: feet in "how many feet" and "in feet"."""
        found = set()
        for k, word in enumerate(self.words):
            if word in ("in", "to"):
                found.add(unit_at(self.words[k + 1 : k + 4], skip=0))
            elif word == "many" and self.words[k - 1] == "how":
                found.add(unit_at(self.words[k + 1 : k + 6], skip=2))
        for name in markup.CONVERSION.findall(self.without_commands):  # also a symbol: "Convert 5 km to m."
            words = name.replace("/", " / ").split()
            if all(word in units.SYMBOLS or word.lower() in units.UNITS for word in words):
                found.add(units.canonical_unit(words) or "")
        return found - {""}

    @cached_property
    def mentioned(self) -> set[str]:
        """All units that the problem names, asked for or not: mile and hour in "60 mph", euro in "€5"."""
        words = [word for word in markup.NAMED.findall(self.without_commands) if word.lower() not in _NO_UNIT]
        names = " / ".join(units.SYMBOLS.get(word) or units.UNITS.get(word.lower(), "") for word in words)
        found = {name.partition("^")[0] for name in names.split(" / ")} - {""}
        found |= {unit for sign, unit in SIGNS.items() if sign in self.problem and unit != "dollar"}
        found |= {units.SYMBOLS[letter] for letter in markup.SCALE_LETTER.findall(self.problem)}
        if "°" in self.problem:
            found.add("degree")
        if "old" in self.words:
            found.add("year")
        if found & units.TEMPERATURES - {"degree"}:
            found.discard("degree")  # it is one of the scale that is named
        return found | {"dollar"} if has_price(self.problem) else found

    @cached_property
    def power(self) -> str:
        """The power of the unit of length that the problem asks for last: "2" for an area; "" if this is not told."""
        for sentence in reversed(" ".join(self.words).replace(" ? ", " . ").split(" . ")):
            if named := markup.MEASURE.findall(sentence):
                asked = markup.ASKED_MEASURE.findall(sentence)
                is_told = asked and asked[-1] == named[-1] and "squared" not in sentence
                return _POWERS.get(asked[-1], "1") if is_told else ""
        return ""

    @cached_property
    def asked_formulas(self) -> dict[str, Value]:
        """{normal text of a formula whose value the problem asks for: the formula}: "Find $x + y$."."""
        found = (
            formula.strip(" .,;?~\n").rstrip("\\")
            for before, formula in texts_and_formulas(self.problem)
            if before.lower().rstrip(" :\n").endswith(_ASKING)
        )
        return {normal_text(formula): formula_or_name(formula) for formula in found}

    @cached_property
    def asked_keys(self) -> frozenset:
        """The `side_key` of each of `asked_formulas`."""
        return frozenset(map(side_key, self.asked_formulas.values()))

    @cached_property
    def base(self) -> str:
        """The base that the problem names last: "8" for "in base 8" and "in base eight"; "" if it names none."""
        following = [
            word for before, word in zip(self.words, self.words[1:], strict=False) if before == "base"
        ]
        numbers = [str(NUMBER_WORDS.get(word, word)) for word in following]
        return next(filter(str.isdigit, reversed(numbers)), "")

    @cached_property
    def nouns(self) -> frozenset[str]:
        """Words behind "which" and "what". One of them names what is asked for, as in "Which property is it?"."""
        words = self.words
        return frozenset(
            noun for k, word in enumerate(words) if word in ("which", "what") for noun in words[k + 1 : k + 6]
        )

    @cached_property
    def has_natural_logs(self) -> bool:
        """True if a logarithm without a base is the natural one: the problem is of calculus, and names no other."""
        has_others = any(sign in self.lower for sign in _OTHER_LOGARITHMS)
        return not has_others and any(sign in self.lower for sign in _CALCULUS)

    @cached_property
    def is_interval(self) -> bool:
        """True if the problem asks for an interval and for no point, so that (2, 5) is an interval."""
        is_point = any(mark in self.lower for mark in _POINTS)
        return not is_point and any(mark in self.lower for mark in _INTERVALS)

    def holds(self, answer: Value, gold: Value) -> bool:
        """True if the answer has every form that is asked for and that the reference has."""
        rules = [RULES[name] for name in self.asks if name in RULES]
        if any(has_form(rule, gold, gold) and not has_form(rule, answer, gold) for rule in rules):
            return False
        if "template" in self.asks:
            # The layout of the formula behind "in the form", for an answer of as many expressions as the reference.
            of_answer, of_gold = layouts_of(answer), layouts_of(gold)
            if (
                sorted(template_of(self.problem)) == of_gold
                and len(of_answer) == len(of_gold)
                and of_answer != of_gold
            ):
                return False
        if "slope" in self.asks and type(gold) is Relation and type(answer) is Relation:
            # If the reference is y = 2x + 1, the answer must also have y alone on a side, and nothing to multiply out.
            alone = [side for side in gold.sides if is_expression(side) and side[0] == "sym"]
            return not alone or (alone[0] in answer.sides and is_expanded([*expressions(answer)], ()))
        return True

    def allows_unit(self, answer: Value, gold: Value) -> bool:
        """True for a unit that the problem asks for or, if it asks for none, for one that it names.

        If it names none of this kind, a word such as "price" or "area" allows any.
        """
        unit = answer.unit if type(answer) is Quantity else ""
        wanted = gold.unit if type(gold) is Quantity else ""
        if not unit or unit == wanted or (wanted and not units.conflict(unit, wanted)):
            return True
        if unit == "percent":
            return bool(wanted) or "percent" in self.asks or self.asks.isdisjoint(_WITHOUT_PERCENT)
        if self.units and units.is_known(unit):
            above, _, below = unit.partition(" / ")
            _, _, question = self.problem.rstrip(" .?\n").rpartition(". ")
            is_rate = bool(below) and above in {"", *self.units} and f"per {below}" in question
            return is_rate or any(is_one_unit(unit, asked) for asked in self.units)
        name, _, power = unit.partition("^")
        if name == "pound" and "sterling" in self.mentioned:
            name = "sterling"  # no weight
        kind = kind_of(name)
        if not self.words or "/" in unit:
            return True  # any problem may speak of rates
        if kind == "mm" and self.power not in ("", power or "1"):
            return False  # cm for an area
        same_kind = {other for other in self.mentioned if kind_of(other) == kind}
        if not same_kind and kind == "second" and len(markup.TIME_OF_DAY.findall(self.problem)) > 1:
            # 105 minutes from 2:15 to 4:00, and not 105 hours.
            is_above_day = is_expression(gold) and gold[0] == "num" and gold[1] > 24 * gold[2]
            return name == "minute" or (name == "hour" and not is_above_day)
        if not same_kind:
            return kind not in _KIND_WORDS or not _KIND_WORDS[kind].isdisjoint(self.words)
        # The answer's unit must be one of those of its kind in the problem; beside cents alone it may be dollars.
        small_change = same_kind <= units.SMALL_CHANGE and any(
            units.conversion(name, other) for other in same_kind
        )
        return small_change or any(is_one_unit(name, other) for other in same_kind)

    def has_letters(self, letters: frozenset[str] | set[str]) -> bool:
        """True if the problem has one of these letters, with any index: in a formula, or as a word by itself."""
        in_formulas = "".join(formulas_of(self.without_commands))
        words = {word.strip(".,;:?!") for word in self.without_commands.split()}
        names = [letter.partition("_")[0] for letter in letters]
        return any(
            name in self.problem if name.startswith("\\") else name in in_formulas or name in words
            for name in names
        )

    def has_points(self, letters: frozenset[str]) -> bool:
        """True if the problem has one of these letters, or all of them in a name of points such as ABC."""
        points = (
            set(word.strip(".,;:?!()$")) for word in self.problem.split() if word.strip(".,;:?!()$").isupper()
        )
        return self.has_letters(letters) or any(letters <= name for name in points)

    @cached_property
    def without_commands(self) -> str:
        """The problem without the names of LaTeX's commands."""
        first, *pieces = self.problem.split("\\")
        return first + "".join(piece.lstrip(ascii_letters) for piece in pieces)

    def asks_for(self, side: Value) -> bool:
        """True if the problem asks for this formula, in any layout: for y^3 + x^3 if it says "Find $x^3+y^3$."."""
        return side_key(side) in self.asked_keys

    def text_behind_asked(self, answer: str) -> str:
        """The text behind the equals sign of an answer that repeats the formula asked for; "" for any other answer.

        No grammar has to read that formula, which may be a sum with dots or an operation that the problem defines.
        """
        normal_answer = normal_text(answer)
        asked = next((text for text in self.asked_formulas if normal_answer.startswith(f"{text}=")), None)
        return "" if asked is None else answer.split("=", asked.count("=") + 1)[-1]

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


def kind_of(unit: str) -> str:
    """`units.kind_of`, with one kind for all money, for all weights and for all volumes: "g" for pounds."""
    kind = "cent" if units.is_money(unit) else units.kind_of(unit)
    return _SAME_KINDS.get(kind, kind)


def is_one_unit(unit: str, other: str) -> bool:
    """True for the same unit, and for $ and USD, degrees and degrees celsius."""
    return unit == other or not (units.conflict(unit, other) or not units.is_known(other))


def unit_at(words: Sequence[str], skip: int) -> str:
    """The first unit among some words, with at most `skip` other words before it: "foot^2" for "square feet"."""
    for k in range(min(skip + 1, len(words))):
        at = k + 1 if words[k] in units.POWERS and k + 1 < len(words) else k  # "square"
        if words[at] in _PLURAL and words[at] not in _NO_UNIT:
            scale = words[at + 1] if words[at] == "degrees" and at + 1 < len(words) else ""
            if scale.upper() in units.DEGREE_LETTERS or scale in units.DEGREE_LETTERS.values():
                return units.canonical_unit(["degrees", scale.upper()[:1]]) or ""
            return units.canonical_unit(words[k : at + 1]) or ""
    return ""


def has_form(rule: Rule, value: Value, gold: Value) -> bool:
    """True if a value has the form that a rule of `RULES` wants, which may depend on the reference."""
    return rule(folded_expressions(value), folded_expressions(gold))


def folded_expressions(value: Value) -> list[Node]:
    """All expressions of a value, each as `folded` gives it."""
    value = quotient(value)  # 24:18 is in lowest terms if 24/18 is
    return [folded(node) for node in expressions(value)]


def layouts_of(value: Value) -> list[tuple[bool, ...]]:
    """The `layout` of each expression of a value, sorted."""
    return sorted(map(layout, folded_expressions(value)))


def asks_for_order(lower: str) -> bool:
    """True for a problem that sorts a list, "Please sort 3, 1, 2.", or what it finds, "and sort them", or that asks for
    what comes next, "the next three terms". lower: its text in lower case."""
    return "any order" not in lower and SORTING.search(lower) is not None


def asks_to_factor(text: str) -> bool:
    """True for "Factor $x^2-1$."; false if a thing has a factor, or grows by a factor."""
    for phrase in _FACTOR:
        before, found, _ = text.partition(phrase)
        word_before = ["", *before.split()][-1]  # "" where the text begins
        begins_clause = word_before[-1:] in ("", *".:;,?")
        if found and (begins_clause or word_before in _BEFORE_FACTOR):
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


def side_key(side: Value) -> object:
    """What all layouts of a side of an equation have in common; unlike `formula_key`, also for a number or a name."""
    return ordered(folded(side)) if is_expression(side) else side


def formula_or_name(formula: str) -> Value:
    """The formula as the reader gives it, or a `Name` of its text if no grammar reads it."""
    try:
        return read_formula(tokens_of(formula, variables=None))  # any letter may be a variable
    except Malformed:
        return Name(formula)
