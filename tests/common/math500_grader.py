r"""A slow grader for the answers of `math500_cases`, written apart from the verifier.

What is read becomes a function of a point (a value) or a tuple (anything else); values are compared at random points
with 60 digits, all else kind by kind. Forgiven is what a careful reader would not hold against an answer, and nothing
else: spacing, `\left` and `\right` without a partner, dollar signs and `\[` around mathematics, a lost backslash
before `frac`, `dfrac`, `tfrac`, `sqrt`, `pi`, `infty`, `cup`, `in`, `left` and `right`, a comment sign at the end,
leading zeros, an equals sign or the name of a point in front, \over outside braces, a final point, a letter run
into "and" or "or", and one slip in "The answer is".
"""

import random
import re
from collections.abc import Callable
from itertools import permutations
from operator import add, mul, truediv
from typing import Any

import mpmath

_CHARACTERS = {
    "−": "-", "π": r"\pi ", "°": r"^\circ ", "∞": r"\infty ", "≤": r"\le ", "∪": r"\cup ", "±": r"\pm ",
    "√": r"\sqrt ", "==": "=", "²": "^{2}",
}  # fmt: skip
BARE = frozenset("frac dfrac tfrac sqrt pi infty cup".split())
_BRACKET = r"(?=\s*(?:\\[{}.]|[()\[\].]))"
_NOTHING = re.compile(
    rf"\\\\|(?<![A-Za-z\\])(?:left|right){_BRACKET}|\\(?:left|right)(?![A-Za-z])\.?|\\[()\[\]!]"
)
_SPACE = re.compile(r"\\\\|\\[;:> ]|~|\\quad|(?<!\\)\$")
ALIASES = {r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\leq": r"\le", r"\cdot": "*", r"\times": "*"}
TEXT = r"\\(?:text|mbox|mathrm|textbf)(?:\s*\{[^{}]*\}|\s+[A-Za-z]+)"
TOKEN = re.compile(
    rf"{TEXT}|\\(?:begin|end)\{{\s*\w+\s*\}}|\\[A-Za-z]+|\\.|[A-Za-z]+|\d+(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+|\S",
    re.DOTALL,
)
_GROUPS = re.compile(r"(?<![\d.])([1-9]\d{0,2})(,|\{,\}|,\\!|\\,)(\d{3}(?:\2\d{3})*)(?!\d)")
_UNITS = {
    "degree": "degree degrees", "percent": "percent", "dollar": "dollar dollars", "cent": "cent cents",
    "cm2": "cm^2 squarecentimeter squarecentimeters", "cm": "cm centimeters", "m": "m meters", "m2": "m^2",
    "cm3": "cm^3",
}  # fmt: skip
_UNIT_OF = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings.split()}
_SCALES = ("dozen", "hundred", "thousand", "million", "billion", "half", "not", "less", "more", "or")
_AFTER_PERCENT = r"[,=;A-Za-z]|$|\)$"
_CLOSE = mpmath.mpf(10) ** -40
_CONSTANTS = {
    "i": lambda p: mpmath.mpc(0, 1), "e": lambda p: mpmath.e, r"\pi": lambda p: mpmath.pi, r"\infty": ("inf", 1),
}  # fmt: skip
Value = Callable[[dict[str, Any]], Any]


LETTERS = [*map(chr, range(65, 91)), *map(chr, range(97, 123))]
_RANDOM = random.Random(0)
POINTS = [
    {a: mpmath.mpf(_RANDOM.randrange(10**9, 10**10)) / _RANDOM.randrange(10**9, 10**10) for a in LETTERS}
    for _ in range(3)
]


def kind_of(node: Any) -> str:
    return "value" if callable(node) else node[0]


