"""Tells by evaluation at points whether two expressions have the same value everywhere.

First they are evaluated exactly (`exact`). Where roots or transcendental functions occur, they are then evaluated with
many digits and proved error bounds (`enclosures`), at points of all signs and of two sizes; without python-flint, the
verdict is UNSURE there.

NO is always a proof. YES is a proof in two cases: for equal rational functions of the same unknowns; and for constants,
rational and trigonometric functions that agree to far more digits than both texts have characters and all numbers on
the way have digits. For other functions, YES says that no point tells them apart.
"""

from __future__ import annotations

from verifiers.math500.compare.exact import Point, TooBig, Undefined
from verifiers.math500.compare.normal_form import factors_of
from verifiers.math500.tree import (
    Node,
    divides_by_variable,
    is_polynomial,
    is_whole,
    parts,
    symbols,
)

NO, YES, UNSURE = 0, 1, 2
"""Verdicts, in this order: the verdict on a list is NO if an item is NO, else the largest verdict of its items."""
SCALES = (1, 1, 1, 997, 997)  # at each point, what the values of the variables are multiplied by
# At each point: (the sign of the first, third, ... variable, the sign of the second, fourth, ... variable).
SIGNS = ((1, 1), (-1, -1), (1, -1), (-1, 1), (1, 1))
POINTS = len(SCALES)  # how many points expressions with variables are compared at
LENGTH_FOR_VARIABLES = 60
"""Characters that are added to the length of texts with variables, so that more digits are compared."""


def compare(answer: Node, gold: Node, length: int) -> tuple[int, bool]:
    """(NO, YES or UNSURE; True if exact rational numbers alone decided). `length`: characters of both texts.

    Raises `Undefined` where the answer divides by zero.
    """
    point = Point(answer, gold)
    # At this point, the answer has the value a/b and the reference the value c/d.
    try:
        c, d = point.evaluate(gold)
    except TooBig:
        return compare_numerically(answer, gold, length, point), False
    try:
        a, b = (c, d) if answer == gold else point.evaluate(answer)
    except TooBig:  # only the answer has so large a number, so it is worth no more time
        return (YES if compare_numerically(answer, gold, length, point) == YES else NO), False
    rational = not (point.unknowns or point.variables or point.values)  # `values` also has pi
    if a * d == c * b:
        if not point.unknowns and not rational and is_undefined_elsewhere(answer, gold):
            return NO, False
        alike = rational or answer == gold or agrees_again(answer, gold, point)
        return (YES if alike else UNSURE), rational
    if not point.unknowns:
        return NO, rational
    return compare_numerically(answer, gold, length, point), False


def is_negative(node: Node) -> bool:
    """True if an expression is proved to be below 0; never if it has variables."""
    point = Point()
    try:
        n, _ = point.evaluate(node)
    except (TooBig, Undefined):
        return False
    if point.variables:
        return False
    is_exact = not (point.unknowns or point.values)  # `values` also has pi
    return n < 0 if is_exact else is_below_zero(node)


def agrees_again(answer: Node, gold: Node, point: Point) -> bool:
    """True if both also agree at a second point, so that agreement by accident does not count.

    The values of the second point are unrelated to the values of `point`, the first one.
    """
    second = Point("again", point.digest)
    try:
        (a, b), (c, d) = second.evaluate(answer), second.evaluate(gold)
    except (TooBig, Undefined):
        return False
    return a * d == c * b


def is_undefined_elsewhere(answer: Node, gold: Node) -> bool:
    """True if the answer is undefined at a point where the reference is not: (x^2-1)/(x-1) for x+1.

    This is told by the form: the answer divides by something with variables and the reference is a polynomial. Answers
    with a factorial do not count, because a factorial is never 0: n!/(n-2)! for n(n-1).
    """
    return divides_by_variable(answer) and is_polynomial(gold) and not has_factorial(answer)


def has_factorial(node: Node) -> bool:
    """True if a factorial stands in an expression."""
    return node[:2] == ("fn", "!") or any(map(has_factorial, parts(node)))


def is_below_zero(node: Node) -> bool:
    """True if python-flint proves that an expression is below 0 (see `enclosures`); False without python-flint."""
    try:
        from verifiers.math500.compare.enclosures import is_below_zero as is_proved_below_zero
    except ImportError:
        return False
    return is_proved_below_zero(node)


def compare_numerically(answer: Node, gold: Node, length: int, point: Point) -> int:
    """NO if two expressions differ at a point; YES if they agree where both are defined; else UNSURE.

    With variables, they must agree at two points at least. The values of the variables come from `point`.
    """
    try:
        from verifiers.math500.compare.enclosures import values_agree
    except ImportError:  # python-flint is missing
        return UNSURE
    names = sorted(symbols(answer) | symbols(gold))
    positive = positive_names(gold) if names else ()
    points_agreeing = 0
    points, points_needed = (POINTS, 2) if names else (1, 1)
    length_compared = length + (LENGTH_FOR_VARIABLES if names else 0)
    for k in range(points):
        values = {name: point.value_of((name, k)) for name in names}
        for place, name in enumerate(names):
            sign = 1 if name in positive else SIGNS[k][place % 2]
            values[name] *= sign * SCALES[k]
        equal = values_agree(answer, gold, values, length_compared)
        if equal is False:
            return NO
        if equal:  # it is None if this cannot be told
            points_agreeing += 1
    return YES if points_agreeing >= points_needed else UNSURE


def positive_names(node: Node) -> frozenset[str]:
    """The variables that are factors or divisors under a root whose degree is no odd number: x and y of \\sqrt{x/y}."""
    if node[:2] == ("fn", "root"):
        radicand, degree = node[2]
        is_odd = is_whole(degree) and degree[1] % 2 == 1
        if not is_odd:
            above, below = factors_of(radicand)
            return frozenset(factor[1] for factor in (*above, *below) if factor[0] == "sym")
    return frozenset().union(*map(positive_names, parts(node)))
