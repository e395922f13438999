"""Numbers with a decimal comma, 1.250,5, as the readers here want them, 1,250.5: the text keeps its length."""

from __future__ import annotations

import re

from verifiers.errors import invalid_reference

_NUMBER = re.compile(r"\d++(?:[.,]\d++)*+")
_WITH_COMMA = re.compile(r"(?:[1-9]\d{0,2}+(?:\.\d{3})++|\d++)(?:,\d++)?+")
_SWAPPED = str.maketrans(".,", ",.")


def has_comma(decimal: object, row: int | None) -> bool:
    """Whether `decimal`, the sign before the decimals of a number, is the comma; raises for what is neither sign."""
    if decimal not in (None, ".", ","):
        raise invalid_reference("decimal", decimal, 'is neither "," nor "." (the default)', row)
    return decimal == ","


def swapped(text: str) -> str:
    """The text with point and comma swapped in its numbers."""
    return _NUMBER.sub(lambda number: number[0].translate(_SWAPPED), text)


def with_point(text: str) -> str | None:
    """A text with decimal commas as one with decimal points; None if a number in it is not written so, as 12.50."""
    text = text.replace("{,}", ",")  # of LaTeX
    are_right = all(_WITH_COMMA.fullmatch(number) for number in _NUMBER.findall(text))
    return swapped(text) if are_right else None