def is_right(answer: str, gold: str) -> bool:
    """True if this grader takes `answer` for `gold`, a reference of `math500_cases`."""
    with mpmath.workdps(60):
        letters = set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+(\{[^{}\d]*\})?", "", gold))) | {"i"}
        reference, reader = Reader(gold, letters), Reader(answer, letters)
        wanted = reference.whole()
        if kind_of(wanted) == "text":
            return same_words(answer, wanted[1])
        try:
            found = reader.whole()
            wanted, found = spread(wanted, reference.signs), spread(found, reader.signs)
            return same(found, wanted)
        except (Unreadable, ZeroDivisionError, ValueError, OverflowError, RecursionError, TypeError):
            return False


def same_words(answer: str, wanted: str) -> bool:
    """Words in any case; one letter is a choice with or without its brackets."""
    text = re.sub(r"\\(text|mbox|textbf|mathrm)(?![a-z])|[{}~$]", "", cleaned(answer)).strip(" .,:%").lower()
    wanted = wanted.strip().lower()
    inner = re.fullmatch(r"\(\s*(\w)\s*\)(?:\s.*)?|(\w)", text)
    return text == wanted or (inner is not None and wanted == f"({inner[1] or inner[2]})")


def spread(node: Any, signs: int) -> Any:
    """A node with plus-minus signs as the list of both."""
    if signs == 0:
        return node
    if signs > 1 and kind_of(node) not in ("list", "set"):
        raise Unreadable("two signs")
    if kind_of(node) == "rel":
        if node[1] != ["="]:
            raise Unreadable("relation")
        node = node[2][1]
    node = node[1] if kind_of(node) == "unit" else node
    if kind_of(node) not in ("value", "list", "set"):
        raise Unreadable("signs")
    values = []
    for item in [node] if callable(node) else node[1]:
        try:
            item(POINTS[0])
            values.append(item)
        except KeyError:
            values += [lambda p, item=item, sign=sign: item({**p, "±": sign}) for sign in (1, -1)]
    return ("list", values)


def equal(a: Any, b: Any) -> bool:
    """Two values, at every point."""
    values = [(a(point), b(point)) for point in POINTS]
    return all(mpmath.isfinite(x + y) and abs(x - y) <= _CLOSE * (1 + abs(y)) for x, y in values)


def is_name(node: Any) -> bool:
    """True for a word, or one letter alone that is no constant."""
    if not callable(node):
        return node[0] == "text"
    return any(equal(node, lambda p, name=name: p[name]) for name in LETTERS if name not in "eiEIJOU")


def same(a: Any, b: Any) -> bool:
    """`a` an answer, `b` a reference, of any kind."""
    kind = kind_of(b)
    if "unit" in (kind, kind_of(a)):
        (a, unit), (b, wanted) = (node[1:] if kind_of(node) == "unit" else (node, "") for node in (a, b))
        return same_unit(unit, wanted) and same(a, b)
    if kind == "rel":
        return same_equation(a, b)
    if kind_of(a) == "rel":
        value = value_of(a, b)
        return value is not None and same(value, b)
    if kind == "value":
        return callable(a) and equal(a, b)
    if kind == "inf":
        return a == b
    if kind == "base":
        return a == b if not callable(a) else equal(a, lambda p: mpmath.mpf(b[1]))
    if callable(a):
        return False
    if kind == "seq":
        bare = a[0] == "list" and b[1:3] == ("(", ")")
        return (bare or (a[0] == "seq" and a[1:3] == b[1:3])) and in_order(a[-1], b[3])
    if kind == "union":
        items = [as_interval(item) for item in a[1]] if a[0] == "list" else a[1]
        return a[0] in ("list", "union") and any_order(items, b[1])
    if kind in ("list", "set"):
        return a[0] in ("list", "set") and any_order(a[1], b[1])
    return a[0] == "mat" and len(a[1]) == len(b[1]) and all(map(in_order, a[1], b[1]))


def in_order(a: list, b: list) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def any_order(a: list, b: list) -> bool:
    return len(a) == len(b) and any(in_order(list(order), b) for order in permutations(a))


