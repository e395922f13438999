"""What can be said about an expression tree (see `expressions`) without a value: its parts, variables and form.

The tree of x/2 is ("/", ("sym", "x"), ("num", 2, 1)), that of 0.5 is ("num", 5, 10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

Node = tuple
ZERO: Node = ("num", 0, 1)
ONE: Node = ("num", 1, 1)
MINUS_ONE: Node = ("num", -1, 1)
INFINITY: Node = ("const", "inf")
NEGATIVE_INFINITY: Node = ("*", (MINUS_ONE, INFINITY))
INFINITIES = (INFINITY, NEGATIVE_INFINITY)
BOUND: Node = ("const", "bound")  # the variable of an integral or a sum
REPEATED = frozenset(["int", "sum", "prod"])  # functions of two bounds and what BOUND stands in
ATOMS = frozenset("num sym const pm held".split())
CONSTANTS = frozenset("ABCDKck")  # what an arbitrary constant is called, alone or with a number below it
INDICES = frozenset("nmk")  # what an arbitrary integer is
TRIGONOMETRIC = frozenset("sin cos tan cot sec csc".split())
PERIOD_LIMIT = 20  # digits that repeat before dots


Parts = tuple[Node, ...]
PARTS: dict[str, Callable[[Node], Parts]] = {
    **dict.fromkeys(ATOMS, lambda _: ()),
    **dict.fromkeys(("+", "*"), lambda node: node[1]),
    **dict.fromkeys(("/", "^", "deg", "pct", "paren"), lambda node: node[1:]),
    "fn": lambda node: node[2],
}
REBUILT: dict[str, Callable[[Node, Parts], Node]] = {
    **dict.fromkeys(("+", "*"), lambda node, inside: (node[0], inside)),
    **dict.fromkeys(("/", "^", "deg", "pct", "paren"), lambda node, inside: (node[0], *inside)),
    "fn": lambda node, inside: (*node[:2], inside),
}


def parts(node: Node) -> Parts:
    return PARTS[node[0]](node)


def rebuilt(node: Node, inside: Iterable[Node]) -> Node:
    """The expression with other parts; an atom has none."""
    return REBUILT.get(node[0], as_it_is)(node, tuple(inside))


def as_it_is(node: Node, inside: Parts) -> Node:
    return node


def substituted(node: Node, values: dict[Node, Node]) -> Node:
    """The expression with other nodes in the place of variables, constants and plus-minus signs."""
    if node in values:
        return values[node]
    return rebuilt(node, (substituted(part, values) for part in parts(node)))


def atoms(node: Node) -> list[Node]:
    """The numbers, variables, constants, plus-minus signs and values of other kinds that an expression is made of."""
    found, nodes = [], [node]
    for node in nodes:  # which grows on the way
        if node[0] in ATOMS:
            found.append(node)
        else:
            nodes += PARTS[node[0]](node)
    return found


def leaves(node: Node, kind: str) -> list:
    r"""The names of all variables ("sym") or constants ("const"), or plus-minus signs ("pm"): 1 for \pm, -1 for \mp."""
    return [atom[1] for atom in atoms(node) if atom[0] == kind]


def symbols(node: Node) -> frozenset[str]:
    return frozenset(leaves(node, "sym"))


def divides_by_variable(node: Node) -> bool:
    """True if a variable stands below a fraction bar."""
    return bool(node[0] == "/" and symbols(node[2])) or any(map(divides_by_variable, parts(node)))


def is_polynomial(node: Node) -> bool:
    """True if variables are only added and multiplied."""
    is_whole_power = node[0] == "^" and is_whole(node[2]) and node[2][1] >= 0
    is_made_of_such = node[0] in ("num", "sym", "+", "*", "paren") or is_whole_power
    return not symbols(node) or (is_made_of_such and all(map(is_polynomial, parts(node))))


def is_whole(node: Node) -> bool:
    return node[0] == "num" and node[2] == 1


def keeps_form(answer: Node, gold: Node) -> bool:
    """Strict mode: a number is written as one, not as a calculation, and sums stay multiplied out."""
    if is_literal(gold):
        return is_literal(answer)
    return has_product_of_sums(gold) or not has_product_of_sums(answer)


def is_literal(node: Node) -> bool:
    """True for a signed number, or a fraction of such."""
    kind = node[0]
    if kind == "*":
        return len(node[1]) == 2 and node[1][0] in (MINUS_ONE, ONE) and is_literal(node[1][1])
    if kind == "/":
        return all(map(is_literal, node[1:]))
    return kind == "num"


def has_product_of_sums(node: Node) -> bool:
    """True if a sum with variables is multiplied by something or raised to a power."""
    factors = node[1] if node[0] == "*" else node[1:2] if node[0] == "^" else ()
    if any(factor[0] == "+" and symbols(factor) for factor in factors):
        return True
    return any(map(has_product_of_sums, parts(node)))


def holds_container(node: Node) -> bool:
    """True if a tuple, a set or a matrix stands in an expression."""
    return any(atom[0] == "held" for atom in atoms(node))


def holds_repeated(node: Node) -> bool:
    """True if an integral, or a sum or product over an index, stands in an expression."""
    return (node[0] == "fn" and node[1] in REPEATED) or any(map(holds_repeated, parts(node)))


def repeating(digits: str, repeated: str) -> Node:
    """A decimal with digits behind it that repeat for ever, as an exact fraction."""
    nines = 10 ** len(repeated) - 1
    above, below = int(digits.replace(".", "")), 10 ** (len(digits) - digits.index(".") - 1)
    return ("num", above * nines + int(repeated), below * nines)


def period(digits: str) -> int:
    """How many digits at the end of a decimal repeat: 1 of 0.166, 2 of 0.4545; 0 where none stand there twice."""
    part = digits.partition(".")[2]
    best, most = 0, 0
    for length in range(1, min(len(part) // 2, PERIOD_LIMIT) + 1):
        same = 0
        while same < len(part) - length and part[-1 - same] == part[-1 - same - length]:
            same += 1
        if same >= length and same + length > most:
            best, most = length, same + length
    return best
