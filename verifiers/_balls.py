"""High-precision evaluation of expression trees: complex numbers with a bound on their error, by `decimal` alone.

A value is (real part, imaginary part, bound on the absolute error). Where two balls do not meet, the two values
differ: that is a proof. What cannot be bounded (a branch cut, a pole within the error) raises `Undecided`.
"""

from __future__ import annotations

from decimal import Decimal
from math import comb, factorial

from verifiers._elementary import arc_tangent, pi, sine_and_cosine
from verifiers._exact import FACTORIAL_LIMIT, Undefined
from verifiers._trees import Node

Ball = tuple[Decimal, Decimal, Decimal]
ZERO, ONE, TWO = Decimal(0), Decimal(1), Decimal(2)
ARGUMENT_LIMIT = Decimal(10) ** 6  # of sine, cosine, the exponential


class Undecided(Exception):
    """The value cannot be bounded; nothing is known about it."""


class Balls:
    """Evaluates trees at one point; use inside `decimal.localcontext(context(digits))`."""

    def __init__(self, digits: int, values: dict[str, Decimal]) -> None:
        self.digits = digits
        self.values = values
        self.unit = Decimal(10) ** (2 - digits)  # relative error of one rounding, generously
        self.scale = 0  # largest decimal exponent, in size, of anything met

    def rounded(self, re: Decimal, im: Decimal, error: Decimal) -> Ball:
        size = abs(re) + abs(im)
        if size:
            exponent = size.adjusted()
            self.scale = max(self.scale, abs(exponent))
        return re, im, error + size * self.unit

    def add(self, a: Ball, b: Ball) -> Ball:
        return self.rounded(a[0] + b[0], a[1] + b[1], a[2] + b[2] + (size(a) + size(b)) * self.unit)

    def multiply(self, a: Ball, b: Ball) -> Ball:
        error = size(a) * b[2] + size(b) * a[2] + a[2] * b[2] + size(a) * size(b) * self.unit
        if not a[1] and not b[1]:
            return self.rounded(a[0] * b[0], ZERO, error)
        return self.rounded(a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0], error)

    def inverse(self, a: Ball) -> Ball:
        if not a[0] and not a[1] and not a[2]:
            raise Undefined("division by zero")
        least = (abs(a[0]) if not a[1] else (a[0] * a[0] + a[1] * a[1]).sqrt()) - a[2] * TWO
        if least <= 0:
            raise Undecided
        error = a[2] / (least * least)
        if not a[1]:
            return self.rounded(ONE / a[0], ZERO, error)
        norm = a[0] * a[0] + a[1] * a[1]
        return self.rounded(a[0] / norm, -a[1] / norm, error + self.unit / least)

    def whole_power(self, a: Ball, exponent: int) -> Ball:
        if exponent < 0:
            return self.inverse(self.whole_power(a, -exponent))
        result: Ball = (ONE, ZERO, ZERO)
        while exponent:
            if exponent & 1:
                result = self.multiply(result, a)
            exponent >>= 1
            if exponent:
                a = self.multiply(a, a)
        return result

    def evaluate(self, node: Node) -> Ball:
        """Value of a tree; raises `Undefined` for a division by exactly zero."""
        kind = node[0]
        if kind == "num":
            if node[2] == 1:
                return self.rounded(+Decimal(node[1]), ZERO, ZERO)
            return self.rounded(Decimal(node[1]) / Decimal(node[2]), ZERO, ZERO)
        if kind == "sym":
            return self.values[node[1]], ZERO, ZERO
        if kind in ("+", "*"):
            total = self.evaluate(node[1][0])
            for part in node[1][1:]:
                value = self.evaluate(part)
                total = self.add(total, value) if kind == "+" else self.multiply(total, value)
            return total
        if kind == "/":
            return self.multiply(self.evaluate(node[1]), self.inverse(self.evaluate(node[2])))
        if kind == "^":
            return self.power(node[1], node[2])
        if kind == "const":
            return self.constant(node[1])
        if kind == "fn":
            return self.function(node[1], node[2])
        if kind == "pct":
            return self.multiply(self.evaluate(node[1]), (Decimal("0.01"), ZERO, ZERO))
        if kind == "deg":
            turn = (pi(self.digits) / 180, ZERO, self.unit)
            return self.multiply(self.evaluate(node[1]), turn)
        if kind == "paren":
            return self.evaluate(node[1])
        raise Undecided

    def constant(self, name: str) -> Ball:
        if name == "pi":
            return self.rounded(pi(self.digits), ZERO, self.unit)
        if name == "e":
            return self.rounded(ONE.exp(), ZERO, self.unit)
        if name == "i":
            return ZERO, ONE, ZERO
        raise Undecided

    def power(self, base: Node, exponent: Node) -> Ball:
        whole = whole_number(exponent)
        a = self.evaluate(base)
        if whole is not None:
            if abs(whole) > 9999:
                raise Undecided
            if whole == 0 and is_zero(a):
                raise Undefined("0^0")
            return self.whole_power(a, whole)
        if exponent[0] == "/":
            above, below = whole_number(exponent[1]), whole_number(exponent[2])
            if above is not None and below is not None and 1 < below < 1000 and abs(above) < 10_000:
                return self.whole_power(self.root(a, below), above)
        b = self.evaluate(exponent)
        if base == ("const", "e"):
            return self.exponential(b)
        return self.exponential(self.multiply(self.logarithm(a), b))

    def exponential(self, a: Ball) -> Ball:
        if size(a) > ARGUMENT_LIMIT or a[2] > Decimal("0.1"):
            raise Undecided
        length = a[0].exp()
        error = length * (a[2] * TWO + self.unit)
        if not a[1]:
            return self.rounded(length, ZERO, error)
        sine, cosine = sine_and_cosine(a[1], self.digits)
        return self.rounded(length * cosine, length * sine, error * TWO)

    def logarithm(self, a: Ball) -> Ball:
        if a[1] or a[0] - a[2] * TWO <= 0:
            raise Undecided
        value = a[0].ln()
        return self.rounded(value, ZERO, a[2] / (a[0] - a[2]) + self.unit)

    def root(self, a: Ball, degree: int) -> Ball:
        """Real root of a real number where there is one, else the principal square root."""
        if is_zero(a):
            return ZERO, ZERO, ZERO
        if a[1] or (a[0] < 0 and degree % 2 == 0):
            return self.complex_root(a, degree)
        length = abs(a[0])
        if length <= a[2] * TWO:
            raise Undecided
        value = length.sqrt() if degree == 2 else (length.ln() / degree).exp()
        error = value * (a[2] / (length - a[2]) + self.unit * (2 + abs(length.adjusted())))
        return self.rounded(value if a[0] > 0 else -value, ZERO, error)

    def complex_root(self, a: Ball, degree: int) -> Ball:
        if degree != 2:
            raise Undecided
        length = (a[0] * a[0] + a[1] * a[1]).sqrt()
        if length <= a[2] * 4 or (a[1] and abs(a[1]) <= a[2]):
            raise Undecided
        if not a[1]:
            return self.rounded(ZERO, length.sqrt(), a[2] / length.sqrt())
        re = ((length + a[0]) / 2).sqrt() if a[0] >= 0 else abs(a[1]) / (2 * (length - a[0])).sqrt()
        im = a[1] / (2 * re)
        return self.rounded(re, im, (a[2] + length * self.unit * 8) / length.sqrt() * 2)

    def function(self, name: str, arguments: tuple[Node, ...]) -> Ball:
        a = self.evaluate(arguments[0])
        if name == "root":
            degree = whole_number(arguments[1])
            if degree is None or not 0 < degree < 1000:
                raise Undecided
            return self.root(a, degree) if degree > 1 else a
        if name in ("ln", "lg"):
            value = self.logarithm(a)
            ten = (Decimal(10), ZERO, ZERO)
            return value if name == "ln" else self.multiply(value, self.inverse(self.logarithm(ten)))
        if name == "log":
            base = self.logarithm(self.evaluate(arguments[1]))
            return self.multiply(self.logarithm(a), self.inverse(base))
        if name == "exp":
            return self.exponential(a)
        if name == "abs":
            length = abs(a[0]) if not a[1] else (a[0] * a[0] + a[1] * a[1]).sqrt()
            return self.rounded(length, ZERO, a[2])
        if a[1]:
            raise Undecided
        if name in ("!", "binom"):
            return self.counting(name, a, arguments)
        if name in ("asin", "acos", "atan"):
            return self.inverse_trigonometric(name, a)
        return self.trigonometric(name, a)

    def counting(self, name: str, a: Ball, arguments: tuple[Node, ...]) -> Ball:
        n = whole_number(arguments[0])
        if n is None or not 0 <= n <= FACTORIAL_LIMIT:
            raise Undecided
        if name == "!":
            return self.rounded(+Decimal(factorial(n)), ZERO, ZERO)
        k = whole_number(arguments[1])
        if k is None or k < 0:
            raise Undecided
        return self.rounded(+Decimal(comb(n, k)), ZERO, ZERO)

    def trigonometric(self, name: str, a: Ball) -> Ball:
        if abs(a[0]) > ARGUMENT_LIMIT or a[2] > Decimal("0.1"):
            raise Undecided
        sine, cosine = sine_and_cosine(a[0], self.digits)
        error = a[2] + self.unit * 100 * (1 + abs(a[0]))
        s: Ball = (sine, ZERO, error)
        c: Ball = (cosine, ZERO, error)
        if name == "sin":
            return self.rounded(*s)
        if name == "cos":
            return self.rounded(*c)
        if name == "tan":
            return self.multiply(s, self.inverse(c))
        if name == "cot":
            return self.multiply(c, self.inverse(s))
        if name == "sec":
            return self.inverse(c)
        if name == "csc":
            return self.inverse(s)
        raise Undecided

    def inverse_trigonometric(self, name: str, a: Ball) -> Ball:
        x = a[0]
        if name == "atan":
            return self.rounded(arc_tangent(x, self.digits), ZERO, a[2] + self.unit * 100)
        rest = ONE - x * x
        if rest <= a[2] * 4:
            raise Undecided
        value = arc_tangent(x / rest.sqrt(), self.digits)
        error = a[2] / rest.sqrt() * 2 + self.unit * 100 / rest
        return self.rounded(value if name == "asin" else pi(self.digits) / 2 - value, ZERO, error)


def size(a: Ball) -> Decimal:
    """An upper bound of the absolute value, within a factor of the square root of two."""
    return abs(a[0]) + abs(a[1])


def is_zero(a: Ball) -> bool:
    """True if the value is exactly zero."""
    return not a[0] and not a[1] and not a[2]


def whole_number(node: Node) -> int | None:
    """The integer that a literal is, with its sign; None for anything else."""
    if node[0] == "num" and node[1] % node[2] == 0:
        return node[1] // node[2]
    if node[0] == "*" and all(factor[0] == "num" for factor in node[1]):
        n = d = 1
        for factor in node[1][:8]:
            n, d = n * factor[1], d * factor[2]
        return n // d if len(node[1]) <= 8 and n % d == 0 else None
    return None
