"""A slow second opinion on Countdown: recursive descent over `Fraction`, sharing no line with the package."""

from collections import Counter
from fractions import Fraction

_MINUS, _TIMES, _DIVIDE, _PLUS = "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "×·∗∙⋅✕✖⨯＊", "÷⁄∕／", "﹢＋"
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_NOTHING = "\xad\u200b\u200c\u200d\u2060\ufeff"
_MAP = {
    **dict.fromkeys(_MINUS, "-"),
    **dict.fromkeys(_TIMES, "*"),
    **dict.fromkeys(_DIVIDE, "/"),
    **dict.fromkeys(_PLUS, "+"),
    **{"（": "(", "）": ")", "＝": "=", "．": "."},
}
_TEX = {
    "times": "*", "cdot": "*", "ast": "*", "div": "/", "quad": " ", "qquad": " ", "thinspace": " ",
    "frac": "F", "dfrac": "F", "tfrac": "F", "cfrac": "F", "left": "L", "right": "R",
}  # fmt: skip
_PAIRS = {"`": "`", "$": "$", '"': '"', "'": "'", "{": "}", "“": "”", "‘": "’", "\\(": "\\)", "\\[": "\\]"}


class Wrong(Exception):
    """The text is no answer."""


def block(completion: str) -> str:
    """What the last `<answer>` block says: the content of its last balanced, non-empty box, else all of it."""
    text = completion[completion.rindex("<answer>") + 8 : completion.rindex("</answer>")]
    starts = [i for i in range(len(text)) if text.startswith("\\boxed{", i)]
    for start in reversed(starts):
        depth, i = 1, start + 7
        while i < len(text) and depth:
            if text[i] == "\\":
                i += 1
            elif text[i] in "{}":
                depth += 1 if text[i] == "{" else -1
            i += 1
        inside = text[start + 7 : i - 1]
        if depth == 0 and i <= len(text) and inside.strip():
            return inside
    return text


def peel(text: str) -> str:
    text = text.strip(" \t\n\v\f\r")
    for opening, closing in _PAIRS.items():
        if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening) + len(closing):
            return peel(text[len(opening) : len(text) - len(closing)])
    return text


def without_words(text: str) -> str:
    """The text behind leading words; a letter that is not in such words stays and is refused later."""
    i = 0
    while i < len(text) and ((text[i].isalpha() and ord(text[i]) < 0x250) or text[i] in _SPACES + "'’,.!:："):
        i += 1
    words = "".join(c if c.isalpha() else "" if c in "'’" else " " for c in text[:i]).split()
    if not words:
        return text
    if text[i - 1] not in _SPACES + ":：" and i < len(text):
        raise Wrong("no gap behind the words")
    colon = text[:i].rstrip(_SPACES).endswith((":", "："))
    if not colon and (
        len(words[-1]) < 2
        or (text[i : i + 1] in tuple("-" + _MINUS) and text[i + 1 : i + 2] in tuple(_SPACES))
    ):
        raise Wrong("looks like a formula")
    if {"not", "minus", "negative", "half", "sqrt", "without", "over", "by", "plus", "times"} & {
        w.lower() for w in words
    }:
        raise Wrong("the words change the value")
    return text[i:]


def tokens(text: str, strict: bool) -> list[str]:
    """One-character tokens: digits, operators, brackets, F for a fraction; spaces stay as single blanks."""
    out, i = [], 0
    while i < len(text):
        character = text[i]
        i += 1
        if strict:
            if character not in "0123456789+-*/() \t":
                raise Wrong(character)
            out.append(" " if character == "\t" else character)
        elif character == "\\":
            j = i
            while j < len(text) and "a" <= text[j] <= "z":
                j += 1
            if j == i:
                if text[i : i + 1] not in tuple(",;:! \n"):
                    raise Wrong("escape")
                out.append(" ")
                i += 1
                continue
            if text[i:j] not in _TEX or (j < len(text) and "A" <= text[j] <= "Z"):
                raise Wrong(text[i:j])
            token = _TEX[text[i:j]]
            i = j
            if token in "LR":
                rest = text[i:].lstrip(" \t\n\v\f\r")
                if not rest.startswith("(" if token == "L" else ")"):
                    raise Wrong("left or right without a bracket")
                token = " "
            out.append(token)
        elif character in _NOTHING:
            continue
        elif character in _SPACES:
            out.append(" ")
        elif character.isdecimal():
            out.append(str(int(character)))
        else:
            character = _MAP.get(character, character)
            if character not in "+-*/().={}":
                raise Wrong(character)
            out.append(character)
    return out


