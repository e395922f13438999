"""A slow second opinion on Countdown: rewritten as Python, read by `ast`, in `Fraction`; no line of the package."""

import ast
import operator
import re
from collections import Counter
from fractions import Fraction

_MINUS, _TIMES, _DIVIDE, _PLUS = "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "×·∗∙⋅✕✖⨯＊", "÷⁄∕／", "﹢＋"
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_NOTHING = "\xad\u200b\u200c\u200d\u2060\ufeff"
_GROUPS = [(_MINUS, "-"), (_TIMES, "*"), (_DIVIDE, "/"), (_PLUS, "+"), (_SPACES, " "), (_NOTHING, "")]
_MAP = {character: mark for characters, mark in _GROUPS for character in characters}
_MAP |= {"（": "(", "）": ")", "＝": "=", "．": "."}
_TEX = {
    "times": "*", "cdot": "*", "ast": "*", "div": "/", "quad": " ", "qquad": " ", "thinspace": " ",
    "frac": "F", "dfrac": "F", "tfrac": "F", "cfrac": "F",
}  # fmt: skip
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_PAIRS = {"`": "`", "$": "$", '"': '"', "'": "'", "{": "}", "“": "”", "‘": "’", "\\(": "\\)", "\\[": "\\]"}


class Wrong(Exception):
    """The text is no answer."""


def inside(completion: str) -> str:
    return completion[completion.rindex("<answer>") + 8 : completion.rindex("</answer>")]


def block(completion: str) -> str:
    """What the last `<answer>` block says: the content of its last balanced, non-empty box, else all of it."""
    text = inside(completion)
    for start in reversed([match.end() for match in re.finditer(r"\\boxed\{", text)]):
        depth = 1
        for token in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
            depth += {"{": 1, "}": -1}.get(token[0], 0)
            if not depth:
                break
        found = text[start : start + token.start()] if not depth else text[start:].partition("\n")[0]
        if found.strip():
            return found
    return text


def peel(text: str) -> str:
    text = text.strip(" \t\n\v\f\r")
    for opening, closing in _PAIRS.items():
        if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening) + len(closing):
            return peel(text[len(opening) : len(text) - len(closing)])
    if bold := re.fullmatch(r"(\*+)([^*].*[^*]|[^*])\1", text, re.DOTALL):
        return peel(bold[2])
    if text.endswith(".") and not text.endswith(".."):
        return peel(text[:-1])
    return text


def without_words(text: str) -> str:
    """The text behind leading words; a letter that is not in such words stays and is refused later."""
    # A sentence before a colon: what an edit makes of its words, a digit too, changes no value.
    lead = re.match(r"[\w\s'’,.!]*[A-Za-z]{2}[\w\s'’,.!]*[:：](?=\s)", text)
    i = lead.end() if lead else 0
    while i < len(text) and ((text[i].isalpha() and ord(text[i]) < 0x250) or text[i] in _SPACES + "'’,.!:："):
        i += 1
    words = "".join(c if c.isalpha() else "" if c in "'’" else " " for c in text[:i]).lower().split()
    if not words:
        return text
    if not lead and text[i - 1] not in _SPACES + ":：" and i < len(text):
        raise Wrong("no gap behind the words")
    subtracts = text[i : i + 1] in tuple("-" + _MINUS) and text[i + 1 : i + 2] in tuple(_SPACES)
    if not text[:i].rstrip(_SPACES).endswith((":", "：")) and (len(words[-1]) < 2 or subtracts):
        raise Wrong("looks like a formula")
    if set("not minus negative half sqrt without over by plus times".split()) & set(words):
        raise Wrong("the words change the value")
    return text[i:]


def as_python(text: str, strict: bool) -> str:
    """The text as a Python expression: (x) as P(x), a fraction as F[x,y]."""
    if not strict:
        if "F" in text:
            raise Wrong("a letter")
        text = re.sub(r"(?<!\\)\\(left(?=\s*\()|right(?=\s*\)))", " ", text)
        text = re.sub(r"\\([a-z]+)(?![a-zA-Z])", lambda match: _TEX.get(match[1], match[0]), text)
        text = re.sub(r"\\[,;:!\s]", " ", text)
        text = "".join(str(int(c)) if c.isdecimal() else _MAP.get(c, c) for c in text)
        text = re.sub(r" *([{}]) *", r"\1", text)
    if set(text) - set("0123456789+-*/() \t" if strict else "0123456789+-*/().={} F"):
        raise Wrong("a character")
    literal = r"(0|[1-9]\d*)(\.\d+)?"
    if not all(re.fullmatch(literal, run) for run in re.findall(r"[\d.]+", text)):
        raise Wrong("a literal")
    return re.sub(r"F +\{", "F{", text).replace("}{", ",").translate({40: "P(", 123: "[", 125: "]"})


class Side:
    """The value of one side of an answer, and its literals, with and without a sign before them."""

    def __init__(self, text: str, strict: bool) -> None:
        self.text, self.strict = text.strip(), strict
        self.plain: list[Fraction] = []
        self.signed: list[Fraction] = []
        try:
            self.value = self.evaluate(ast.parse(self.text, mode="eval").body)
        except (SyntaxError, ZeroDivisionError) as error:
            raise Wrong(str(error)) from error

    def evaluate(self, node: ast.AST, signed: bool = False) -> Fraction:
        match node:
            case ast.Constant():
                value = Fraction(self.text[node.col_offset : node.end_col_offset])
                (self.signed if signed else self.plain).append(value)
                return value
            case ast.UnaryOp(ast.USub(), inner):
                literal = isinstance(inner, ast.Constant) and inner.col_offset == node.col_offset + 1
                if not self.strict or (literal and not signed):
                    return -self.evaluate(inner, True)
            case ast.BinOp(left, sign, right) if type(sign) in _OPERATORS:
                return _OPERATORS[type(sign)](self.evaluate(left), self.evaluate(right))
            case ast.Call(ast.Name("P"), [inner], []):
                return self.evaluate(inner)
            case ast.Subscript(ast.Name("F"), ast.Tuple([top, bottom])):
                return self.evaluate(top) / self.evaluate(bottom)
        raise Wrong(ast.dump(node))


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
            text = inside(completion).strip(" \t\n\v\f\r")
            if text.startswith("\\boxed{") and text.endswith("}"):
                text = text[7:-1].strip(" \t\n\v\f\r")
        else:
            said = block(completion).translate(dict.fromkeys(map(ord, _NOTHING)))
            text = peel(without_words(peel(said)))
        sides = [Side(side, strict) for side in re.split("=" if strict else "==?", as_python(text, strict))]
    except Wrong:
        return False
    return all(side.value == target for side in sides) and any(uses(side, numbers, strict) for side in sides)