def same_unit(unit: str, wanted: str) -> bool:
    """Nothing contradicts: no unit, the same one, the same one with a slip; words where none is wanted."""
    if not unit or unit == wanted:
        return True
    known = _UNIT_OF.get(unit.replace("{", "").replace("}", ""))
    if not wanted:
        return unit.isalpha() and unit not in _SCALES
    spellings = [word for word, name in _UNIT_OF.items() if name == _UNIT_OF[wanted]]
    if known:
        return known == _UNIT_OF[wanted]
    return (len(unit) > 2 and unit.isalpha()) or any(is_near(unit, word) for word in spellings)


def value_of(a: Any, b: Any) -> Any:
    """The value of x = 5, 2 * 3 = 6, x in (0, 1), 0 < x < 1; None where there is none."""
    operators, sides = a[1], a[2]
    if operators == [r"\in"]:
        return sides[1] if is_name(sides[0]) else None
    if any(operator != "=" for operator in operators):
        return as_interval(a) if kind_of(b) == "seq" else None
    values = [side for side in sides if not is_name(side)]
    return values[-1] if values and all(same(value, values[-1]) for value in values[:-1]) else None


def as_interval(node: Any) -> Any:
    """0 < x <= 1 as an interval."""
    if kind_of(node) != "rel" or not set(node[1]) <= {"<", r"\le"}:
        raise Unreadable("no interval")
    opening = "(" if node[1][0] == "<" else "["
    closing = ")" if node[1][-1] == "<" else "]"
    sides = node[2]
    if len(sides) == 3 and is_name(sides[1]):
        return ("seq", opening, closing, [sides[0], sides[2]])
    if len(sides) == 2 and is_name(sides[0]):
        return ("seq", "(", closing, [("inf", -1), sides[1]])
    if len(sides) == 2 and is_name(sides[1]):
        return ("seq", opening, ")", [sides[0], ("inf", 1)])
    raise Unreadable("no interval")


def same_equation(a: Any, b: Any) -> bool:
    """The reference is x = 5 or y = 2x + 3: its right side, the same name and value, or the same line."""
    name, value = b[2]
    if callable(a):
        return equal(a, value)
    if a[0] != "rel" or set(a[1]) != {"="}:
        return False
    sides = a[2]
    if equal(value, lambda p: value(POINTS[0])):  # a number: the name must be there as it is
        rest = [side for side in sides if not (callable(side) and equal(side, name))]
        return 0 < len(rest) and all(callable(side) and equal(side, value) for side in rest)
    if len(sides) != 2 or not all(map(callable, sides)):
        return False
    first, *others = [(sides[0](p) - sides[1](p)) / (name(p) - value(p)) for p in POINTS]
    return abs(first) > _CLOSE and all(abs(ratio - first) < _CLOSE * abs(first) for ratio in others)


def cleaned(text: str) -> str:
    """The text without what changes nothing."""
    for old, new in _CHARACTERS.items():
        text = text.replace(old, new)
    text = re.sub(r"(?<!\\)%\s*$", "", re.sub(r"=\s*=", "=", text))
    text = re.sub(r"\{= (?=units)", "{", re.sub(r",\\! +(?=\d{3})", r",\\!", text))
    text = re.sub(r"\^\}(?=\d)", "}^", re.sub(r"\\(and|or)\b", r"\1", text))
    text = re.sub(r"(?<=[a-z])\s*'(?=\s*[<\\])", "", text)
    text = re.sub(r"\\text\{([^{}]*\b(?:and|or)(?![a-z])[^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\s[a-z] (?=(and|or)\b)", " ", text)
    text = re.sub(r"\\(text|mbox)\s*(?=%|\^|$)", "", text.replace("\\_", "_").replace("{%", "{"))
    text = re.sub(r"\\&", " and ", re.sub(r"=\s*in\b", r"\\in ", text))
    text = re.sub(r"^[a-z](?=\\text\{The)", "", text)
    for pattern, new in ((_NOTHING, ""), (_SPACE, " ")):
        text = pattern.sub(lambda match, new=new: match[0] if match[0] == "\\\\" else new, text)
    text = re.sub(r"(?<=\d) ,(?=\d{3}(?!\d))", ",", text)
    grouped = not re.search(r"[(\[]|\\\{|\\begin", text)  # in brackets a comma parts elements
    text = _GROUPS.sub(
        lambda m: m[0] if m[2] == "," and not grouped else m[1] + re.sub(r"\D", "", m[3]), text
    )
    text = re.sub(r"(?<=sqrt)\s+(\d+)", r"{\1}", text)
    text = text.replace("\\,", " ").strip().removesuffix(".")
    return re.sub(r"^[A-Z]\s*(?=\([^()]*,)", "", re.sub(r"^=", "", text))  # P(1, 2) is a point


