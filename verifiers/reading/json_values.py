"""JSON in a completion: where its last value stands, and what the value is, by a scan and a parser that are bounded."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

DEPTH_LIMIT = 64  # of lists and objects, one in the other

_OUTSIDE = re.compile(r"[\[{]|```[^`\n]*+")
"""What may begin a value, or a fence."""
_INSIDE = re.compile(r'"(?:[^"\\\n]|\\[^\n])*+"?+|[\[\]{}]|```[^`\n]*+')
"""The same inside a value: a string (or the rest of its line), a bracket, or the line of a fence."""
_BEGINS = re.compile(r"""\{\s*+["'}]|\[\s*+(?:[\]\[{"'\d]|-\d|true\b|false\b|null\b)""")
"""A bracket that begins a list or an object, perhaps one of Python's, and none of prose or of LaTeX."""
_OPENED_BY = {"]": "[", "}": "{"}


def last_value(text: str, start: int, end: int) -> tuple[int, int] | None:
    """(start, end) of the last JSON value in text[start:end] that stands in no other one; None if there is none.

    It is the content of a closed fence (```` ``` ```` or ```` ```json ````), or a list or object, perhaps a broken one;
    what stands in a fence of another language is none.
    """
    found = before_fence = None
    opened = fence = -1  # where the value and the fence begin that are open, -1 if none is
    is_json, brackets, place = False, [], start
    while piece := (_INSIDE if brackets else _OUTSIDE).search(text, place, end):
        sign, place = piece[0], piece.end()
        if sign[0] == "`":
            if brackets:
                found, brackets = (opened, piece.start()), []
            if fence < 0:
                is_json, fence, before_fence = sign[3:].strip().lower() in ("", "json"), place, found
            else:
                found = (
                    (fence, piece.start())
                    if is_json and text[fence : piece.start()].strip()
                    else before_fence
                )
                fence = -1
        elif not brackets:
            if _BEGINS.match(text, piece.start(), end):
                opened, brackets = piece.start(), [sign]
        elif sign in "[{":
            brackets.append(sign)
        elif sign in "]}":
            is_closed = brackets.pop() == _OPENED_BY[sign]
            if not (is_closed and brackets):  # the value ends, or is broken
                found, brackets = (opened, place), []
    return (opened, end) if brackets else found


def parsed(text: str) -> Any:
    """The JSON value in a text, with its numbers as Decimal; raises ValueError if there is none within the bounds.

    NaN and Infinity are no JSON, an object has no key twice, and lists and objects are at most DEPTH_LIMIT deep.
    """
    depth = 0
    for piece in _INSIDE.finditer(text):
        depth += (piece[0] in ("[", "{")) - (piece[0] in ("]", "}"))
        if depth > DEPTH_LIMIT:
            raise ValueError(f"it is more than {DEPTH_LIMIT} lists and objects deep")
    try:
        return json.loads(
            text,
            parse_int=Decimal,
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=object_of,
        )
    except (ArithmeticError, RecursionError) as error:  # the exponent of a number has too many digits
        raise ValueError(f"a number of it cannot be read ({type(error).__name__})") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; raises ValueError if it has a key twice, since either value could be meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f'an object has the key "{twice:.60}" twice')
    return found


def is_same(value: Any, other: Any) -> bool:
    """Whether two values of `parsed` are equal: numbers by value, lists in order, objects in any order of keys."""
    if type(value) is not type(other):
        return False
    if type(value) is list:
        return len(value) == len(other) and all(map(is_same, value, other))
    if type(value) is dict:
        return value.keys() == other.keys() and all(is_same(value[key], other[key]) for key in value)
    return value == other
