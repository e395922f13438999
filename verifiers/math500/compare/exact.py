"""Exact evaluation of expression trees at rational points; what has no rational value becomes an unknown.

For `0.5` and `\\frac{2}{4}`, and for `(x+1)^2` and `x^2+2x+1`.

Every variable gets a 61-bit integer derived from texts (see `Point`). So does each unknown: a root, a logarithm, a
factorial, pi, i, ... that has no rational value. The same function of equal arguments gets the same integer. If two
trees then agree, they are the same rational function of the same unknowns, so agreement proves equality
(Schwartz-Zippel: a wrong agreement has a chance below degree / 2^61). A difference proves that the values differ only
if there are no unknowns, or none but pi, which is transcendental.

In a tree, ("num", n, d) is the number n/d and ("*", factors) a product (see tree.py).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from hashlib import blake2b
from math import ceil, comb, factorial, floor, gcd, lcm

from verifiers.math500.tree import ATOMS, INFINITY, Node
from verifiers.verdicts import encoded

BIT_LIMIT = 20_000  # bits of a numerator or denominator
EXPONENT_LIMIT = 9_999
FACTORIAL_LIMIT = 1_000  # the largest n whose n! is computed
VALUES_OF_A_DIGEST = 8  # how many integers of 8 bytes a digest has

Quotient = tuple[int, int]  # (numerator, denominator > 0)


class Undefined(ArithmeticError):
    """The expression divides by zero, or has infinity where a number belongs."""


class TooBig(Exception):
    """A number is larger than is worth computing."""


class Point:
    """The point at which trees are evaluated: an integer for every variable and unknown, made when it is first met.

    The integers are derived from `texts`, so that no answer can be made to fit them without the reference.
    """

    def __init__(self, *texts: object) -> None:
        self.texts = texts
        self.values: dict[object, int] = {}
        self.digest = b""  # the latest integers were made from it; when it is used up, a new one is made
        self.unknowns = False  # True once an unknown other than pi was met; then a difference proves nothing
        self.variables = False  # True once a variable was met

    def value_of(self, key: object) -> int:
        """The integer of a variable or an unknown, odd and below 2^61."""
        return self.values.get(key) or self.made_value(key)

    def made_value(self, key: object) -> int:
        """A new integer for a variable or an unknown that was not met before."""
        place = len(self.values) % VALUES_OF_A_DIGEST
        if place == 0:
            try:
                texts = self.digest, *self.texts
                self.digest = blake2b(encoded("\0".join(map(repr, texts)))).digest()
            except ValueError:  # Python prints no integer of more than 4,300 digits
                raise TooBig from None
        of_64_bits = int.from_bytes(self.digest[8 * place : 8 * place + 8], "big")
        value = (of_64_bits >> 3) | 1
        self.values[key] = value
        return value

    def unknown(self, *key: object) -> Quotient:
        """The value of the unknown for a function and its arguments: "root", (2, 1), (2, 1) for the root of 2."""
        self.unknowns = True
        return self.value_of(key), 1

    def evaluate(self, node: Node) -> Quotient:
        """The value of a tree as (numerator, denominator > 0), not in lowest terms."""
        return EVALUATED[node[0]](self, node)

    def undefined(self, node: Node) -> Quotient:
        raise Undefined(node[0])

    def number(self, node: Node) -> Quotient:
        return node[1:]

    def symbol(self, node: Node) -> Quotient:
        self.variables = True
        return self.value_of(node[1]), 1

    def sum(self, node: Node) -> Quotient:
        first, *others = node[1]
        n, d = EVALUATED[first[0]](self, first)  # `evaluate` without its call, which takes time
        for term in others:
            a, b = EVALUATED[term[0]](self, term)
            n, d = bounded(n + a, d) if b == d else bounded(n * b + a * d, d * b)
        return n, d

    def product(self, node: Node) -> Quotient:
        n = d = 1
        for factor in node[1]:
            a, b = EVALUATED[factor[0]](self, factor)
            n, d = bounded(n * a, d * b)
        return n, d

    def quotient(self, node: Node) -> Quotient:
        return divided(*self.evaluate(node[1]), *self.evaluate(node[2]))

    def power(self, node: Node) -> Quotient:
        """The value of a power with a whole exponent; any other power is an unknown."""
        base = self.evaluate(node[1])
        exponent, divisor = reduced(*self.evaluate(node[2]))
        degree = abs(exponent)
        if divisor != 1 or degree > EXPONENT_LIMIT:
            return self.unknown("^", *reduced(*base), exponent, divisor)
        n, d = base if exponent > 0 else divided(1, 1, *base)  # 0^0 is undefined
        if max(n.bit_length(), d.bit_length()) * degree > BIT_LIMIT:
            raise TooBig
        return n**degree, d**degree

    def constant(self, node: Node) -> Quotient:
        if node == INFINITY:
            raise Undefined("infinity")
        return (self.value_of("pi"), 1) if node[1] == "pi" else self.unknown(node[1])

    def bracketed(self, node: Node) -> Quotient:
        return self.evaluate(node[1])

    def percent(self, node: Node) -> Quotient:
        n, d = self.evaluate(node[1])
        return n, d * 100

    def degree(self, node: Node) -> Quotient:
        n, d = self.evaluate(node[1])
        return n * self.value_of("pi"), d * 180

    def function(self, node: Node) -> Quotient:
        """The rational value of a function of rational numbers, such as gcd(4, 6); any other function is an unknown."""
        values = [reduced(*self.evaluate(argument)) for argument in node[2]]
        are_whole = all(d == 1 and 0 <= n <= FACTORIAL_LIMIT for n, d in values)
        compute = OF_RATIONALS.get(node[1])
        if compute is None and are_whole:
            compute = OF_WHOLE.get(node[1])
        # An argument with a variable or an unknown has a made-up value.
        is_known = compute and not self.values
        value = compute(*(Fraction(n, d) for n, d in values)) if is_known else None
        return self.unknown(node[1], *values) if value is None else value.as_integer_ratio()


# {kind of node: the method that evaluates it}
EVALUATED: dict[str, Callable[[Point, Node], Quotient]] = {
    **dict.fromkeys(ATOMS, Point.undefined),
    "num": Point.number,
    "sym": Point.symbol,
    "+": Point.sum,
    "*": Point.product,
    "/": Point.quotient,
    "^": Point.power,
    "fn": Point.function,
    "const": Point.constant,
    "paren": Point.bracketed,
    "pct": Point.percent,
    "deg": Point.degree,
}


def divided(a: int, b: int, c: int, d: int) -> Quotient:
    """a/b divided by c/d."""
    if c == 0:
        raise Undefined("division by zero")
    return bounded(a * d, b * c) if c > 0 else bounded(-a * d, -b * c)


def divisor_of(*values: Fraction) -> Fraction:
    """The largest rational number that divides all values without a remainder."""
    below = lcm(*(value.denominator for value in values))
    return Fraction(gcd(*(int(value * below) for value in values)), below)


def multiple_of(*values: Fraction) -> Fraction:
    """The smallest rational number that all values divide without a remainder."""
    below = lcm(*(value.denominator for value in values))
    return Fraction(lcm(*(int(value * below) for value in values)), below)


def remainder(value: Fraction, modulus: Fraction) -> Fraction:
    if modulus == 0:
        raise Undefined("division by zero")
    return value % abs(modulus)


# {name of a function of rational numbers: what computes it}
OF_RATIONALS: dict[str, Callable[..., Fraction | int]] = {
    "gcd": divisor_of,
    "lcm": multiple_of,
    "max": lambda *values: max(values),
    "min": lambda *values: min(values),
    "floor": floor,
    "ceil": ceil,
    "mod": remainder,
}
# {name of a function of whole numbers: what computes it}
OF_WHOLE: dict[str, Callable[..., int]] = {
    "!": lambda n: factorial(int(n)),
    "binom": lambda n, k: comb(int(n), int(k)),
}


def reduced(n: int, d: int) -> Quotient:
    """A fraction in lowest terms."""
    divisor = gcd(n, d)
    return n // divisor, d // divisor


def integer_root(n: int, degree: int) -> int:
    """The largest r with r^degree <= n, by Newton's steps from above."""
    root = 1 << (n.bit_length() // degree + 1)
    while root and (less := ((degree - 1) * root + n // root ** (degree - 1)) // degree) < root:
        root = less
    return root


def bounded(n: int, d: int) -> Quotient:
    """The fraction n/d as it is; raises `TooBig` beyond `BIT_LIMIT`."""
    if max(n.bit_length(), d.bit_length()) > BIT_LIMIT:
        raise TooBig
    return n, d