def is_near(word: str, right: str) -> bool:
    """True if the words are one slip apart: a letter more, less, another, or two that changed places."""
    word = word.lower()
    if word == right or len(right) < 4:
        return word == right
    pairs = zip(word, right, strict=False)
    start = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(word), len(right)))
    a, b = word[start:], right[start:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or (a[:2] == b[:2][::-1] and a[2:] == b[2:])


class Unreadable(Exception):
    """No answer, or none that this grader knows."""


def combined(a: Any, b: Any, work: Callable[[Any, Any], Any]) -> Any:
    """Two values as one; a value times a matrix cell by cell."""
    if callable(a) and callable(b):
        return lambda p: work(a(p), b(p))
    if callable(a) and b[0] == "mat":
        return ("mat", [[combined(a, cell, work) for cell in row] for row in b[1]])
    raise Unreadable("no values")


class Reader:
    """Recursive descent; `letters` are the variables of the reference."""

    def __init__(self, text: str, letters: set[str]) -> None:
        text = cleaned(text)
        self.letters, self.at, self.signs, self.mark = letters, 0, 0, ""
        found = list(TOKEN.finditer(text))
        texts = ["\\" + match[0] if match[0] in BARE else match[0] for match in found]
        texts = [re.sub(r"\s", "", text) if text[:4] in ("\\beg", "\\end") else text for text in texts]
        self.tokens = [ALIASES.get(text, text) for text in texts]
        self.spaced = [text[match.start() - 1 : match.start()] == " " for match in found] + [False]

    def now(self, offset: int = 0) -> str:
        return self.tokens[self.at + offset] if self.at + offset < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        token = self.now()
        self.at += token in wanted and token != ""
        return token if token in wanted else ""

    def need(self, *wanted: str) -> str:
        if self.now() not in wanted:
            raise Unreadable(f"{wanted} at {self.now()!r}")
        return self.take(*wanted)

    def word(self) -> str | None:
        """The raw text of a word or a `text` command that stands here."""
        token = self.now()
        if re.match(TEXT, token):
            return re.sub(r"^\\[a-z]+\s*", "", token).strip("{}")
        return token if token.isalpha() and len(token) > 1 and not set(token) <= self.letters else None

    def joins(self) -> bool:
        return (self.word() or "").strip() in ("and", "or")

    def whole(self) -> Any:
        """The answer; a list of several without brackets is ("list", items)."""
        items = self.items()
        if self.now():
            raise Unreadable(self.now())
        return items[0] if len(items) == 1 else ("list", items)

    def items(self) -> list[Any]:
        found = [self.relation()]
        while self.now() in (",", ";") or self.joins():
            comma = self.now() == ","
            self.at += 1
            self.at += comma and self.joins()
            found.append(self.relation())
        return found

    def relation(self) -> Any:
        sides, operators = [self.side()], []
        while operator := self.take("=", "<", ">", r"\le", r"\in"):
            operators.append(operator)
            sides.append(self.side())
        return ("rel", operators, sides) if operators else sides[0]

    def side(self) -> Any:
        said = ""
        while (word := self.word()) is not None and not self.joins():
            said += word
            self.at += 1
        if said and (self.now() in ("", ",", ";", "=", ")", "]") or self.joins()):
            return ("text", said)
        if said and not is_near(said.replace(" ", ""), "theansweris"):
            raise Unreadable(said)
        parts = [self.sum()]
        if self.take(r"\over"):  # a box is a group, too
            parts = [combined(parts[0], self.sum(), truediv)]
        while self.take(r"\cup"):
            parts.append(self.sum())
        node = parts[0] if len(parts) == 1 else ("union", parts)
        unit = self.mark + self.unit()
        self.mark = ""
        return ("unit", node, unit) if unit else node

    def unit(self) -> str:
        raw = ""
        while True:
            word = self.word()
            if word is not None and not self.joins():
                raw += word
                self.at += 1
                while re.fullmatch("[A-Za-z]", self.now()) and (
                    self.now() == "s" or not self.spaced[self.at]
                ):
                    raw += self.take(self.now())
                if self.now() == "/" and self.now(1).isalpha():
                    raw += self.take("/") + self.take(self.now(1))
                if self.take("^"):
                    raw += "^" + str(self.exponent_digits())
            elif self.now() == "^" and r"\circ" in (self.now(1), self.now(2)):
                self.at += 1
                braces = self.take("{")
                self.need(r"\circ")
                self.need("}") if braces else None
                raw += "degrees"
            elif self.take(r"\%", "%"):
                raw += "percent"
            else:
                return raw.replace(" ", "").lower()

    def exponent_digits(self) -> str:
        braces, digits = self.take("{"), self.now()
        self.at += 1
        return digits if not braces or self.need("}") else ""

    def sign(self) -> Value | None:
        """The signs here as a factor; None where there is none."""
        factors = []
        while operator := self.take("+", "-", r"\pm", r"\mp"):
            self.signs += operator in (r"\pm", r"\mp")
            step = -1 if operator in ("-", r"\mp") else 1
            factors.append(
                lambda p, o=operator, s=step: s * (p["±"] if o in (r"\pm", r"\mp") else mpmath.mpf(1))
            )
        return (lambda p: mpmath.fprod(factor(p) for factor in factors)) if factors else None

    def with_sign(self, sign: Value | None, read: Callable[[], Any]) -> Any:
        return combined(sign, read(), mul) if sign else read()

    def sum(self) -> Any:
        total, sign = None, self.sign()
        while True:
            term = self.product()
            if sign is not None and not callable(term) and term[0] == "inf":
                term = ("inf", term[1] * int(sign({"±": 0})))
            elif sign is not None and not (kind_of(term) == "base" and sign({"±": 0}) == 1):  # +23_6
                term = combined(sign, term, mul)
            total = term if total is None else combined(total, term, add)
            sign = self.sign()
            if sign is None:
                return total

    def product(self) -> Any:
        value = self.power()
        while True:
            if operator := self.take("*", "/"):
                right = self.with_sign(self.sign(), self.power)
                value = combined(value, right, mul if operator == "*" else truediv)
            elif self.starts_factor():
                value = combined(value, self.power(), mul)
            else:
                return value

    def starts_factor(self) -> bool:
        token = self.now()
        if not token or self.word() is not None:
            return False
        return token.isalpha() or token in ("(", "{", r"\frac", r"\sqrt", r"\pi") or token[:4] == "\\beg"

    def power(self) -> Any:
        base = self.primary()
        while True:
            if self.now() == "^" and r"\circ" in (self.now(1), self.now(2)):
                if not re.match(r"\^ \{? ?\\circ \}? ?[*/]", " ".join(self.tokens[self.at : self.at + 5])):
                    return base  # degrees behind all of it
                self.mark, self.at = "degrees", self.at + (4 if self.now(1) == "{" else 2)
            elif self.take("^"):
                exponent = self.with_sign(self.sign(), lambda: self.argument(whole=True))
                base = combined(base, exponent, lambda a, b: mpmath.mpmathify(a) ** b)
            elif self.take("!"):
                base = combined(base, base, lambda a, _: mpmath.factorial(a))
            elif self.now() == "%" and not re.match(_AFTER_PERCENT, "".join(self.tokens[self.at + 1 :])):
                self.at += 1
                base = combined(base, base, lambda a, _: a / 100)
            else:
                return base

    def argument(self, whole: bool = False) -> Any:
        """What a command takes: a group, a letter, or a digit, as TeX reads it (an exponent: a whole number)."""
        token = self.now()
        if token == "{" or token in (r"\frac", r"\pi"):
            return self.primary()
        digits = re.match(r"\d*\.?\d+" if whole else r"\d", token)
        if digits:
            self.tokens[self.at] = token[digits.end() :]
            self.at += not self.tokens[self.at]
            return lambda p: mpmath.mpf(digits[0])
        if token.isalpha() and len(token) == 1:
            return self.primary()
        raise Unreadable(f"argument {token!r}")

    def primary(self) -> Any:
        token = self.now()
        self.at += 1
        if re.fullmatch(r"\d*\.?\d+(e[+-]?\d{1,3})?", token):
            return self.number(token)
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if token.isalpha():
            if len(token) > 1:
                self.tokens[self.at - 1 : self.at] = list(token)
                self.spaced[self.at - 1 : self.at] = [False] * len(token)
            name = token[0]
            return _CONSTANTS.get(name, lambda p: p[name])
        if token == r"\$":
            self.mark = "dollars"
            return self.primary()
        if token == "{":
            value = self.sum()
            if self.take(r"\over"):
                value = combined(value, self.sum(), truediv)
            self.need("}")
            return value
        if token == r"\frac":
            return combined(self.argument(), self.argument(), truediv)
        if token == r"\sqrt":
            return self.root()
        return self.container(token)

    def number(self, digits: str) -> Any:
        """A number, a mixed number, or one with a base."""
        if self.take("_"):
            return ("base", digits.lstrip("0"), self.exponent_digits().lstrip("0"))
        value = mpmath.mpf("0" + digits)
        following, slash, below = self.now(), self.now(1), self.now(2)
        if re.fullmatch(r"\d*\.?\d+", following):
            good = self.spaced[self.at] and slash == "/" and (digits + following + below).isdigit()
            if not good or not below or not 0 < int(following) < int(below):
                raise Unreadable("two numbers side by side")
            self.at += 3
            return lambda p: value + mpmath.mpf(int(following)) / int(below)
        if following in (r"\frac", "{"):
            start = self.at
            part = self.primary()
            inside = "".join(self.tokens[start : self.at])
            if re.fullmatch(r"\{\d+\}", inside):
                raise Unreadable("digits in braces")
            if not re.fullmatch(r"\\frac[\d{}+]*|\{\d+\\over\d+\}", inside):
                return lambda p: value * part(p)
            if not (digits.isdigit() and 0 < part({}) < 1):
                raise Unreadable("no mixed number")
            return lambda p: value + part(p)
        return lambda p: value

    def root(self) -> Value:
        degree = 2
        if self.take("["):
            degree = int(self.now()) if self.now().isdigit() else 0
            self.at += 1
            self.need("]")
        value = self.argument()
        return lambda p: mpmath.mpc(value(p)) ** (mpmath.mpf(1) / degree)

    def container(self, token: str) -> Any:
        if token in ("(", "["):
            items = self.items()
            closing = self.need(")", "]")
            if len(items) > 1:
                return ("seq", token, closing, items)
            if (token, closing) != ("(", ")") or not (callable(items[0]) or items[0][0] == "unit"):
                raise Unreadable("brackets")
            return items[0]
        if token == r"\{":
            items = self.items()
            self.need(r"\}")
            return ("set", items)
        if token in (r"\begin{pmatrix}", r"\begin{bmatrix}"):
            rows = [[self.relation()]]
            while mark := self.take("&", "\\\\"):
                rows[-1].append(self.relation()) if mark == "&" else rows.append([self.relation()])
            self.need(token.replace("begin", "end"))
            return ("mat", rows)
        raise Unreadable(f"{token!r} where a value belongs")
