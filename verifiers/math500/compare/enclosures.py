r"""Evaluation of expression trees at high precision: real and complex numbers with a proved bound on their error.

For `\sqrt{8}` and `2\sqrt{2}`, and for `\int_0^1 2x\,dx` and `1`. (Answers such as `[2, 5)` are in regions.py.)

Arb (python-flint) does the arithmetic. An `Enclosure` is a number with its error bound. If the enclosures of two values
do not meet, it is proved that the values differ. `Undecided` is raised where no bound is known (a branch cut, a pole
within the error). In a tree, ("num", n, d) is the number n/d and ("*", factors) a product (see tree.py).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, reduce
from operator import add, mul

from flint import acb, arb, ctx, fmpq

from verifiers.math500.compare.exact import Point, TooBig, Undefined, reduced
from verifiers.math500.tree import BOUND, ONE, TRIGONOMETRIC, Node, parts

Enclosure = arb | acb  # a real number or a complex number, with a bound on its error
BITS_PER_DIGIT = 3.3219281  # log2(10)
ARGUMENT_LIMIT = 10**6  # largest argument of a sine, a cosine and the like
FIRST_DIGITS = 80  # decimal digits of the first evaluation; longer texts get more, up to the limit below
FIRST_DIGITS_LIMIT = 300
DIGIT_LIMIT = 2_000  # decimal digits of the second evaluation
GAMMA_LIMIT = 10**4  # largest n of n!
TERM_LIMIT = 200  # terms of a sum
EVALUATION_LIMIT = 2_000  # evaluations of the function under an integral
NODE_LIMIT = 10_000  # nodes that are evaluated for one pair of values, also under integrals
NODE_LIMIT_AT_A_POINT = 2_000  # the same if there are variables, since these get several points
NO_QUOTIENT = (0, 0)  # what `quotient_of` returns for an expression that is no rational number
# Functions that python-flint has under our names, beside TRIGONOMETRIC.
OTHER_METHODS = frozenset("asin acos atan sinh cosh tanh sech csch coth".split())
_precision = threading.Lock()  # python-flint has one precision for all threads


class Undecided(Exception):
    """The error of a value cannot be bounded."""


@contextmanager
def precision(digits: int) -> Iterator[None]:
    """Evaluates with this many decimal digits in the `with` block; one thread at a time."""
    with _precision:
        before, ctx.prec = ctx.prec, int(digits * BITS_PER_DIGIT) + 1
        try:
            yield
        finally:
            ctx.prec = before


def _after_fork() -> None:
    """Makes a new lock in a child process."""
    global _precision
    _precision = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)


def values_agree(answer: Node, gold: Node, values: dict[str, int], length: int) -> bool | None:
    """True if two values agree to enough digits, False if their enclosures do not meet, None if that cannot be told.

    `values`: {variable: its value in units of 2^-59}; so the integers of a `Point`, below 2^61, are values below 4.
    `length`: characters of both texts. The longer they are, and the larger or smaller the numbers on the way, the more
    digits must agree.
    """
    digits = min(FIRST_DIGITS + 2 * length, FIRST_DIGITS_LIMIT)
    for _ in range(2):  # the first evaluation shows how many `digits` the second one needs
        with precision(digits):
            evaluation = Evaluation(values, nodes=NODE_LIMIT_AT_A_POINT if values else NODE_LIMIT)
            try:
                b = evaluation.evaluate(gold)
                a = evaluation.evaluate(answer)
            except Undecided:
                return None
            if not (a - b).contains(0):
                return False
            scale = evaluation.scale()
            wanted = 30 + 2 * length + 4 * scale  # how many decimal digits must agree
            size = 1 if a.contains(0) and b.contains(0) else abs(a) + abs(b)
            if abs(a - b) <= size * arb(10) ** -wanted:
                return True
        digits = min(wanted + scale + 40, DIGIT_LIMIT)  # 40 more, since the error takes some of them
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
    """Evaluates trees at one point, inside a `with precision(digits)`."""

    def __init__(self, values: dict[str, int], nodes: int = NODE_LIMIT) -> None:
        """`nodes`: how many nodes may be evaluated before `Undecided` is raised."""
        self.nodes_left = nodes  # how many more nodes may be evaluated
        self.values: dict[str, Enclosure] = {
            name: arb(fmpq(value, 1 << 59)) for name, value in values.items()
        }
        self.met: list[Enclosure] = []  # the values of all nodes so far

    def evaluate(self, node: Node) -> Enclosure:
        """The value of a tree; raises `Undecided` if it is not finite or too many nodes were evaluated."""
        value = EVALUATED.get(node[0], Evaluation.undecided)(self, node)
        self.nodes_left -= 1
        if self.nodes_left < 0 or not value.is_finite():
            raise Undecided
        self.met.append(value)
        return value

    def scale(self) -> int:
        """The largest absolute decimal exponent of the values met so far that are not zero: 3 for 0.002 and 20."""
        return max((decimal_exponent(value) for value in self.met if not value.contains(0)), default=0)

    def undecided(self, *nodes: Node) -> Enclosure:
        raise Undecided(nodes)

    def number(self, node: Node) -> Enclosure:
        return arb(fmpq(node[1], node[2]))

    def named(self, node: Node) -> Enclosure:
        """The value of a variable or a constant; NaN for infinity, which `evaluate` then refuses."""
        value = self.values.get(node[1])
        return CONSTANTS.get(node[1], arb.nan)() if value is None else value

    def sum(self, node: Node) -> Enclosure:
        return reduce(add, map(self.evaluate, node[1]))

    def product(self, node: Node) -> Enclosure:
        return reduce(mul, map(self.evaluate, node[1]))

    def quotient(self, node: Node) -> Enclosure:
        return self.evaluate(node[1]) / self.evaluate(node[2])

    def bracketed(self, node: Node) -> Enclosure:
        return self.evaluate(node[1])

    def percent(self, node: Node) -> Enclosure:
        return self.evaluate(node[1]) / 100

    def degree(self, node: Node) -> Enclosure:
        return self.evaluate(node[1]) * arb.pi() / 180

    def power(self, node: Node) -> Enclosure:
        """The value of a power: the real root of a real number if it exists, else the principal value."""
        base = self.evaluate(node[1])
        n, d = quotient_of(node[2])  # the exponent n/d; d is 0 if it is no rational number
        exponent = fmpq(n, d) if d else self.evaluate(node[2])
        if d == 1 or (isinstance(base, arb) and base >= 0):
            return base**exponent
        if isinstance(base, arb) and base < 0 and d % 2 == 1:
            root = (-base) ** exponent
            return -root if n % 2 == 1 else root  # an odd root of a negative number
        if d > 2:
            raise Undecided("one of several roots")
        return acb(base) ** exponent  # d is 2, or 0: the principal value

    def function(self, node: Node) -> Enclosure:
        return FUNCTIONS.get(node[1], Evaluation.undecided)(self, *node[2])

    def root(self, base: Node, degree: Node) -> Enclosure:
        return self.power(("^", base, ("/", ONE, degree)))

    def integral(self, low: Node, high: Node, body: Node) -> Enclosure:
        """The integral of a function without branch cuts over a finite interval; raises `Undecided` for any other."""
        if not is_smooth(body):
            raise Undecided("a branch cut")
        start, end = self.evaluate(low), self.evaluate(high)
        inner = Evaluation({}, nodes=self.nodes_left)
        inner.values = dict(self.values)  # these are enclosures, which `Evaluation` does not take

        def value(point: acb, _: bool) -> acb:
            inner.values[BOUND[1]] = point
            try:
                return acb(inner.evaluate(body))
            except Undecided:
                return acb("nan")

        enclosure = acb.integral(value, start, end, eval_limit=EVALUATION_LIMIT)
        self.nodes_left = inner.nodes_left
        return enclosure

    def terms(self, low: Node, high: Node, body: Node) -> Iterator[Enclosure]:
        """The values of the terms of a sum, or of the factors of a product."""
        first, divisor_of_first = quotient_of(low)
        last, divisor_of_last = quotient_of(high)
        are_whole = divisor_of_first == 1 and divisor_of_last == 1
        if not are_whole or last - first >= TERM_LIMIT:
            raise Undecided("bounds")
        for place in range(first, last + 1):
            self.values[BOUND[1]] = arb(place)
            yield self.evaluate(body)

    def repeated_sum(self, *bounds: Node) -> Enclosure:
        return reduce(add, self.terms(*bounds), arb(0))

    def repeated_product(self, *bounds: Node) -> Enclosure:
        return reduce(mul, self.terms(*bounds), arb(1))


CONSTANTS: dict[str, Callable[[], Enclosure]] = {"pi": arb.pi, "e": arb.const_e, "i": lambda: acb(0, 1)}
# {kind of node: the method that evaluates it}
EVALUATED: dict[str, Callable[[Evaluation, Node], Enclosure]] = {
    "num": Evaluation.number,
    "sym": Evaluation.named,
    "const": Evaluation.named,
    "+": Evaluation.sum,
    "*": Evaluation.product,
    "/": Evaluation.quotient,
    "^": Evaluation.power,
    "fn": Evaluation.function,
    "paren": Evaluation.bracketed,
    "pct": Evaluation.percent,
    "deg": Evaluation.degree,
}


@lru_cache(1024)
def quotient_of(node: Node) -> tuple[int, int]:
    """An expression as a fraction in lowest terms, if it is a rational number; else NO_QUOTIENT."""
    point = Point()
    try:
        value = reduced(*point.evaluate(node))
    except (Undefined, TooBig):
        return NO_QUOTIENT
    return NO_QUOTIENT if point.values else value


def is_smooth(node: Node) -> bool:
    """True if an expression has only sums, products, quotients, whole powers, exponentials and sines or the like."""
    if node[0] == "fn" and node[1] not in TRIGONOMETRIC:
        return False
    if node[0] == "^" and node[1] != ("const", "e"):
        _, divisor = quotient_of(node[2])
        if divisor != 1:
            return False  # a root
    return all(map(is_smooth, parts(node)))


def decimal_exponent(value: Enclosure) -> int:
    """The absolute value of the decimal exponent of a number: 3 for 0.002."""
    mantissa, exponent = abs(value).mid().man_exp()
    bits = int(exponent) + int(mantissa).bit_length() - 1  # the number is about 2^bits
    # Bits are divided by bits per digit, both as integers, since `bits` may be too large for a float.
    return abs(bits * 1_000_000 // int(BITS_PER_DIGIT * 1_000_000))


def logarithm(a: Enclosure) -> Enclosure:
    """The principal value of the natural logarithm."""
    return a.log() if isinstance(a, acb) or a > 0 else acb(a).log()


def factorial(a: Enclosure) -> Enclosure:
    """a!, by the gamma function, so also of numbers that are not whole."""
    return (within(a, GAMMA_LIMIT) + 1).gamma()


def within(a: Enclosure, limit: int) -> Enclosure:
    """`a` as it is; raises `Undecided` if its absolute value may be above the limit."""
    if not abs(a) <= limit:  # for enclosures that is not the same as >
        raise Undecided("too large")
    return a


def applied_to_nodes(compute: Callable[..., Enclosure]) -> Callable[..., Enclosure]:
    """A function of an `Evaluation` and expressions, which gives the values of the expressions to `compute`."""
    return lambda self, *arguments: compute(*map(self.evaluate, arguments))


def flint_function(name: str) -> Callable[[Enclosure], Enclosure]:
    """The function that calls a method of python-flint: sin, cosh."""
    return lambda a: getattr(within(a, ARGUMENT_LIMIT), name)()


# {name of a function: what evaluates it, from an `Evaluation` and the arguments}
FUNCTIONS: dict[str, Callable[..., Enclosure]] = {
    "int": Evaluation.integral,
    "sum": Evaluation.repeated_sum,
    "prod": Evaluation.repeated_product,
    "root": Evaluation.root,
    "ln": applied_to_nodes(logarithm),
    "log": applied_to_nodes(lambda a, base: logarithm(a) / logarithm(base)),
    "abs": applied_to_nodes(abs),
    "floor": applied_to_nodes(lambda a: acb(a).real_floor()),
    "ceil": applied_to_nodes(lambda a: acb(a).real_ceil()),
    "!": applied_to_nodes(factorial),
    "binom": applied_to_nodes(lambda n, k: factorial(n) / (factorial(k) * factorial(n - k))),
    **{name: applied_to_nodes(flint_function(name)) for name in TRIGONOMETRIC | OTHER_METHODS},
}
