"""Gives all layouts of a formula one form: `-(a - b)` and `b - a` become equal, and so do `y x` and `x y`.

`folded` drops brackets, factors 1 and exponents 1, and puts signs in front. `ordered` then sorts terms and factors.

An expression is a tuple, such as ("num", n, d) for the number n/d or ("*", factors) for a product (see tree.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from verifiers.math500.tree import ATOMS, MINUS_ONE, ONE, ZERO, Node, parts, rebuilt


def folded(node: Node) -> Node:
    """An expression without brackets, factors and divisors 1, and exponents 1.

    Signs stand in front of products; a sum in a sum and a product in a product become one.
    """
    return FOLDED.get(node[0], folded_inside)(node)


def folded_inside(node: Node) -> Node:
    return rebuilt(node, map(folded, parts(node)))


def without_brackets(node: Node) -> Node:
    return folded(node[1])


def folded_sum(node: Node) -> Node:
    terms = [term for part in map(folded, node[1]) for term in terms_of(part)]
    return ("+", tuple(terms)) if len(terms) > 1 else terms[0]


def folded_power(node: Node) -> Node:
    base, exponent = map(folded, node[1:])
    return base if exponent == ONE else ("^", base, exponent)


def folded_quotient(node: Node) -> Node:
    (above, has_minus_above), (below, has_minus_below) = (without_sign(folded(part)) for part in node[1:])
    result = above if below == ONE else ("/", above, below)
    return negative(result) if has_minus_above != has_minus_below else result


def folded_product(node: Node) -> Node:
    """A product with one sign, in front, and no factors 1."""
    factors: list[Node] = []
    is_negative = False
    for part in map(folded, node[1]):
        inner, has_minus = without_sign(part)
        is_negative ^= has_minus  # two minus signs cancel each other
        if inner[0] == "*":
            factors += inner[1]
        elif inner != ONE:
            factors.append(inner)
    if len(factors) > 1:
        result: Node = ("*", tuple(factors))
    else:
        result = factors[0] if factors else ONE
    return negative(result) if is_negative else result


def unchanged(node: Node) -> Node:
    return node


# {kind of node: what folds it}; `folded_inside` for the others
FOLDED: dict[str, Callable[[Node], Node]] = {
    **dict.fromkeys(ATOMS, unchanged),
    "paren": without_brackets,
    "+": folded_sum,
    "*": folded_product,
    "/": folded_quotient,
    "^": folded_power,
}


def terms_of(node: Node) -> tuple[Node, ...]:
    """The terms of a sum, also of one with a minus before it: -a and b of -(a - b); any other node as a single term."""
    if node[0] == "+":
        return node[1]
    inner, has_minus = without_sign(node)
    if has_minus and inner[0] == "+":
        return tuple(map(negative, inner[1]))
    return (node,)


def without_sign(node: Node) -> tuple[Node, bool]:
    """(an expression without the minus before it, True if it had one)."""
    if node == MINUS_ONE:
        return ONE, True
    if node[0] != "*" or node[1][0] != MINUS_ONE:
        return node, False
    others = node[1][1:]  # the factors behind the minus
    return (others[0] if len(others) == 1 else ("*", others)), True


def negative(node: Node) -> Node:
    """An expression with the other sign."""
    inner, has_minus = without_sign(node)
    if has_minus:
        return inner
    factors = node[1] if node[0] == "*" else (node,)
    return ("*", (MINUS_ONE, *factors))


def factors_of(node: Node) -> tuple[list[Node], list[Node]]:
    """(the factors, the divisors) of a folded expression: [a, b] and [c] for ab/c."""
    if node[0] == "*":
        pairs = [factors_of(part) for part in node[1]]
        above = [factor for factors, _ in pairs for factor in factors]
        below = [divisor for _, divisors in pairs for divisor in divisors]
        return above, below
    if node[0] == "/":
        (above, below), (divided_above, divided_below) = factors_of(node[1]), factors_of(node[2])
        return [*above, *divided_below], [*below, *divided_above]  # (a/b) / (c/d) is ad / bc
    return ([] if node == ONE else [node]), []


def ordered(node: Node) -> Node:
    """A folded expression with its terms and factors in one order."""
    return ORDERED.get(node[0], ordered_inside)(node)


def ordered_inside(node: Node) -> Node:
    return rebuilt(node, map(ordered, parts(node)))


def ordered_sum(node: Node) -> Node:
    terms = [ordered(term) for term in node[1] if term != ZERO]
    if not terms:
        return ZERO
    return terms[0] if len(terms) == 1 else ("+", in_order(terms))


def ordered_product(node: Node) -> Node:
    return ("*", in_order(map(ordered, node[1])))


# {kind of node: what sorts it}; `ordered_inside` for the others
ORDERED: dict[str, Callable[[Node], Node]] = {
    **dict.fromkeys(ATOMS, unchanged),
    "+": ordered_sum,
    "*": ordered_product,
}


def in_order(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes sorted by their text."""
    return tuple(sorted(nodes, key=repr))
