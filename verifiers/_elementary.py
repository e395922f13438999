"""Pi, sine, cosine and the inverse tangent to any number of digits, by `decimal` alone."""

from __future__ import annotations

import decimal
from decimal import Decimal
from functools import lru_cache

_TRAPS = [
    decimal.InvalidOperation,
    decimal.DivisionByZero,
    decimal.Overflow,
    decimal.Underflow,
    decimal.Subnormal,
]


def context(digits: int) -> decimal.Context:
    """The arithmetic of that many digits; what leaves its range raises."""
    return decimal.Context(prec=digits, Emax=10**7, Emin=-(10**7), traps=_TRAPS)


@lru_cache(maxsize=64)
def pi(digits: int) -> Decimal:
    """Pi by Machin's formula in integers: 16 atan(1/5) - 4 atan(1/239)."""
    unit = 10 ** (digits + 10)

    def inverse_tangent(n: int) -> int:
        term = total = unit // n
        k, sign = 3, -1
        while term:
            term //= n * n
            total += sign * (term // k)
            k, sign = k + 2, -sign
        return total

    value = 4 * (4 * inverse_tangent(5) - inverse_tangent(239))
    with decimal.localcontext(context(digits + 10)):
        return Decimal(value).scaleb(-(digits + 10))


def sine_and_cosine(x: Decimal, digits: int) -> tuple[Decimal, Decimal]:
    """Both by their power series of x reduced to a quarter turn and halved eight times."""
    with decimal.localcontext(context(digits + 16)):
        half = pi(digits + 16) / 2
        turns = (x / half).to_integral_value()
        y = (x - turns * half) / 256
        square, term, sine, k = y * y, y, y, 1
        limit = Decimal(10) ** -(digits + 12)
        while abs(term) > limit:
            term = -term * square / ((k + 1) * (k + 2))
            sine += term
            k += 2
        cosine_less_one = -2 * _half_sine_squared(square, limit)
        for _ in range(8):
            sine = 2 * sine * (1 + cosine_less_one)
            cosine_less_one = 2 * cosine_less_one * (2 + cosine_less_one)
        cosine = 1 + cosine_less_one
        quarter = int(turns) % 4
    if quarter == 0:
        return +sine, +cosine
    if quarter == 1:
        return +cosine, -sine
    return (-sine, -cosine) if quarter == 2 else (-cosine, +sine)


def _half_sine_squared(square: Decimal, limit: Decimal) -> Decimal:
    """(1 - cos y) / 2 by its power series, without cancellation; `square` is y * y."""
    term = total = square / 4
    k = 2
    while abs(term) > limit:
        term = -term * square / ((k + 1) * (k + 2))
        total += term
        k += 2
    return total


def arc_tangent(x: Decimal, digits: int) -> Decimal:
    """By its power series after six halvings of the angle."""
    with decimal.localcontext(context(digits + 16)):
        for _ in range(6):
            x = x / (1 + (1 + x * x).sqrt())
        square, power, total, k = x * x, x, x, 3
        limit = Decimal(10) ** -(digits + 12)
        while abs(power) > limit:
            power = -power * square
            total += power / k
            k += 2
        total *= 64
    return +total
