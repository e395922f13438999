r"""Reads what an expression is made of: numbers, names, and the degree sign behind them.

For texts such as `0.1\overline{6}`, `2516_8` and `x_{\max}'`.
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
T = TypeVar("T")


def number(digits: str) -> Node:
    """A decimal as an exact fraction (not reduced)."""
    whole, _, part = digits.partition(".")
    return ("num", int(whole + part), 10 ** len(part))


def read_number(cursor: Cursor) -> Value:
    r"""A number, a repeating decimal (`0.1\overline{6}`, `0.166\ldots`), or digits with a base, as `2516_8`."""
    digits = cursor.advance()
    if "." in digits and cursor.accept("overline", COMMAND):
        return repeating(digits, braced(cursor, read_digits))
    if "." in digits and (cursor.kind, cursor.value) == (COMMAND, "dots") and (length := period(digits)):
        cursor.advance()
        return repeating(digits[:-length], digits[-length:])
    if cursor.value in BASE_SIGNS and (cursor.value == "_" or base_follows(cursor)):
        return with_base(cursor, digits)
    return number(digits)


def base_follows(cursor: Cursor) -> bool:
    """True at "base 8", "in base 8" and these in brackets."""
    ahead = int(cursor.value == "(")
    ahead += cursor.peek(ahead)[1] == "in"
    return cursor.peek(ahead)[:2] == (WORD, "base") and cursor.peek(ahead + 1)[0] in (NUMBER, WORD)


def with_base(cursor: Cursor, digits: str) -> Based:
    """Digits with the base behind them: `_8`, `_{8}`, `_{(8)}`, `base 8`, `(base eight)`."""
    closing = []
    while cursor.value in BASE_SIGNS and len(closing) < 4:
        closing += [BASE_SIGNS[cursor.advance()]]
    if cursor.kind == WORD and cursor.value.lower() in NUMBER_WORDS:
        base = str(NUMBER_WORDS[cursor.advance().lower()])
    else:
        base = read_digits(cursor)
    for sign in filter(None, reversed(closing)):
        cursor.expect(sign)
    return Based(digits.lstrip("0") or "0", base.lstrip("0"))


def read_digits(cursor: Cursor) -> str:
    if cursor.kind != NUMBER or not cursor.value.isdigit():
        raise Malformed("digits expected")
    return cursor.advance()


def read_name(cursor: Cursor) -> Node:
    name, letters = subscripted(cursor, cursor.advance()), cursor.text.letters
    if name == "I" and letters is not None and "i" in letters and "I" not in letters:
        name = "i"  # as sympy writes it
    return ("const", name) if name in ("i", "e") else ("sym", name)


def subscripted(cursor: Cursor, name: str) -> str:
    while cursor.value in ("'", "_"):
        mark = cursor.advance()
        name += mark if mark == "'" else "_" + read_label(cursor)
    return name


def read_label(cursor: Cursor) -> str:
    """What stands below a name or under an accent: a group in braces, or one token, as it is."""
    if cursor.value == "{":
        low, close = cursor.position + 1, cursor.text.match[cursor.position]
        cursor.go(close + 1)
        return " ".join(token[1] for token in cursor.tokens[low:close])
    if cursor.kind not in (NUMBER, LETTERS, COMMAND):
        raise Malformed("label")
    return cursor.advance()


def braced(cursor: Cursor, read: Callable[[Cursor], T]) -> T:
    """What is read, in braces or without."""
    if not cursor.accept("{"):
        return read(cursor)
    value = read(cursor)
    cursor.expect("}")
    return value


def accept_raised(cursor: Cursor, kind: str, values: Collection[str]) -> bool:
    r"""True if one of the values stood behind this `^`, in braces or without: `^{\text{th}}`; it is read."""
    braces = cursor.peek()[1] == "{"
    here, value, _ = cursor.peek(2 if braces else 1)
    if here != kind or value not in values:
        return False
    cursor.advance()
    braced(cursor, Cursor.advance)
    return True


def accept_degree(cursor: Cursor) -> bool:
    """True if a degree sign stood here, in any of its forms; it is read."""
    found = cursor.accept("deg", COMMAND) or (
        cursor.value == "^" and accept_raised(cursor, COMMAND, ("circ", "deg"))
    )
    cursor.has_sign |= found
    return found
