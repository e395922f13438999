"""Expression trees, as expressions.py reads them: their parts, variables and form, without any value.

The tree of x/2 is ("/", ("sym", "x"), ("num", 2, 1)), and the tree of 0.5 is ("num", 5, 10). The nodes are:

    ("num", n, d)                        the number n/d
    ("sym", name), ("const", name)       a variable; pi, e, i, inf or bound
    ("+", terms), ("*", factors)         a sum, a product
    ("/", above, below), ("^", base, exponent)
    ("fn", name, arguments)              a function: root, log, abs, !, sum, ...
    ("deg", x), ("pct", x), ("paren", x) x degrees, x per cent, a number in brackets
    ("pm", sign)                         \\pm (1) or \\mp (-1)
    ("held", value)                      a value that is no expression, such as a matrix
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter

Node = tuple
ZERO: Node = ("num", 0, 1)
ONE: Node = ("num", 1, 1)
MINUS_ONE: Node = ("num", -1, 1)
INFINITY: Node = ("const", "inf")
NEGATIVE_INFINITY: Node = ("*", (MINUS_ONE, INFINITY))
INFINITIES = (INFINITY, NEGATIVE_INFINITY)
BOUND: Node = ("const", "bound")  # stands for the variable of an integral, a sum or a product
# Functions of a lower bound, an upper bound and a body with BOUND.
REPEATED = frozenset(["int", "sum", "prod"])
ATOMS = frozenset("num sym const pm held".split())  # kinds of nodes without parts
CONSTANTS = frozenset("ABCDKck")  # letters for an arbitrary constant, alone or with an index: C, c_1
INDICES = frozenset("nmk")  # letters for an arbitrary integer
TRIGONOMETRIC = frozenset("sin cos tan cot sec csc".split())
PERIOD_LIMIT = 20  # digits of the period of a decimal that ends in dots


Parts = tuple[Node, ...]
# {kind of node: a function that returns its parts}
PARTS: dict[str, Callable[[Node], Parts]] = {
    **dict.fromkeys(ATOMS, lambda _: ()),
    **dict.fromkeys(("+", "*"), itemgetter(1)),
    **dict.fromkeys(("/", "^", "deg", "pct", "paren"), itemgetter(slice(1, None))),
    "fn": itemgetter(2),
}
# {kind of node: a function that returns the node with other parts}
REBUILT: dict[str, Callable[[Node, Parts], Node]] = {
    **dict.fromkeys(("+", "*"), lambda node, inside: (node[0], inside)),
    **dict.fromkeys(("/", "^", "deg", "pct", "paren"), lambda node, inside: (node[0], *inside)),
    "fn": lambda node, inside: (*node[:2], inside),
}


def parts(node: Node) -> Parts:
    """The expressions directly under a node: both sides of a fraction; none of an atom."""
    return PARTS[node[0]](node)


def rebuilt(node: Node, inside: Iterable[Node]) -> Node:
    """The expression with `inside` in the place of its parts; an atom as it is."""
    return REBUILT.get(node[0], as_it_is)(node, tuple(inside))


def as_it_is(node: Node, inside: Parts) -> Node:
    return node


def substituted(node: Node, values: dict[Node, Node]) -> Node:
    """The expression with each key of `values` (a variable, a constant or a plus-minus sign) replaced by its value."""
    if node in values:
        return values[node]
    return rebuilt(node, (substituted(part, values) for part in parts(node)))


def kinds_of_atoms(node: Node) -> set[str]:
    """The kinds of all nodes without parts: {"num", "sym"} for 2x."""
    kinds, nodes = set(), [node]
    for part in nodes:  # the list grows on the way
        if part[0] in ATOMS:
            kinds.add(part[0])
        else:
            nodes += PARTS[part[0]](part)
    return kinds


def leaves(node: Node, kind: str) -> list:
    r"""The names of all variables ("sym") or all constants ("const"), or 1 for each \pm and -1 for each \mp ("pm")."""
    found, nodes = [], [node]
    for part in nodes:  # the list grows on the way
        if part[0] == kind:
            found.append(part[1])
        elif part[0] not in ATOMS:
            nodes += PARTS[part[0]](part)
    return found


def symbols(node: Node) -> frozenset[str]:
    """The names of all variables in an expression."""
    return frozenset(leaves(node, "sym"))


def divides_by_variable(node: Node) -> bool:
    """True if a variable stands below a fraction bar."""
    return bool(node[0] == "/" and symbols(node[2])) or any(map(divides_by_variable, parts(node)))


def is_polynomial(node: Node) -> bool:
    """True if variables are only added, multiplied and raised to whole powers from 0 on."""
    is_whole_power = node[0] == "^" and is_whole(node[2]) and node[2][1] >= 0
    is_allowed = node[0] in ("num", "sym", "+", "*", "paren") or is_whole_power
    return not symbols(node) or (is_allowed and all(map(is_polynomial, parts(node))))


def is_whole(node: Node) -> bool:
    """True for a whole number, which may be negative."""
    return node[0] == "num" and node[2] == 1


def is_decimal_literal(node: Node) -> bool:
    """True for a whole number or a decimal that ends, 12 or 0.5, since its denominator is a power of ten."""
    return node[0] == "num" and str(node[2]).strip("0") == "1"


def keeps_form(answer: Node, gold: Node) -> bool:
    """True if an answer has the form that strict mode wants.

    If the reference is a number, the answer is no calculation. Otherwise, the answer has a product of sums only if the
    reference has one.
    """
    if is_literal(gold):
        return is_literal(answer)
    return has_product_of_sums(gold) or not has_product_of_sums(answer)


def is_literal(node: Node) -> bool:
    """True for a number with or without a minus, or a fraction of two of them: -3/4, not 1 + 2."""
    kind = node[0]
    if kind == "*":
        # \pm 3 means 1 * 3 and -1 * 3 (`compare.meaning`).
        return len(node[1]) == 2 and node[1][0] in (MINUS_ONE, ONE) and is_literal(node[1][1])
    if kind == "/":
        return all(map(is_literal, node[1:]))
    return kind == "num"


def has_product_of_sums(node: Node) -> bool:
    """True if a sum with variables is multiplied or raised to a power: 2(x + 1), (x + 1)^2."""
    factors: Parts = ()
    if node[0] == "*":
        factors = node[1]
    elif node[0] == "^":
        base = node[1]
        factors = (base,)
    if any(factor[0] == "+" and symbols(factor) for factor in factors):
        return True
    return any(map(has_product_of_sums, parts(node)))


def holds_container(node: Node) -> bool:
    """True if a tuple, a set or a matrix stands in an expression."""
    return "held" in kinds_of_atoms(node)


def holds_repeated(node: Node) -> bool:
    """True if an integral, or a sum or product over an index, stands in an expression."""
    return (node[0] == "fn" and node[1] in REPEATED) or any(map(holds_repeated, parts(node)))


def repeating(digits: str, repeated: str) -> Node:
    """The exact fraction of a decimal whose last digits repeat for ever: "0.1" and "6" for 0.1666..., which is 1/6."""
    nines = 10 ** len(repeated) - 1
    places = len(digits) - digits.index(".") - 1  # behind the point
    above, below = int(digits.replace(".", "")), 10**places
    return ("num", above * nines + int(repeated), below * nines)


def period(digits: str) -> int:
    """How many digits at the end of a decimal repeat: 1 for 0.166, 2 for 0.4545; 0 if none stand there twice.

    Of several lengths, it is the one under which the most digits at the end repeat.
    """
    _, _, decimals = digits.partition(".")
    best, longest_end = 0, 0
    for length in range(1, min(len(decimals) // 2, PERIOD_LIMIT) + 1):
        equal = 0  # how many digits from the end are equal to those `length` places before them
        while equal < len(decimals) - length and decimals[-1 - equal] == decimals[-1 - equal - length]:
            equal += 1
        if equal >= length and equal + length > longest_end:
            best, longest_end = length, equal + length
    return best
