"""Evaluation of expression trees at high precision: real and complex numbers with a proved bound on their error.

The arithmetic is that of Arb (python-flint). Where the intervals of two values do not meet, the values differ: that
is a proof. What cannot be bounded (a branch cut, a pole within the error) raises `Undecided`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from math import comb, factorial, prod
from operator import add, mul

from flint import acb, arb, ctx, fmpq

from verifiers.math500.exact import EXPONENT_LIMIT, FACTORIAL_LIMIT, TERMS_LIMIT, repeated
from verifiers.math500.tree import BOUND, REPEATED, TRIGONOMETRIC, Node, parts

Interval = arb | acb  # a real number, or a complex one
BITS_PER_DIGIT = 3.3219281
ARGUMENT_LIMIT = 10**6  # of sine, cosine, the exponential
DEGREE_LIMIT = 999  # of a root
SCALE_LIMIT = 10**7
FIRST_DIGITS = 50
DIGIT_LIMIT = 2_000
GAMMA_LIMIT = 10**4
EVALUATION_LIMIT = 2_000  # of the function below an integral
NODE_LIMIT = 10_000  # of expressions that are evaluated for one pair of values, also below integrals
NODE_LIMIT_AT_A_POINT = 2_000  # the same where there are variables, which have several points
_precision = threading.Lock()  # python-flint has one precision for all threads


class Undecided(Exception):
    """The value cannot be bounded."""


@contextmanager
def precision(digits: int) -> Iterator[None]:
    """Evaluate with so many decimal digits; one thread at a time."""
    with _precision:
        before, ctx.prec = ctx.prec, int(digits * BITS_PER_DIGIT) + 1
        try:
            yield
        finally:
            ctx.prec = before


def _after_fork() -> None:
    global _precision
    _precision = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def agree(answer: Node, gold: Node, values: dict[str, int], length: int) -> bool | None:
    """False if the intervals of the two values do not meet, True if they agree to the digits that prove it, or None.

    `values`: of the variables, in units of 2^-59. `length`: characters of both texts.
    """
    digits = FIRST_DIGITS
    while digits <= DIGIT_LIMIT:
        with precision(digits):
            evaluation = Evaluation(values, NODE_LIMIT_AT_A_POINT if values else NODE_LIMIT)
            try:
                b = evaluation.evaluate(gold)
                a = evaluation.evaluate(answer)
            except Undecided:
                return None
            if not (a - b).contains(0):
                return False
            scale = evaluation.scale()
            if scale > SCALE_LIMIT:
                return None
            wanted = 30 + 2 * length + 4 * scale
            size = 1 if a.contains(0) and b.contains(0) else abs(a) + abs(b)
            if abs(a - b) <= size * arb(10) ** -wanted:
                return True
        if digits >= wanted + scale + 30:
            return None
        digits = wanted + scale + 40
    return None


def is_below_zero(node: Node) -> bool:
    """True if it is proved that the value of an expression without variables is real and negative."""
    with precision(FIRST_DIGITS):
        try:
            value = Evaluation({}).evaluate(node)
        except Undecided:
            return False
        return isinstance(value, arb) and bool(value < 0)


class Evaluation:
    """Evaluates trees at one point; use inside `precision(digits)`."""

    def __init__(self, values: dict[str, int], nodes: int = NODE_LIMIT) -> None:
        """`nodes`: how many it may evaluate before it is `Undecided`."""
        self.left, self.terms = nodes, 0
        self.values: dict[str, Interval] = {name: arb(fmpq(value, 1 << 59)) for name, value in values.items()}
        self.met: list[Interval] = []

    def evaluate(self, node: Node) -> Interval:
        kind = node[0]
        if kind == "sym":
            return self.values[node[1]]
        self.left -= 1
        if self.left < 0:
            raise Undecided
        value = self.function(node[1], node[2]) if kind == "fn" else self.arithmetic(kind, node)
        if not value.is_finite():
            raise Undecided
        if isinstance(value, acb) and value.imag.is_zero():
            value = value.real
        self.met.append(value)
        return value

    def scale(self) -> int:
        """The largest decimal exponent, in size, of anything met that is not zero."""
        scale = 0
        for value in self.met:
            if not value.contains(0):
                mantissa, exponent = abs(value).mid().man_exp()
                bits = int(exponent) + int(mantissa).bit_length() - 1
                scale = max(scale, abs(int(bits // BITS_PER_DIGIT)))
        return scale

    def arithmetic(self, kind: str, node: Node) -> Interval:
        if kind == "num":
            return arb(node[1]) if node[2] == 1 else arb(fmpq(node[1], node[2]))
        if kind in ("+", "*"):
            return reduce(add if kind == "+" else mul, map(self.evaluate, node[1]))
        if kind == "/":
            return self.evaluate(node[1]) / self.evaluate(node[2])
        if kind == "^":
            return self.power(node[1], node[2])
        if kind == "const":
            return self.constant(node[1])
        value = self.evaluate(node[1])
        if kind == "pct":
            return value / 100
        return value * arb.pi() / 180 if kind == "deg" else value

    def constant(self, name: str) -> Interval:
        if name in self.values:  # of an integral
            return self.values[name]
        if name not in ("pi", "e", "i"):
            raise Undecided
        return acb(0, 1) if name == "i" else arb.pi() if name == "pi" else arb.const_e()

    def power(self, base: Node, exponent: Node) -> Interval:
        a = self.evaluate(base)
        whole = whole_number(exponent)
        if whole is not None:
            return whole_power(a, whole)
        if exponent[0] == "/":
            above, below = map(whole_number, exponent[1:])
            if None not in (above, below) and 1 < below <= DEGREE_LIMIT and abs(above) <= EXPONENT_LIMIT:
                return whole_power(root(a, below), above)
        b = self.evaluate(exponent)
        return exponential(b if base == ("const", "e") else logarithm(a) * b)

    def integral(self, low: Node, high: Node, body: Node) -> Interval:
        """The integral of a function without branch cuts over a finite interval."""
        if not is_smooth(body):
            raise Undecided
        start, end = self.evaluate(low), self.evaluate(high)
        inner = Evaluation({}, self.left)
        inner.values = dict(self.values)

        def value(point: acb, _: bool) -> acb:
            inner.values[BOUND[1]] = point
            try:
                return acb(inner.evaluate(body))
            except Undecided:
                return acb("nan")

        whole = acb.integral(value, start, end, eval_limit=EVALUATION_LIMIT)
        self.left = inner.left
        return whole

    def function(self, name: str, arguments: tuple[Node, ...]) -> Interval:
        if name == "int":
            return self.integral(*arguments)
        if name in REPEATED:
            nodes = repeated(("fn", name, arguments))
            self.terms += len(nodes)
            if not nodes or self.terms > TERMS_LIMIT:
                raise Undecided
            return self.evaluate(("+" if name == "sum" else "*", nodes))
        a = self.evaluate(arguments[0])
        if name == "root":
            degree = whole_number(arguments[1])
            if degree is None or not 0 < degree <= DEGREE_LIMIT:
                raise Undecided
            return root(a, degree)
        if name == "ln":
            return logarithm(a)
        if name == "log":
            return logarithm(a) / logarithm(self.evaluate(arguments[1]))
        if name in ("floor", "ceil") and isinstance(a, arb) and (value := getattr(a, name)()).is_exact():
            return value
        if name in ("exp", "abs"):
            return exponential(a) if name == "exp" else abs(a)
        if name in ("!", "binom"):
            numbers = [whole_number(argument) for argument in arguments]
            if None in numbers:
                return by_gamma(a, *map(self.evaluate, arguments[1:]))
            if min(numbers) < 0 or numbers[0] > FACTORIAL_LIMIT:
                raise Undecided
            return arb(factorial(*numbers) if name == "!" else comb(*numbers))
        within = bool(abs(a) < 1) if name in ("asin", "acos") else name == "atan" or is_moderate(a)
        known = TRIGONOMETRIC if isinstance(a, acb) else TRIGONOMETRIC | {"asin", "acos", "atan"}
        if name not in known or not within:
            raise Undecided
        return getattr(a, name)()


def by_gamma(a: Interval, *others: Interval) -> Interval:
    """The factorial of a real number, or the binomial coefficient of two."""
    for b in others:
        return by_gamma(a) / (by_gamma(b) * by_gamma(a - b))
    if isinstance(a, acb) or not abs(a) < GAMMA_LIMIT:
        raise Undecided
    return (a + 1).gamma()


def is_smooth(node: Node) -> bool:
    """True for sums, products, quotients, whole powers, exponentials and sines."""
    if node[0] == "fn" and node[1] not in TRIGONOMETRIC:
        return False
    if node[0] == "^" and node[1] != ("const", "e") and whole_number(node[2]) is None:
        return False
    return all(map(is_smooth, parts(node)))


def whole_power(a: Interval, exponent: int) -> Interval:
    if abs(exponent) > EXPONENT_LIMIT or (exponent <= 0 and a.contains(0)):
        raise Undecided
    return a**exponent


def is_moderate(a: Interval) -> bool:
    """True where an exponential or a sine of it says something."""
    return abs(a) <= ARGUMENT_LIMIT and a.rad() < (4 if isinstance(a, acb) else 0.1)


def exponential(a: Interval) -> Interval:
    if not is_moderate(a):
        raise Undecided
    return a.exp()


def logarithm(a: Interval) -> Interval:
    """The principal value."""
    if a.contains(0):
        raise Undecided
    return a.log() if isinstance(a, acb) or a > 0 else acb(a).log()


def root(a: Interval, degree: int) -> Interval:
    """Real root of a real number where there is one, else the principal square root."""
    if degree == 1 or a.is_zero():
        return a
    if a.contains(0):
        raise Undecided
    if isinstance(a, arb):
        if a > 0:
            return a.root(degree)
        if degree % 2:
            return -(-a).root(degree)
        a = acb(a)
    if degree != 2:
        raise Undecided
    return a.sqrt()


def whole_number(node: Node) -> int | None:
    """The integer that a literal is, with its sign; None for anything else."""
    if node[0] == "num":
        return node[1] // node[2] if node[1] % node[2] == 0 else None
    factors = node[1] if node[0] == "*" else (node,)
    if len(factors) > 8 or any(factor[0] != "num" for factor in factors):
        return None
    n, d = (prod(factor[place] for factor in factors) for place in (1, 2))
    return n // d if n % d == 0 else None
