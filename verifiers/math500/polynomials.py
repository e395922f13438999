"""Have two expressions in variables a factor in common? Along a random line, modulo a prime, as polynomials in one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from verifiers.math500.exact import Point
from verifiers.math500.tree import Node

PRIME = (1 << 61) - 1
DEGREE_LIMIT = 60
Polynomial = list[int]  # coefficients, the constant first


def have_common_factor(above: Sequence[Node], below: Sequence[Node]) -> bool:
    """True if the product of some expressions and that of others can be divided by one polynomial.

    A factor in common is found with certainty; a wrong one has a chance of about the degree over 2^61.
    """
    line = Point("line", above, below)
    one, two = (product([polynomial(node, line) for node in side]) for side in (above, below))
    if one is None or two is None:
        return False
    while any(two):
        one, two = two, remainder(one, two)
    return len(trimmed(one)) > 1


def polynomial(node: Node, line: Point) -> Polynomial | None:
    """The expression with a + b t for each variable; None if it is no polynomial in them."""
    kind = node[0]
    if kind == "num":
        return [node[1] * pow(node[2], -1, PRIME) % PRIME]
    if kind == "sym":
        return [line.value_of((node[1], 0)) % PRIME, line.value_of((node[1], 1)) % PRIME]
    if kind == "const" and node[1] in ("pi", "e", "i"):
        return [line.value_of(node)]
    if kind == "+":
        return added([polynomial(term, line) for term in node[1]])
    if kind == "*":
        return product([polynomial(factor, line) for factor in node[1]])
    if kind == "^" and node[2][0] == "num" and node[2][2] == 1 and 0 < node[2][1] <= DEGREE_LIMIT:
        return product([polynomial(node[1], line)] * node[2][1])
    return None


def added(terms: Sequence[Polynomial | None]) -> Polynomial | None:
    if None in terms:
        return None
    size = max(map(len, terms))
    return [sum(term[k] for term in terms if k < len(term)) % PRIME for k in range(size)]


def product(factors: Sequence[Polynomial | None]) -> Polynomial | None:
    return None if None in factors else reduce(multiplied, factors, [1])


def multiplied(a: Polynomial, b: Polynomial) -> Polynomial | None:
    if a is None or len(a) + len(b) > DEGREE_LIMIT:
        return None
    result = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            result[i + j] = (result[i + j] + x * y) % PRIME
    return result


def trimmed(a: Polynomial) -> Polynomial:
    while a and not a[-1]:
        a = a[:-1]
    return a


def remainder(a: Polynomial, b: Polynomial) -> Polynomial:
    a, b = trimmed(a), trimmed(b)
    inverse = pow(b[-1], -1, PRIME)
    while len(a) >= len(b):
        times, shift = a[-1] * inverse % PRIME, len(a) - len(b)
        a = trimmed([(x - times * b[k - shift]) % PRIME if k >= shift else x for k, x in enumerate(a)])
    return a
