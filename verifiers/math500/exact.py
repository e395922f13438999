"""Exact evaluation of expression trees at rational points, with unknown functions as unknowns.

Variables get 61-bit integers derived from a salt. A root, a logarithm, pi, i, ... gets such an integer too, derived
from its (exact) arguments: where two trees then agree they are the same rational function of the same unknowns
(Schwartz-Zippel: a wrong agreement has a chance below degree / 2^61), so agreement is a proof of equality. A
difference is a proof only where no such unknown occurs, or pi alone, which is transcendental.
"""

from __future__ import annotations

from fractions import Fraction
from hashlib import blake2b
from math import comb, factorial, gcd, isqrt, lcm, prod

from verifiers.math500.tree import BOUND, INFINITY, REPEATED, Node, substituted
from verifiers.verdicts import encoded

BIT_LIMIT = 20_000  # of a numerator or denominator
EXPONENT_LIMIT = 9_999
FACTORIAL_LIMIT = 1_000
TERM_LIMIT = 200  # of a sum
TERMS_LIMIT = 400  # of all sums and products of an expression

Quotient = tuple[int, int]


class Undefined(ArithmeticError):
    """A division by zero, or infinity where a number belongs."""


class TooBig(Exception):
    """A number beyond what is worth computing."""


class Point:
    """Where a tree is evaluated: the value of every unknown, made on demand from a key.

    The key is made of `texts`, so that nobody can aim at a value who does not know them all.
    """

    def __init__(self, *texts: object) -> None:
        self.texts = texts
        self.key = b""
        self.values: dict[object, int] = {}
        self.unknowns = False  # if something was met whose difference is no proof
        self.variables = False
        self.terms = 0  # of the sums and products met

    def value_of(self, key: object) -> int:
        """The integer of an unknown, odd and below 2^61."""
        value = self.values.get(key)
        if value is None:
            try:
                if not self.key:
                    texts = "\0".join(map(repr, self.texts))
                    self.key = blake2b(encoded(texts), digest_size=16).digest()
                digest = blake2b(repr(key).encode(), digest_size=8, key=self.key).digest()
            except ValueError:  # Python prints no integer of more than 4,300 digits
                raise TooBig from None
            value = self.values[key] = (int.from_bytes(digest, "big") >> 3) | 1
        return value

    def unknown(self, *key: object) -> Quotient:
        self.unknowns = True
        return self.value_of(key), 1

    def evaluate(self, node: Node) -> Quotient:
        """Value of a tree as (numerator, denominator > 0), not reduced."""
        kind = node[0]
        if kind == "num":
            return node[1], node[2]
        if kind == "sym":
            self.variables = True
            return self.value_of(node[1]), 1
        if kind == "*":
            n = d = 1
            for factor in node[1]:
                a, b = self.evaluate(factor)
                n, d = bounded(n * a, d * b)
            return n, d
        if kind == "+":
            n, d = self.evaluate(node[1][0])
            for term in node[1][1:]:
                a, b = self.evaluate(term)
                n, d = bounded(n + a, d) if b == d else bounded(n * b + a * d, d * b)
            return n, d
        if kind == "/":
            a, b = self.evaluate(node[1])
            return self.divide(a, b, *self.evaluate(node[2]))
        if kind == "^":
            return self.power(node)
        if kind == "fn":
            return self.function(node)
        if node == INFINITY:
            raise Undefined("infinity")
        if kind == "const":
            return (self.value_of("pi"), 1) if node[1] == "pi" else self.unknown(node[1])
        if kind not in ("deg", "pct", "paren"):
            raise Undefined(kind)
        n, d = self.evaluate(node[1])
        if kind == "paren":
            return n, d
        return (n, d * 100) if kind == "pct" else (n * self.value_of("pi"), d * 180)

    def divide(self, a: int, b: int, c: int, d: int) -> Quotient:
        if c == 0:
            raise Undefined("division by zero")
        return bounded(a * d, b * c) if c > 0 else bounded(-a * d, -b * c)

    def power(self, node: Node) -> Quotient:
        n, d = self.evaluate(node[1])
        if node[2][0] == "num":
            (a, b), varies = reduced(*node[2][1:]), False
        else:
            seen, self.variables = self.variables, False
            a, b = reduced(*self.evaluate(node[2]))
            varies, self.variables = self.variables, self.variables or seen
        if varies or abs(a) > EXPONENT_LIMIT or b > EXPONENT_LIMIT:
            return self.unknown("^", *reduced(n, d), a, b)
        if b != 1:
            n, d = self.root(n, d, b)
        if a < 0:
            n, d = self.divide(1, 1, n, d)
        elif a == 0 and n == 0:
            raise Undefined("0^0")
        a = abs(a)
        if max(n.bit_length(), d.bit_length()) * a > BIT_LIMIT and not abs(n) == d == 1:
            raise TooBig
        return n**a, d**a

    def root(self, n: int, d: int, degree: int) -> Quotient:
        n, d = reduced(n, d)
        if not self.variables and 1 < degree < 100 and (n >= 0 or degree % 2):
            above, below = integer_root(abs(n), degree), integer_root(d, degree)
            if above**degree == abs(n) and below**degree == d:
                return (above if n >= 0 else -above), below
        return self.unknown("root", n, d, degree)

    def function(self, node: Node) -> Quotient:
        name = node[1]
        if name in REPEATED:
            nodes = repeated(node)
            self.terms += len(nodes)
            if self.terms > TERMS_LIMIT:
                raise TooBig
            return self.evaluate(("+" if name == "sum" else "*", nodes)) if nodes else self.unknown(node)
        values = [reduced(*self.evaluate(argument)) for argument in node[2]]
        n, d = values[0]
        whole = all(below == 1 for _, below in values) and not self.variables and not self.unknowns
        if name == "root":
            if values[1][1] == 1 and 0 < values[1][0] <= EXPONENT_LIMIT:
                return self.root(n, d, values[1][0])
        elif name == "!" and whole:
            if n < 0:
                raise Undefined("factorial")
            if n > FACTORIAL_LIMIT:
                raise TooBig
            return factorial(n), 1
        elif name == "binom" and whole and 0 <= values[1][0] and 0 <= n <= FACTORIAL_LIMIT:
            return comb(n, values[1][0]), 1
        elif name == "binom" and self.variables and is_small(node[2][1]):
            k = node[2][1][1]
            return bounded(prod(n - j * d for j in range(k)), d**k * factorial(k))
        elif name in ("gcd", "lcm") and whole:
            return (gcd if name == "gcd" else lcm)(*(value for value, _ in values)), 1
        elif name == "mod" and whole and values[1][0]:
            return n % abs(values[1][0]), 1
        elif name in ("max", "min") and not self.values:
            value = (max if name == "max" else min)(Fraction(*value) for value in values)
            return value.numerator, value.denominator
        elif name in ("abs", "floor", "ceil") and not self.values:
            return (abs(n), d) if name == "abs" else (n // d if name == "floor" else -(-n // d), 1)
        elif name == "exp":
            return self.power(("^", ("const", "e"), node[2][0]))
        return self.unknown(name, *values)


def repeated(node: Node) -> tuple[Node, ...]:
    """What a sum or product of few terms is made of; empty for any other."""
    _, name, (low, high, body) = node
    if name == "int" or not low[0] == high[0] == "num" or not low[2] == high[2] == 1:
        return ()
    places = range(low[1], high[1] + 1) if high[1] - low[1] < TERM_LIMIT else ()
    return tuple(substituted(body, {BOUND: ("num", place, 1)}) for place in places)


def is_small(node: Node) -> bool:
    """True for a whole number up to 20."""
    return node[0] == "num" and node[2] == 1 and 0 <= node[1] <= 20


def reduced(n: int, d: int) -> Quotient:
    if d == 1:
        return n, 1
    divisor = gcd(n, d)
    return n // divisor, d // divisor


def integer_root(n: int, degree: int) -> int:
    """The largest r with r^degree <= n, by bisection on bits."""
    if degree == 2:
        return isqrt(n)
    low, high = 0, 1 << (n.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if middle**degree <= n:
            low = middle
        else:
            high = middle - 1
    return low


def bounded(n: int, d: int) -> Quotient:
    if max(n.bit_length(), d.bit_length()) > BIT_LIMIT:
        n, d = reduced(n, d)
        if max(n.bit_length(), d.bit_length()) > BIT_LIMIT:
            raise TooBig
    return n, d
