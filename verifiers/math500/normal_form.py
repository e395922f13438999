"""A tree (see `parser`) without what changes no value, and in one order: what copies of a formula have in common."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from verifiers.math500.tree import MINUS_ONE, ONE, ZERO, Node

TWO: Node = ("num", 2, 1)
HALVES = (("/", ONE, TWO), ("num", 1, 2))


def normal(node: Node, cancelled: bool = False) -> Node:
    """Without brackets, units, zeros, ones and double signs; roots for powers of a half; sums and products sorted.

    `cancelled`: also without terms and factors that cancel, as long as others are left.
    """
    kind = node[0]
    if kind == "text":
        return node
    if kind == "num":
        divisor = gcd(node[1], node[2])
        return ("num", node[1] // divisor, node[2] // divisor)
    if kind in ("paren", "words", "unit"):
        return normal(node[1], cancelled)
    node = tuple(normal(part, cancelled) if isinstance(part, tuple) and part else part for part in node)
    if not isinstance(kind, str):
        return node
    if kind in ("*", "/"):
        return _product(*_factors(node), cancelled)
    if kind == "+":
        terms = [
            part for term in node[1] for part in (term[1] if term[0] == "+" else (term,)) if part != ZERO
        ]
        if cancelled:
            for term in terms[:]:
                if len(terms) > 2 and term in terms and (opposite := _negative(term)) in terms:
                    terms.remove(term)
                    terms.remove(opposite)
        return ("+", _ordered(terms)) if len(terms) > 1 else terms[0] if terms else ZERO
    if kind == "^" and node[2] == ONE:
        return node[1]
    if kind == "^" and node[2] in HALVES:
        return ("fn", "root", (node[1], TWO))
    return (kind, node[1], _ordered(node[2])) if kind == "rel" and set(node[1]) == {"="} else node


def _ordered(nodes: Sequence[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=repr))


def _factors(node: Node) -> tuple[list[Node], list[Node]]:
    """What is multiplied and what is divided by."""
    if node[0] not in ("*", "/"):
        return [node], []
    above: list[Node] = []
    below: list[Node] = []
    for place, part in enumerate(node[1] if node[0] == "*" else node[1:]):
        upper, lower = _factors(part)
        if node[0] == "/" and place:
            upper, lower = lower, upper
        above += upper
        below += lower
    return above, below


def _product(above: list[Node], below: list[Node], cancelled: bool) -> Node:
    """One fraction, or one product, with its sign in front; the sign of a sum goes into it."""
    minus = sum(part[0] == "num" and part[1] < 0 for part in above + below) % 2 == 1
    above, below = ([part for part in map(_positive, side) if part != ONE] for side in (above, below))
    if cancelled:
        for part in above[:]:
            if part in below and len(above) + len(below) > 2:
                above.remove(part)
                below.remove(part)
    if minus and len(above) == 1 and above[0][0] == "+" and not below:
        return ("+", _ordered([_negative(term) for term in above[0][1]]))
    if minus and len(above) == 1 and above[0][0] == "num":
        above, minus = [("num", -above[0][1], above[0][2])], False
    parts = [MINUS_ONE] * minus + sorted(above, key=repr)
    top = ("*", tuple(parts)) if len(parts) > 1 else parts[0] if parts else ONE
    if not below:
        return top
    return ("/", top, ("*", _ordered(below)) if len(below) > 1 else below[0])


def _positive(node: Node) -> Node:
    return ("num", abs(node[1]), node[2]) if node[0] == "num" else node


def _negative(node: Node) -> Node:
    above, below = _factors(node)
    return _product([MINUS_ONE, *above], below, False)
