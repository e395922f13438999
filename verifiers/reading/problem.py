"""What the text of a problem says of its answer: formulas, letters, units, a base, an order and a form.

Each property is read when a verdict first needs it. The problem "" stands for one that is not known, and asks for
nothing.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cached_property, lru_cache
from string import ascii_letters

from verifiers.reading import markup, units
from verifiers.reading.amounts import SIGNS
from verifiers.reading.words import NUMERALS

PROBLEMS_REMEMBERED = 4096
_FORMS = {  # {form: what asks for it}
    "lowest": re.compile(r"lowest terms|(?:simplest|simplified|fully reduced|reduced) f|reduce (?:\$|the fraction)"),
    "simplified": re.compile("simplify|simplified|simplest"),
    "fraction": re.compile(r"as a fraction in |lowest terms|fractional form|improper fraction|reduce the fraction"
                           r"|(?:simplified|simplest|reduced) fraction"),
    "decimal": re.compile(r"(?:as|to|in) (?:a )?decimal|terminating decimal|decimal (?:form|place)|dollars and cents"
                          r"|nearest (?:ten|hundred|thousand)th"),
    "expanded": re.compile(r"\bexpand:? (?:\$|\\|the |and |this )|\bexpanded (?:form|poly)|\bmultiply out\b"),
    "factored": re.compile(r"\bfactor(?:i[sz]e)?:? (?:\$|\\|the |this |out |completely|over )|\bfactored form\b"),
    "parts": re.compile("partial fraction"),
}  # fmt: skip
_ASKING = ("find", "value of", "values of", "compute", "evaluate", "determine", "calculate", "simplify", "expression",
    "what is")  # fmt: skip
"""What stands right before the formula that is asked for: "Find $x + y$."."""
_SORTED = re.compile(
    r"(?:\A|[.?!:;\n])\s{0,9}+(?:(?:please|now|then|first)\s)?+(?:sort|rank|arrange|order|reverse)\b(?!:?\s(?:the\s)?(?:\w++\s)?"
    r"(?:of|equations?|expressions?|polynomial|matrix|digits|letters)\b)"
    r"|(?:and|then)\s(?:sort|rank|arrange|order|reverse)\s(?:the|these|those|them|it|all)\b|\bbackwards\b"
    r"|order from|in order of|from (?:least|smallest|shortest)|\b(?:in|de)creasing order|scending order|alphabetical"
    r"|chronological|numerical order|(?:reverse|correct|right) order"
    r"|\bnext\s(?:few|two|three|four|five|\d++)\s(?:terms|numbers|letters|elements|values)\b|\w{2}est,? first\b"
)
"""What asks for things in an order: "Sort 3, 1, 2", "in increasing order", "the next three terms"."""
_LISTED = re.compile(r"separated? (?:them )?(?:by|with) commas?|commas?[- ]separated|with commas? between")
_CALCULUS = ("\\int", "\\ln", "natural log", "derivative", "differentia", "\\frac{d", "e^")
"""Signs and words by which a problem is one of calculus."""
_OTHER_LOGARITHMS = ("\\log", "10^", "base", "decibel", " ph ")
"""Signs and words by which a logarithm of a problem may have base 10."""
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
_NUMBERS = re.compile(
    r"(?:\\[dt]?frac\{)?+(\d{1,40}+)(?:\}\{|/)(\d{1,40}+)\}?+|(\d{1,40}+(?:,\d{3})*+(?:\.\d{1,40}+)?+)"
)
_BASE = re.compile(r"\bbase[ $~-]{1,3}(\w++)")
_ASKED_UNIT = re.compile(r"\b(?:in|to|how many) ")
"""What stands before the unit that is asked for: "how many feet", "in square feet"."""
_PLURALS = {
    *"feet cm mm nm km ft mph kg fahrenheit".split(),
    *(
        word
        for word in units.UNITS
        if word.endswith("s") and len(word) > 2 and word not in ("percents", "us")
    ),
}
"""Names of units as a problem asks for them, in the plural or short."""
_CONVERSION = re.compile(
    r"\b(?:convert|express)\b[^?!\n]{0,80}?\b(?:in)?to\s([A-Za-z]++(?:/[A-Za-z]++)?+)(?=[.?!,]|\s*+\Z|\s(?:at|using)\b)",
    re.IGNORECASE,
)
"""The unit of "Convert 5 km to m."."""
_NAMED_UNIT = re.compile(r"[A-Za-z]{2,}+|(?<=\d[ ~{$])[mshglL]\b(?!&)|(?<=m/)[hs]\b")
"""A word that may be a unit, the kg of 70kg, or a letter that is one by its place: 3 m, the h of km/h."""
_NO_UNIT = frozenset("percents percent percentage in second us".split())
"""Names of units that mostly mean something else in a problem: "in" is inch only in "5 in"."""
_PRICE = re.compile(r"\\\$|\$\.?\d[\d,.]*+(?:\s++[A-Za-z]{2}|/[a-z]{3}|[?!]|\s*+\Z)")
"""An amount of dollars, `\\$5` or "$4.50 and"; a formula such as `$5$` is none."""


class Problem:
    """The text of a problem, and what it says."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def lower(self) -> str:
        return self.text.lower()

    @cached_property
    def formulas(self) -> list[tuple[str, str]]:
        """(the text before it, the formula) for each formula."""
        text = self.text
        for mark in ("$$", "\\[", "\\]", "\\(", "\\)"):
            text = text.replace(mark, "$")
        pieces = text.replace("\\$", "").split("$")  # a text, a formula, a text, ...
        return [
            (before, formula.strip(" .,;\n"))
            for before, formula in zip(pieces[::2], pieces[1::2], strict=False)
        ]

    @cached_property
    def is_interval(self) -> bool:
        """True if an interval is asked for and no point, so that its ends alone, 2, 5, are not (2, 5)."""
        is_point = any(mark in self.lower for mark in _POINTS)
        return not is_point and any(mark in self.lower for mark in _INTERVALS)

    @cached_property
    def numbers(self) -> frozenset[tuple[int, int]]:
        """(numerator, denominator), in lowest terms, of each number and fraction of whole numbers in the text."""
        found: set[tuple[int, int]] = set()
        for above, below, number in _NUMBERS.findall(self.text.replace("{,}", ",")):
            value = Fraction(int(above), int(below) or 1) if above else Fraction(number.replace(",", ""))
            found.add((value.numerator, value.denominator))
        return frozenset(found)

    @cached_property
    def asked_formulas(self) -> list[str]:
        """The normal texts of the formulas whose value is asked for, such as "x+y" for "Find $x + y$."."""
        return [
            without_braces(formula.strip(" .,;?~\n").rstrip("\\"))
            for before, formula in self.formulas
            if before.lower().rstrip(" :\n").endswith(_ASKING)
        ]

    def text_behind_asked(self, answer: str) -> str:
        """The text behind the equals sign of an answer that repeats the formula asked for; "" for any other answer.

        No grammar has to read that formula, which may be a sum with dots or an operation that the problem defines.
        """
        normal = without_braces(answer)
        asked = next((text for text in self.asked_formulas if text and normal.startswith(f"{text}=")), None)
        behind = "" if asked is None else answer.split("=", asked.count("=") + 1)[-1]
        return behind if behind.count("{") == behind.count("}") else ""

    @cached_property
    def without_commands(self) -> str:
        """The problem without the names of LaTeX's commands."""
        first, *pieces = self.text.split("\\")
        return first + "".join(piece.lstrip(ascii_letters) for piece in pieces)

    def has_letters(self, letters: frozenset[str]) -> bool:
        """True if the problem has one of these letters, with any index: in a formula, or as a word by itself."""
        in_formulas = "".join(formula for _, formula in Problem(self.without_commands).formulas)
        words = {word.strip(".,;:?!") for word in self.without_commands.split()}
        names = [letter.partition("_")[0] for letter in letters]
        return any(
            name in self.text if name.startswith("\\") else name in in_formulas or name in words
            for name in names
        )

    @cached_property
    def forms(self) -> frozenset[str]:
        """The forms that are asked for, keys of `_FORMS`."""
        return frozenset(form for form, asking in _FORMS.items() if asking.search(self.lower))

    @cached_property
    def is_sorted(self) -> bool:
        """True if the answer is a list in an order: "Sort 3, 1, 2.", "in increasing order", "the next three terms"."""
        return "any order" not in self.lower and _SORTED.search(self.lower) is not None

    @cached_property
    def is_listed(self) -> bool:
        """True if the answer is a list "separated by commas"."""
        return _LISTED.search(self.lower) is not None

    @cached_property
    def has_percent(self) -> bool:
        """True if the problem speaks of per cent."""
        return "percent" in self.lower or "%" in self.text

    @cached_property
    def has_natural_logs(self) -> bool:
        """True if a logarithm without a base is the natural one: the problem is of calculus, and names no other."""
        has_others = any(sign in self.lower for sign in _OTHER_LOGARITHMS)
        return not has_others and any(sign in self.lower for sign in _CALCULUS)

    @cached_property
    def base(self) -> str:
        """The base that is named last: "8" for "in base 8" and "in base eight"; "" if none is."""
        numbers = (str(NUMERALS.get(word, word)) for word in reversed(_BASE.findall(self.lower)))
        return next(filter(str.isdigit, numbers), "")

    @cached_property
    def asked_units(self) -> set[str]:
        """The units that are asked for: "foot" for "how many feet" and "in feet", also "m" for "Convert 5 km to m."."""
        names = []
        for asking in _ASKED_UNIT.finditer(self.lower):
            words = [word.strip(".,;:?!$") for word in self.lower[asking.end() : asking.end() + 60].split()]
            most = 3 if asking[0] == "how many " else int(words[:1] != [] and words[0] in units.POWERS)
            place = next((k for k, word in enumerate(words[: most + 1]) if word in _PLURALS), None)
            if place is not None and words[place + 1 : place + 2] != ["per"]:
                is_power = place > 0 and words[place - 1] in units.POWERS
                names.append(words[place - is_power : place + 1])
        for found in _CONVERSION.findall(self.without_commands):
            words = found.replace("/", " / ").split()
            if all(word in units.SYMBOLS or word.lower() in units.UNITS for word in words):
                names.append(words)
        return {units.canonical_unit(words) or "" for words in names} - {""}

    @cached_property
    def named_units(self) -> set[str]:
        """All units that the problem has, asked for or not: mile and hour in "60 mph", euro in "€5"."""
        words = [word for word in _NAMED_UNIT.findall(self.without_commands) if word.lower() not in _NO_UNIT]
        names = " / ".join(units.SYMBOLS.get(word) or units.UNITS.get(word.lower(), "") for word in words)
        found = {name.partition("^")[0] for name in names.split(" / ")} - {""}
        found |= {unit for sign, unit in SIGNS.items() if sign in self.text and unit != "dollar"}
        if " old" in self.lower:
            found.add("year")
        return found | {"dollar"} if _PRICE.search(self.text) else found


def without_braces(formula: str) -> str:
    """The normal text of a formula with x_1 for x_{1}."""
    return markup.key(formula).replace("{", "").replace("}", "")


problem_of = lru_cache(PROBLEMS_REMEMBERED)(Problem)
UNKNOWN = problem_of("")
