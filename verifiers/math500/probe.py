"""Do two expressions have the same value everywhere? By evaluation at points: a proof, or UNSURE.

First exactly (`exact`), then, where roots or transcendental functions occur, with intervals of many digits
(`intervals`). YES is a proof in two classes: equal rational functions of the same unknowns, and exact constants, or
rational functions and trigonometric ones with such coefficients, that agree to far more digits than both texts hold
characters and all numbers on the way hold digits. NO is a proof wherever it is said. Without python-flint the second
step says UNSURE.
"""

from __future__ import annotations

from verifiers.math500.exact import Point, TooBig, Undefined
from verifiers.math500.tree import Node, divides_by_variable, is_polynomial, is_provable, symbols

NO, YES, UNSURE = 0, 1, 2
POINTS = 3


def compare(answer: Node, gold: Node, length: int) -> tuple[int, bool]:
    """(NO | YES | UNSURE, if exact rational numbers alone decided). `length`: characters of both texts.

    Raises `Undefined` where the answer divides by zero.
    """
    if answer[0] == gold[0] == "num":
        return (YES if answer[1] * gold[2] == gold[1] * answer[2] else NO), True
    point = Point(answer, gold)
    try:
        c, d = point.evaluate(gold)
    except TooBig:
        return numerically(answer, gold, length), False
    try:
        a, b = point.evaluate(answer)
    except TooBig:  # not worth computing: no reference needs such a number on the way
        return (YES if numerically(answer, gold, length) == YES else NO), False
    rational = not (point.unknowns or point.variables or point.values)
    if a * d == c * b:
        if not point.unknowns and not rational and leaves_hole(answer, gold):
            return NO, False
        return (YES if rational or agrees_again(answer, gold, point) else UNSURE), rational
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
    if point.variables:
        return False
    if not (point.unknowns or point.values):
        return n < 0
    try:
        from verifiers.math500.intervals import is_below_zero
    except ImportError:  # python-flint is missing
        return False
    return is_below_zero(node)


def agrees_again(answer: Node, gold: Node, point: Point) -> bool:
    """A second point with unrelated values, so that no accident of the first one counts."""
    point = Point("again", point.key)
    try:
        (a, b), (c, d) = point.evaluate(answer), point.evaluate(gold)
    except (TooBig, Undefined):
        return False
    return a * d == c * b


def leaves_hole(answer: Node, gold: Node) -> bool:
    """True if the answer divides by something that varies and the reference does not: (x^2-1)/(x-1) for x+1."""
    return divides_by_variable(answer) and is_polynomial(gold)


def numerically(answer: Node, gold: Node, length: int) -> int:
    """NO if they differ at a point; YES if enough digits agree in a class where that is a proof; else UNSURE."""
    try:
        from verifiers.math500.intervals import agree
    except ImportError:  # python-flint is missing
        return UNSURE
    names = sorted(symbols(answer) | symbols(gold))
    point = Point(answer, gold)
    for k in range(POINTS if names else 1):
        values = {name: point.value_of((name, k)) for name in names}
        equal = agree(answer, gold, values, length + 60 if names else length)
        if not equal:
            return UNSURE if equal is None else NO
    proved = not names or (is_provable(answer) and is_provable(gold) and not leaves_hole(answer, gold))
    return YES if proved else UNSURE
