"""Equations, inequalities and names as values: x = 5 is 5, 2 < x is (2, oo), a chain of equals is one value."""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.math500.lexer import Malformed, Unsupported
from verifiers.math500.tree import (
    EXPRESSIONS,
    INFINITY,
    MINUS_ONE,
    TRIGONOMETRIC,
    Node,
    holds_container,
    parts,
    signs,
    symbols,
    with_sign,
)
from verifiers.math500.units import is_known

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
NEGATIVE_INFINITY: Node = ("*", (MINUS_ONE, INFINITY))


def is_name(node: Node) -> bool:
    """True for what a value may be called: x, f(x), AB, P(A), a word, an angle; no sums, no numbers."""
    kind = node[0]
    if kind in ("sym", "text"):
        return True
    if kind == "words" or (kind == "unit" and not is_known(node[2])):
        return is_name(node[1])
    if kind == "*":
        if node[1][0][0] == "sym" and all(part[0] == "paren" for part in node[1][1:]):
            return True  # f(2)
        return all(part[0] == "seq" or is_name(part) for part in node[1]) and len(node[1]) <= 4
    if kind == "seq":
        return all(map(is_name, node[3]))
    return kind == "fn" and node[1] in TRIGONOMETRIC | {"ln"} and is_name(node[2][0])


def named_value(gold: Node) -> Node | None:
    """The value of a reference such as x = 5, x in [2, 7] or y = 2x + 3, which may stand without its name."""
    operators, sides = gold[1], gold[2]
    return sides[1] if operators in (("=",), ("in",)) and is_name(sides[0]) else None


def symbols_of(node: Node) -> frozenset[str]:
    """The variables of an expression; none for what is no expression."""
    return symbols(node) if node[0] in EXPRESSIONS else frozenset()


def normal_relation(node: Node) -> Node:
    """With `<` instead of `>`, so that direction does not matter."""
    if any(operator in (">", ">=") for operator in node[1]):
        return ("rel", tuple(_FLIPPED.get(operator, operator) for operator in node[1][::-1]), node[2][::-1])
    return node


def difference(node: Node) -> Node:
    """Left side less right side."""
    return ("+", (node[2][0], ("*", (MINUS_ONE, node[2][1]))))


def as_interval(node: Node) -> Node | None:
    """An inequality of one variable as an interval: 2 < x <= 5 is (2, 5]."""
    node = normal_relation(node)
    operators, sides = node[1], node[2]
    if any(operator not in ("<", "<=") for operator in operators):
        return None
    opening = "(" if operators[0] == "<" else "["
    closing = ")" if operators[-1] == "<" else "]"
    if any(side[0] == "*" and is_name(side) for side in sides):
        return None  # x t is a product
    if len(sides) == 3 and is_name(sides[1]):
        return ("seq", opening, closing, (sides[0], sides[2]))
    if len(sides) != 2:
        return None
    if is_name(sides[0]):
        return ("seq", "(", closing, (NEGATIVE_INFINITY, sides[1]))
    return ("seq", opening, ")", (sides[0], INFINITY)) if is_name(sides[1]) else None


def union_of(node: Node) -> Node | None:
    """Inequalities of one variable joined by "or" as a union of intervals."""
    if not all(item[0] == "rel" for item in node[1]):
        return None
    names = {side for item in node[1] for side in item[2] if is_name(side)}
    intervals = [as_interval(item) for item in node[1]]
    return ("union", tuple(intervals)) if len(names) == 1 and None not in intervals else None


def infinity_sign(node: Node) -> int:
    """1 or -1 for an infinite expression of a sign and an infinity, else 0."""
    return 1 if node == INFINITY else -1 if node == NEGATIVE_INFINITY else 0


def spread(node: Node) -> Node:
    """An expression with a plus-minus sign as the list of both values."""
    if node[0] in ("unit", "words"):
        inner = spread(node[1])
        return node if inner is node[1] else inner
    if node[0] == "rel" and node[1] == ("=",):
        left, right = node[2]
        values = spread(right)
        return (
            node if values is right else ("list", tuple(("rel", ("=",), (left, item)) for item in values[1]))
        )
    if node[0] not in EXPRESSIONS and node[0] != "pm":
        return node
    found = signs(node)
    if found.count(1) > 1:
        raise Unsupported("two plus-minus signs")
    return ("list", (with_sign(node, 1), with_sign(node, -1))) if found else node


def expanded(items: Sequence[Node]) -> list[Node]:
    """The elements with every plus-minus sign as two elements."""
    elements: list[Node] = []
    for item in items:
        item = spread(simplified(item))
        elements.extend(item[1] if item[0] == "list" else (item,))
    return elements


def simplified(node: Node) -> Node:
    """A scalar times a matrix as one matrix, a sign before a base number refused; else the node itself."""
    kind = node[0]
    if kind == "paren" and node[1][0] not in EXPRESSIONS:
        return simplified(node[1])
    if kind == "*" and any(holds_container(part) for part in node[1]):
        matrices = [part for part in node[1] if part[0] == "mat"]
        scalars = tuple(part for part in node[1] if part[0] != "mat")
        if len(matrices) == 1 and not any(holds_container(part) for part in scalars):
            rows = matrices[0][1]
            return ("mat", tuple(tuple(("*", (*scalars, cell)) for cell in row) for row in rows))
        if not is_name(node):
            raise Malformed("product of brackets")
    elif kind in ("+", "/", "^", "fn") and any(holds_container(part) for part in parts(node)):
        raise Malformed("brackets in an expression")
    return node
