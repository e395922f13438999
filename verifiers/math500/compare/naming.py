r"""What a value may be called: the sides of an equation that name another side and say nothing of their own.

For equations such as `f(2) = 36` and `\gcd(a, b) = 36`; the side `x + 1` is no name.
"""

from __future__ import annotations

from verifiers.math500.read import tree
from verifiers.math500.read.tree import MINUS_ONE, Node
from verifiers.math500.read.units import is_known
from verifiers.math500.read.values import Matrix, Name, Quantity, Row, Set, Value, Words, is_expression

PLACES = [("num", 10**k, 1) for k in range(1, 5)]
NAMED_FUNCTIONS = [("sym", name) for name in "fghF"]
INVERSE_FUNCTIONS = [("^", name, MINUS_ONE) for name in NAMED_FUNCTIONS]


def is_name(value: Value) -> bool:
    """True for x, f(x), AB, P(A), a word, an angle; no sums, no numbers."""
    kind = type(value)
    if kind in (Words, Name):
        return True
    if kind is Row:
        return all(map(is_name, value.items))
    if kind is not tuple:
        return False
    if value[0] in ("sym", "held"):
        return value[0] == "sym" or is_name(value[1])
    if value[0] == "*":
        first, *others = value[1]
        if first[0] == "sym" and all(is_argument(part) for part in others):
            return True  # f(2), P(10, 3)
        return len(value[1]) <= 4 and all(is_row(part) or is_name(part) for part in value[1])
    return value[0] == "fn" and value[1] in tree.TRIGONOMETRIC | {"ln"} and is_name(value[2][0])


def is_argument(node: Node) -> bool:
    return node[0] == "paren" or (node[0] == "held" and type(node[1]) in (Row, Set))


def is_row(node: Node) -> bool:
    return node[0] == "held" and type(node[1]) is Row


def base_of(name: Value) -> str:
    """x of x_1."""
    return name[1].partition("_")[0] if is_expression(name) and name[0] == "sym" else ""


def is_asked_for(value: Value, letters: frozenset[str], gold: Value) -> bool:
    r"""True for what a question may ask for, in other letters than the reference: m + n, |z|, \gcd(a, b), f^{-1}(x).

    Not 2x or x + 1: an equation of one letter with a number in it still has to be solved, and one with 0 behind it is
    that of a curve.
    """
    node = value.value if type(value) is Quantity and not is_known(value.unit) else value
    if not is_expression(node) or node[0] in ("num", "const") or tree.holds_container(node):
        return False
    if node[0] == "*" and node[1][0] in INVERSE_FUNCTIONS and len(node[1]) == 2:
        return True
    names = set(tree.leaves(node, "sym"))
    several = type(gold) is Matrix or (len(names) > 1 and gold != tree.ZERO)
    return bool(names) and letters.isdisjoint(names) and not has_number(node, several)


def is_multiple(node: Node) -> bool:
    """True for 2c, which names a value where nobody but the answer speaks of c."""
    return (
        node[0] == "*"
        and [p[0] for p in node[1]] == ["num", "sym"]
        and node[1][0][1] > 0 < node[1][0][2] == 1
    )


def has_number(node: Node, several: bool) -> bool:
    """True if a number stands in an expression, other than a degree of a root, a base of a logarithm or, in one of
    `several` letters, an exponent or the value of a digit's place (100a + 10b + c)."""
    kind = node[0]
    if kind == "*" and is_name(node):
        return False  # f(2)
    if several and (node in PLACES or node == MINUS_ONE or (kind == "^" and node[2][0] == "num")):
        return kind == "^" and has_number(node[1], several)
    if several and kind == "+":  # (r + s)^2 - 2rs
        terms = (term[1] if term[0] == "*" else (term,) for term in node[1])
        return any(has_number(p, True) for term in terms for p in term if p[0] != "num" or len(term) == 1)
    if kind == "fn" and node[1] in ("root", "log"):
        return has_number(node[2][0], several)
    return kind in ("num", "pct", "const") or any(has_number(part, several) for part in tree.parts(node))


def named_value(relation: Value) -> Value | None:
    """The value of a reference such as x = 5, x in [2, 7] or y = 2x + 3, which may stand without its name."""
    name, *values = relation.sides
    named = is_name(name) or (
        is_expression(name)
        and name[0] == "*"
        and name[1][0] in INVERSE_FUNCTIONS
        and is_name(("*", name[1][1:]))
    )
    return values[0] if relation.operators in (("=",), ("in",)) and named else None
