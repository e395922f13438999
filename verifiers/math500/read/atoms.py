r"""Reads the smallest parts of an expression: numbers, names, and a degree sign behind them.

For texts such as `0.1\overline{6}`, `2516_8` and `x_{\max}'`. Fractions such as `\frac12` are read in `expressions`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from verifiers.math500.read.cursor import Cursor
from verifiers.math500.read.lexer import COMMAND, LETTERS, NUMBER, WORD, Malformed
from verifiers.math500.read.tree import Node, period, repeating
from verifiers.math500.read.values import Based, Value
from verifiers.math500.read.words import NUMBER_WORDS

BASE_SIGNS = {"_": "", "in": "", "base": "", "{": "}", "(": ")"}
"""{what may stand between digits and their base: what then closes it, or ""}: 52_{(8)}, 52 in base 8."""
T = TypeVar("T")


def number(digits: str) -> Node:
    """A decimal as an exact fraction, not in lowest terms: ("num", 5, 10) for 0.5."""
    whole, _, part = digits.partition(".")
    return ("num", int(whole + part), 10 ** len(part))


def read_number(cursor: Cursor) -> Value:
    r"""Reads a number, a repeating decimal (`0.1\overline{6}`, `0.166\ldots`), or digits with a base (`2516_8`)."""
    digits = cursor.advance()
    if "." in digits and cursor.accept("overline", COMMAND):
        return repeating(digits, braced(cursor, read_digits))
    has_dots_behind = "." in digits and (cursor.kind, cursor.value) == (COMMAND, "dots")
    if has_dots_behind and (length := period(digits)):
        cursor.advance()
        return repeating(digits[:-length], digits[-length:])
    if cursor.value in BASE_SIGNS and (cursor.value == "_" or base_follows(cursor)):
        return with_base(cursor, digits)
    return number(digits)


def base_follows(cursor: Cursor) -> bool:
    """True if a base in words stands here: "base 8", "in base 8", "(base 8)"."""
    ahead = 1 if cursor.value == "(" else 0
    if cursor.peek(ahead)[1] == "in":
        ahead += 1
    return cursor.peek(ahead)[:2] == (WORD, "base") and cursor.peek(ahead + 1)[0] in (NUMBER, WORD)


def with_base(cursor: Cursor, digits: str) -> Based:
    """Reads the base behind `digits`: `_8`, `_{8}`, `_{(8)}`, `base 8`, `(base eight)`; `Malformed` for 3.5_8."""
    if not digits.isdigit():
        raise Malformed("digits expected before a base")
    closing = []  # the signs that have to follow the base
    while cursor.value in BASE_SIGNS and len(closing) < 4:  # at most "in", "base", { and (
        closing.append(BASE_SIGNS[cursor.advance()])
    if cursor.kind == WORD and cursor.value.lower() in NUMBER_WORDS:
        base = str(NUMBER_WORDS[cursor.advance().lower()])
    else:
        base = read_digits(cursor)
    for sign in filter(None, reversed(closing)):
        cursor.expect(sign)
    return Based(digits.lstrip("0") or "0", base.lstrip("0"))


def read_digits(cursor: Cursor) -> str:
    """Reads digits without a point; raises `Malformed` for anything else."""
    if cursor.kind != NUMBER or not cursor.value.isdigit():
        raise Malformed("digits expected")
    return cursor.advance()


def read_name(cursor: Cursor) -> Node:
    """Reads a letter with its primes and indices: a variable, or one of the constants i and e."""
    name, letters = subscripted(cursor, cursor.advance()), cursor.text.letters
    if name == "I" and letters is not None and "i" in letters and "I" not in letters:
        name = "i"  # sympy writes the imaginary unit as I
    return ("const", name) if name in ("i", "e") else ("sym", name)


def subscripted(cursor: Cursor, name: str) -> str:
    """Reads the primes and indices behind a name, and returns the name with them: "x_1'"."""
    while cursor.value in ("'", "_"):
        mark = cursor.advance()
        name += mark
        if mark == "_":
            name += read_label(cursor)
    return name


def read_label(cursor: Cursor) -> str:
    """Reads an index, or the name under an accent: the text of a group in braces, or one token."""
    if cursor.value == "{":
        low, close = cursor.position + 1, cursor.text.match[cursor.position]
        cursor.go(close + 1)
        return " ".join(token[1] for token in cursor.tokens[low:close])
    if cursor.kind not in (NUMBER, LETTERS, COMMAND):
        raise Malformed("label")
    return cursor.advance()


def braced(cursor: Cursor, read: Callable[[Cursor], T]) -> T:
    """Reads what `read` reads, with braces around it or without, and returns it."""
    if not cursor.accept("{"):
        return read(cursor)
    value = read(cursor)
    cursor.expect("}")
    return value


def accept_raised(cursor: Cursor, kind: str, values: Collection[str]) -> bool:
    r"""Reads an exponent if it is one of the values, in braces or without: `^{\text{th}}`. True if it was read."""
    has_braces = cursor.peek()[1] == "{"
    kind_of_exponent, value, _ = cursor.peek(2 if has_braces else 1)
    if kind_of_exponent != kind or value not in values:
        return False
    cursor.advance()
    braced(cursor, Cursor.advance)
    return True


def accept_degree(cursor: Cursor) -> bool:
    """Reads a degree sign, in any of its forms, if it stands here. True if it was read."""
    found = cursor.accept("deg", COMMAND) or (
        cursor.value == "^" and accept_raised(cursor, COMMAND, ("circ", "deg"))
    )
    if found:
        cursor.has_sign = True
    return found