class Side:
    """One side of an answer, parsed from `tokens` at `place` on."""

    def __init__(self, items: list[str], place: int, strict: bool) -> None:
        self.items, self.place, self.strict = items, place, strict
        self.plain: list[Fraction] = []
        self.signed: list[Fraction] = []
        self.value = self.sum()

    def peek(self) -> str:
        while self.place < len(self.items) and self.items[self.place] == " ":
            self.place += 1
        return self.items[self.place] if self.place < len(self.items) else ""

    def take(self, wanted: str) -> None:
        if self.peek() != wanted:
            raise Wrong(f"{wanted} expected")
        self.place += 1

    def sum(self) -> Fraction:
        value = self.product()
        while self.peek() in ("+", "-"):
            sign = 1 if self.peek() == "+" else -1
            self.place += 1
            value += sign * self.product()
        return value

    def product(self) -> Fraction:
        value = self.factor(False)
        while self.peek() in ("*", "/"):
            times = self.peek() == "*"
            self.place += 1
            other = self.factor(False)
            if not times and other == 0:
                raise Wrong("division by zero")
            value = value * other if times else value / other
        return value

    def factor(self, signed: bool) -> Fraction:
        head = self.peek()
        if head == "-":
            self.place += 1
            if self.strict and (
                signed or not self.items[self.place : self.place + 1] or not self.items[self.place].isdigit()
            ):
                raise Wrong("unary minus")
            return -self.factor(True)
        if head == "(":
            self.take("(")
            value = self.sum()
            self.take(")")
            return value
        if head == "F":
            self.take("F")
            self.take("{")
            value = self.sum()
            self.take("}")
            self.take("{")
            bottom = self.sum()
            self.take("}")
            if bottom == 0:
                raise Wrong("division by zero")
            return value / bottom
        return self.literal(signed)

    def literal(self, signed: bool) -> Fraction:
        start = self.place
        while self.place < len(self.items) and self.items[self.place] in "0123456789.":
            self.place += 1
        text = "".join(self.items[start : self.place])
        whole, point, decimals = text.partition(".")
        good = (
            whole.isdigit() and (whole == "0" or whole[0] != "0") and (decimals.isdigit() if point else True)
        )
        if not good or (self.strict and point):
            raise Wrong("literal")
        value = Fraction(text)
        (self.signed if signed else self.plain).append(value)
        return value


def uses(side: Side, numbers: list[int], strict: bool) -> bool:
    """True if the literals can be paired off with the numbers, a signed one with -n or (lenient) with n."""
    left = Counter(map(Fraction, numbers))
    rest = []
    for value in side.signed:
        if left[-value] > 0:
            left[-value] -= 1
        else:
            rest.append(value)
    if rest and strict:
        return False
    left.subtract(side.plain + rest)
    return not any(left.values())


def oracle(completion: str, numbers: list[int], target: Fraction, strict: bool) -> bool:
    """True if the answer of a completion with one `<answer>` block is right."""
    try:
        if strict:
            text = completion[completion.rindex("<answer>") + 8 : completion.rindex("</answer>")].strip(
                " \t\n\v\f\r"
            )
            if text.startswith("\\boxed{") and text.endswith("}"):
                text = text[7:-1].strip(" \t\n\v\f\r")
        else:
            text = peel(without_words(peel(block(completion))))
        items = tokens(text, strict)
        sides = [Side(items, 0, strict)]
        while sides[-1].peek() == "=" and not strict:
            sides.append(Side(items, sides[-1].place + 1, strict))
        if sides[-1].peek():
            raise Wrong("something behind the expression")
    except Wrong:
        return False
    return all(side.value == target for side in sides) and any(uses(side, numbers, strict) for side in sides)
