"""Do two expressions have the same value everywhere? By evaluation at points.

First exactly (`exact`), then, where roots or transcendental functions occur, with intervals of many digits
(`intervals`), at points of all signs and of two sizes. YES is a proof for equal rational functions of the same
unknowns, and for constants, rational and trigonometric functions that agree to far more digits than both texts hold
characters and all numbers on the way hold digits; for others it says that nothing tells them apart at these points.
NO is a proof wherever it is said. Without python-flint the second step says UNSURE.
"""

from __future__ import annotations

from verifiers.math500.compare.exact import Point, TooBig, Undefined
from verifiers.math500.compare.fold import factors_of
from verifiers.math500.read.tree import (
    ZERO,
    Node,
    divides_by_variable,
    is_polynomial,
    is_whole,
    parts,
    symbols,
)

NO, YES, UNSURE = 0, 1, 2
SCALES = (1, 1, 1, 997, 997)
# At each point the signs of the first variable, the third and so on, and of the others.
SIGNS = ((1, 1), (-1, -1), (1, -1), (-1, 1), (1, 1))
POINTS = len(SCALES)


def compare(answer: Node, gold: Node, length: int) -> tuple[int, bool]:
    """(NO | YES | UNSURE, if exact rational numbers alone decided). `length`: characters of both texts.

    Raises `Undefined` where the answer divides by zero.
    """
    point = Point(answer, gold)
    try:
        c, d = point.evaluate(gold)
    except TooBig:
        return numerically(answer, gold, length), False
    try:
        a, b = (c, d) if answer == gold else point.evaluate(answer)
    except TooBig:  # not worth computing: no reference needs such a number on the way
        return (YES if numerically(answer, gold, length) == YES else NO), False
    rational = not (point.unknowns or point.variables or point.values)
    if a * d == c * b:
        if not point.unknowns and not rational and leaves_hole(answer, gold):
            return NO, False
        alike = rational or answer == gold or agrees_again(answer, gold, point)
        return (YES if alike else UNSURE), rational
    if not point.unknowns:
        return NO, rational
    return numerically(answer, gold, length), False


def is_negative(node: Node) -> bool:
    """True if it is proved that an expression without variables is below 0."""
    point = Point()
    try:
        n, _ = point.evaluate(node)
    except (TooBig, Undefined):
        return False
    exact = not (point.variables or point.unknowns or point.values)
    return n < 0 if exact else not point.variables and is_below_zero(node)


def agrees_again(answer: Node, gold: Node, point: Point) -> bool:
    """A second point with unrelated values, so that no accident of the first one counts."""
    point = Point("again", point.key)
    try:
        (a, b), (c, d) = point.evaluate(answer), point.evaluate(gold)
    except (TooBig, Undefined):
        return False
    return a * d == c * b


def leaves_hole(answer: Node, gold: Node) -> bool:
    """True if the answer divides by something that varies and the reference does not: (x^2-1)/(x-1) for x+1.

    Not by a factorial, which is never 0: n!/(n-2)! for n(n-1).
    """
    return divides_by_variable(answer) and is_polynomial(gold) and not has_factorial(answer)


def has_factorial(node: Node) -> bool:
    return node[:2] == ("fn", "!") or any(map(has_factorial, parts(node)))


def is_below_zero(node: Node) -> bool:
    """True if python-flint proves it; see `intervals`."""
    try:
        from verifiers.math500.compare.intervals import is_below_zero
    except ImportError:
        return False
    return is_below_zero(node)


def numerically(answer: Node, gold: Node, length: int) -> int:
    """NO if they differ at a point; YES if enough digits agree at all points where both are defined; else UNSURE."""
    try:
        from verifiers.math500.compare.intervals import agree
    except ImportError:  # python-flint is missing
        return UNSURE
    names = sorted(symbols(answer) | symbols(gold))
    positive = positive_names(gold) if names else ()
    point, agreed = Point(answer, gold), 0
    for k in range(POINTS if names else 1):
        values = {name: point.value_of((name, k)) for name in names}
        for place, name in enumerate(names):
            values[name] *= SCALES[k] * (1 if name in positive else SIGNS[k][place % 2])
        equal = agree(answer, gold, values, length + 60 * bool(names))
        if equal is False:
            return NO
        agreed += bool(equal)
    return YES if agreed > bool(names) else UNSURE


def positive_names(node: Node) -> frozenset[str]:
    """The factors and divisors below an even root, or under a power that is no whole number and no odd root, that are
    variables."""
    if node[:2] == ("fn", "root"):
        base, degree = node[2]
    else:
        base, degree = node, ZERO
    if base is not node and not (is_whole(degree) and degree[1] % 2):
        factors = [factor for side in factors_of(base) for factor in side]
        return frozenset(factor[1] for factor in factors if factor[0] == "sym")
    return frozenset().union(*map(positive_names, parts(node)))
