"""Exact comparison of two numbers: in 64 bits where they fit, else in Python integers of any size.

`equal` is plain Python that numba also compiles as it stands; `equal_exactly` never overflows and is Python
only. No float is involved.
"""

from __future__ import annotations

from verifiers._extract import Bytes
from verifiers._number import (
    BOTTOM,
    FRACTION,
    LIMIT,
    LITERAL,
    OVERFLOW,
    SCALE,
    SHAPE,
    SIGN,
    TOP,
    WHOLE,
    Fields,
)
from verifiers._symbols import symbol

_CHUNK = 512  # digits per call of int(), which is quadratic and refuses more than a limit of 640 or above


def magnitude(fields: Fields) -> tuple[int, int, int]:
    """(numerator, denominator, power of ten) of a number without its sign; OVERFLOW where too large."""
    if fields[SHAPE] == LITERAL:
        return fields[WHOLE], 1, fields[WHOLE + 1] + fields[SCALE]
    top, bottom = fields[TOP], fields[BOTTOM]
    if fields[SHAPE] == FRACTION:
        return top, bottom, fields[TOP + 1] - fields[BOTTOM + 1] + fields[SCALE]
    whole = fields[WHOLE]
    if whole < 0 or whole >= LIMIT // bottom - 1:
        return OVERFLOW, 1, 0
    return whole * bottom + top, bottom, fields[SCALE]


def strip_zeros(value: int, power: int) -> tuple[int, int]:
    """The same value * 10^power with as many zeros as possible in the power; value > 0."""
    while value % 10 == 0:
        value //= 10
        power += 1
    return value, power


def equal(first: Fields, second: Fields) -> int:
    """1 if two numbers are the same rational, 0 if not, OVERFLOW if 64 bits cannot tell."""
    a, b, power = magnitude(first)
    c, d, other = magnitude(second)
    if a < 0 or b < 0 or c < 0 or d < 0:
        return OVERFLOW
    if a == 0 or c == 0:
        return 1 if a == c else 0
    if first[SIGN] != second[SIGN]:
        return 0
    if b != d:
        if a > LIMIT // d or c > LIMIT // b:
            return OVERFLOW
        a, c = a * d, c * b
    a, power = strip_zeros(a, power)
    c, other = strip_zeros(c, other)
    return 1 if a == c and power == other else 0


def is_zero_below(fields: Fields) -> bool:
    """True if a number has a denominator and that is zero."""
    return fields[SHAPE] != LITERAL and fields[BOTTOM] == 0


def equal_exactly(first_data: Bytes, first: Fields, second_data: Bytes, second: Fields) -> bool:
    """True if two numbers are the same rational, whatever their size; the data are what they were read from."""
    a, b, power = _magnitude(first_data, first)
    c, d, other = _magnitude(second_data, second)
    if a == 0 or c == 0:
        return a == c
    if first[SIGN] != second[SIGN]:
        return False
    left, right, power = a * d, c * b, power - other
    if power < 0:
        left, right, power = right, left, -power
    # 10^power > 2^(3 * power), so the left side would be the larger one, and is not worked out.
    return 3 * power <= right.bit_length() and left * 10**power == right


def _magnitude(data: Bytes, fields: Fields) -> tuple[int, int, int]:
    if fields[SHAPE] == LITERAL:
        return _mantissa(data, fields, WHOLE), 1, fields[WHOLE + 1] + fields[SCALE]
    top, bottom = _mantissa(data, fields, TOP), _mantissa(data, fields, BOTTOM)
    if fields[SHAPE] == FRACTION:
        return top, bottom, fields[TOP + 1] - fields[BOTTOM + 1] + fields[SCALE]
    return _mantissa(data, fields, WHOLE) * bottom + top, bottom, fields[SCALE]


def _mantissa(data: Bytes, fields: Fields, slot: int) -> int:
    """The digits of a literal as one integer, joined by halves so that the cost stays below quadratic."""
    if fields[slot] != OVERFLOW:
        return fields[slot]
    digits = []
    i = fields[slot + 2]
    while i < fields[slot + 3]:
        kind, i, _ = symbol(data, i, fields[slot + 3])
        if 48 <= kind <= 57:
            digits.append(chr(kind))
    return _join("".join(digits))


def _join(digits: str) -> int:
    if len(digits) <= _CHUNK:
        return int(digits)
    half = len(digits) // 2
    return _join(digits[:-half]) * 10**half + _join(digits[-half:])


COMPILED = (magnitude, strip_zeros, equal, is_zero_below)
