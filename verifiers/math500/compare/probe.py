"""Tells by evaluation at points whether two expressions have the same value everywhere.

First exactly (`exact`), then, where roots or transcendental functions occur, with many digits and proved error bounds
(`enclosures`), at points of all signs and of two sizes. YES is a proof for equal rational functions of the same
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

NO, YES, UNSURE = 0, 1, 2  # in this order: lists take the largest verdict of their items, unless one is NO
SCALES = (1, 1, 1, 997, 997)  # at each point, what the values of the variables are multiplied by
# At each point, the sign of the first, third, ... variable and that of the second, fourth, ... one.
SIGNS = ((1, 1), (-1, -1), (1, -1), (-1, 1), (1, 1))
POINTS = len(SCALES)  # at which expressions with variables are compared


def compare(answer: Node, gold: Node, length: int) -> tuple[int, bool]:
    """(NO, YES or UNSURE; True if exact rational numbers alone decided). `length`: characters of both texts.

    Raises `Undefined` where the answer divides by zero.
    """
    point = Point(answer, gold)
    try:
        c, d = point.evaluate(gold)
    except TooBig:
        return compare_numerically(answer, gold, length), False
    try:
        a, b = (c, d) if answer == gold else point.evaluate(answer)
    except TooBig:  # so large a number is worth no more time: only the answer has it
        return (YES if compare_numerically(answer, gold, length) == YES else NO), False
    rational = not (point.unknowns or point.variables or point.values)
    if a * d == c * b:
        if not point.unknowns and not rational and is_undefined_elsewhere(answer, gold):
            return NO, False
        alike = rational or answer == gold or agrees_again(answer, gold, point)
        return (YES if alike else UNSURE), rational
    if not point.unknowns:
        return NO, rational
    return compare_numerically(answer, gold, length), False


def is_negative(node: Node) -> bool:
    """True if an expression is proved to be below 0; never if it has variables."""
    point = Point()
    try:
        n, _ = point.evaluate(node)
    except (TooBig, Undefined):
        return False
    exact = not (point.variables or point.unknowns or point.values)
    return n < 0 if exact else not point.variables and is_below_zero(node)


def agrees_again(answer: Node, gold: Node, point: Point) -> bool:
    """True if both agree at a second point, too; its values are unrelated to those of the first, so that no accident
    counts."""
    point = Point("again", point.key)
    try:
        (a, b), (c, d) = point.evaluate(answer), point.evaluate(gold)
    except (TooBig, Undefined):
        return False
    return a * d == c * b


def is_undefined_elsewhere(answer: Node, gold: Node) -> bool:
    """True if the answer is undefined at a point where the reference is not: (x^2-1)/(x-1) for x+1.

    Told by the form: the answer divides by something with variables and the reference is a polynomial. Answers with a
    factorial are left out, because a factorial is never 0: n!/(n-2)! for n(n-1).
    """
    return divides_by_variable(answer) and is_polynomial(gold) and not has_factorial(answer)


def has_factorial(node: Node) -> bool:
    """True if a factorial stands in an expression."""
    return node[:2] == ("fn", "!") or any(map(has_factorial, parts(node)))


def is_below_zero(node: Node) -> bool:
    """True if python-flint proves that an expression is below 0 (see `enclosures`); False without python-flint."""
    try:
        from verifiers.math500.compare.enclosures import is_below_zero
    except ImportError:
        return False
    return is_below_zero(node)


def compare_numerically(answer: Node, gold: Node, length: int) -> int:
    """NO if two expressions differ at a point; YES if enough digits agree where both are defined; else UNSURE."""
    try:
        from verifiers.math500.compare.enclosures import values_agree
    except ImportError:  # python-flint is missing
        return UNSURE
    names = sorted(symbols(answer) | symbols(gold))
    positive = positive_names(gold) if names else ()
    point, agreed = Point(answer, gold), 0
    for k in range(POINTS if names else 1):
        values = {name: point.value_of((name, k)) for name in names}
        for place, name in enumerate(names):
            values[name] *= SCALES[k] * (1 if name in positive else SIGNS[k][place % 2])
        equal = values_agree(answer, gold, values, length + 60 * bool(names))
        if equal is False:
            return NO
        agreed += bool(equal)
    return YES if agreed > bool(names) else UNSURE


def positive_names(node: Node) -> frozenset[str]:
    """The variables that are factors or divisors under a root whose degree is no odd number: x and y of \\sqrt{x/y}."""
    if node[:2] == ("fn", "root"):
        base, degree = node[2]
    else:
        base, degree = node, ZERO
    if base is not node and not (is_whole(degree) and degree[1] % 2):
        factors = [factor for side in factors_of(base) for factor in side]
        return frozenset(factor[1] for factor in factors if factor[0] == "sym")
    return frozenset().union(*map(positive_names, parts(node)))
