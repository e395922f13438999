"""Expressions without what changes nothing in them: brackets, factors 1 and -1, exponents 1; and in one order.

By this a copy of a formula is one in any layout: `-(a - b)` and `b - a`, `y x` and `x y`.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd

from verifiers.math500.tree import MINUS_ONE, ONE, Node

TWO: Node = ("num", 2, 1)
HALVES = (("/", ONE, TWO), ("num", 1, 2), ("num", 5, 10))


def folded(node: Node) -> Node:
    """Without brackets, factors and divisors 1, exponents 1; signs in front, sums in sums and products in products."""
    kind = node[0]
    if kind == "paren":
        return folded(node[1])
    if kind in ("deg", "pct"):
        return (kind, folded(node[1]))
    if kind == "+":
        terms: list[Node] = []
        for term in map(folded, node[1]):
            terms += terms_of(term)
        return ("+", tuple(terms)) if len(terms) > 1 else terms[0]
    if kind in ("*", "/"):
        return folded_product(node)
    if kind == "^":
        base, exponent = folded(node[1]), folded(node[2])
        return base if exponent == ONE else ("^", base, exponent)
    if kind == "fn":
        arguments = tuple(map(folded, node[2]))
        return ("fn", node[1], arguments)
    return node


def terms_of(node: Node) -> tuple[Node, ...]:
    """The terms of a sum, or of one with a minus before it."""
    if node[0] == "+":
        return node[1]
    if node[0] == "*" and len(node[1]) == 2 and node[1][0] == MINUS_ONE and node[1][1][0] == "+":
        return tuple(map(negative, node[1][1][1]))
    return (node,)


def folded_product(node: Node) -> Node:
    """A product or quotient with one sign, in front, and no factors and divisors 1."""
    if node[0] == "/":
        (above, minus), (below, other) = (without_sign(folded(part)) for part in node[1:])
        result = above if below == ONE else ("/", above, below)
        return negative(result) if minus != other else result
    factors: list[Node] = []
    minus = False
    for part in map(folded, node[1]):
        part, sign = without_sign(part)
        minus ^= sign
        factors += part[1] if part[0] == "*" else (part,) if part != ONE else ()
    result = ("*", tuple(factors)) if len(factors) > 1 else factors[0] if factors else ONE
    return negative(result) if minus else result


def without_sign(node: Node) -> tuple[Node, bool]:
    """A folded expression without the minus before it, and if it had one."""
    if node[0] == "num" and node[1] < 0:
        return ("num", -node[1], node[2]), True
    if node[0] == "*" and node[1][0] == MINUS_ONE:
        return (node[1][1] if len(node[1]) == 2 else ("*", node[1][1:])), True
    return node, False


def negative(node: Node) -> Node:
    """A folded expression with the other sign."""
    inner, minus = without_sign(node)
    if minus:
        return inner
    if node[0] == "num":
        return ("num", -node[1], node[2])
    return ("*", (MINUS_ONE, *(node[1] if node[0] == "*" else (node,))))


def factors_of(node: Node) -> tuple[list[Node], list[Node]]:
    """What is multiplied and what is divided by, in a folded expression."""
    if node[0] == "*":
        pairs = [factors_of(part) for part in node[1]]
        return [f for above, _ in pairs for f in above], [f for _, below in pairs for f in below]
    if node[0] == "/":
        (above, under), (below, over) = factors_of(node[1]), factors_of(node[2])
        return [*above, *over], [*under, *below]
    return ([] if node == ONE else [node]), []


def ordered(node: Node) -> Node:
    """A folded expression in one order, without factors that cancel; two that differ in layout are one."""
    kind = node[0]
    if kind == "num":
        divisor = gcd(node[1], node[2])
        return ("num", node[1] // divisor, node[2] // divisor)
    if kind == "+":
        terms = [ordered(term) for term in node[1] if term[:2] != ("num", 0)]
        return ("+", in_order(terms)) if len(terms) > 1 else terms[0] if terms else ("num", 0, 1)
    if kind in ("*", "/"):
        return ordered_product(node)
    if kind == "^":
        base, exponent = ordered(node[1]), ordered(node[2])
        return ("fn", "root", (base, TWO)) if exponent in HALVES else ("^", base, exponent)
    if kind == "fn":
        return ("fn", node[1], tuple(map(ordered, node[2])))
    return (kind, ordered(node[1])) if kind in ("deg", "pct") else node


def ordered_product(node: Node) -> Node:
    inner, minus = without_sign(node)
    above, below = ([ordered(factor) for factor in side] for side in factors_of(inner))
    for side in (above, below):
        for k, factor in enumerate(side):
            if factor[0] == "+" and first_is_negative(factor):
                side[k], minus = ("+", in_order([ordered(negative(term)) for term in factor[1]])), not minus
    for factor in above[:]:
        if factor in below and len(above) + len(below) > 2:
            above.remove(factor)
            below.remove(factor)
    top = ("*", in_order(above)) if len(above) > 1 else above[0] if above else ONE
    if below:
        top = ("/", top, ("*", in_order(below)) if len(below) > 1 else below[0])
    return negative(top) if minus else top


def first_is_negative(node: Node) -> bool:
    """True if the first term of a sum, whatever the signs, has a minus."""
    return without_sign(min(node[1], key=lambda term: repr(without_sign(term)[0])))[1]


def in_order(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=repr))
