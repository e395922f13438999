r"""Is a value finished, or are operations left to do in it?

`operations` counts them: like terms to add, like factors to multiply or to cancel, functions that the reference does
not have. So finished are fractions, powers of a number, multiples of a surd, sums of distinct surds, a + bi, and
expressions in which nothing is left to collect. Where the reference leaves some itself, one more may be left.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

from verifiers.math500.compare.exact import integer_root
from verifiers.math500.compare.fold import factors_of, folded, in_order, ordered, terms_of, without_sign
from verifiers.math500.read.tree import (
    CONSTANTS,
    INDICES,
    MINUS_ONE,
    ONE,
    TRIGONOMETRIC,
    ZERO,
    Node,
    is_whole,
    leaves,
    parts,
    symbols,
)
from verifiers.math500.read.values import Several, Value, expressions, is_expression

DEGREE_LIMIT = 100  # of a root that is looked into
BIT_LIMIT = 4_000  # of what stands below it
NO_OP = 10  # counts for more than any operation that a reference leaves: x^0, pi/pi, a term 0
EULER, IMAGINARY, TEN = ("const", "e"), ("const", "i"), ("num", 10, 1)
_FAMILIES = {
    **dict.fromkeys([*TRIGONOMETRIC, "asin", "acos", "atan"], "trigonometric"),
    **dict.fromkeys(["ln", "log"], "logarithm"),
    **dict.fromkeys(["!", "binom"], "factorial"),
    **dict.fromkeys("sinh cosh tanh sech csch coth".split(), "hyperbolic"),
}
SIGNED = ("*", "/", "paren", "deg", "pct")  # what takes a sign from what is in it


def is_finished(answer: Value, gold: Value) -> bool:
    """True if no more operations are left in the answer than in the reference and one beside it, if that leaves any."""
    if is_pair(answer):
        return True
    families = families_of(gold)
    left = sum(operations(folded(node), families) + has_double_sign(node) for node in expressions(answer))
    if type(answer) is type(gold) is tuple and (CONSTANTS | INDICES).isdisjoint(symbols(gold)):
        left += NO_OP * bool(symbols(answer) - symbols(gold))  # letters that cancel
    left_in_gold = sum(operations(folded(node), frozenset()) for node in expressions(gold)) if left else 0
    return not left or left <= left_in_gold + 1 > 1


def is_pair(answer: Value) -> bool:
    r"""True for `3 \pm 7`: the sum and the difference of two numbers, written as one."""
    if type(answer) is not Several or len(answer.items) != 2:
        return False
    terms = [item[1] for item in answer.items if is_expression(item) and item[0] == "+" and len(item[1]) == 2]
    if len(terms) != 2 or terms[0][0] != terms[1][0]:
        return False
    signed = [
        term[1][:1] == ("*",) and term[1][1][0] == sign
        for term, sign in zip(terms, (ONE, MINUS_ONE), strict=True)
    ]
    literals = (terms[0][0], *terms[0][1][1][1:]) if all(signed) else ()
    return len(literals) == 2 and all(part[0] == "num" or is_literal_fraction(part) for part in literals)


def has_double_sign(node: Node) -> bool:
    """True for `-\\frac{-8}{2}` and `-(-4)`; not where there are letters."""
    return any(minus_signs(term) > 1 for term in terms_of(node)) and not symbols(node)


def minus_signs(node: Node) -> int:
    """How many stand before, above and below a product."""
    kind = node[0]
    if kind == "num":
        return int(node[1] < 0)
    return sum(map(minus_signs, node[1] if kind == "*" else node[1:])) if kind in SIGNED else 0


# ---- what is left ----


def operations(node: Node, families: frozenset[str]) -> int:
    """How many a folded expression leaves to be done; functions of these families are none."""
    inner, minus = without_sign(node)
    if minus and inner != ONE:
        return operations(inner, families)
    left = sum(operations(part, families) for part in parts(node))
    if node[0] == "+":
        return left + in_sum(node)
    if node[0] in ("*", "/"):
        return left + in_product(node, families)
    if node[0] == "^":
        return left + in_power(*node[1:])
    return left + (node[0] == "fn" and not is_plain(node, families))


def in_sum(node: Node) -> int:
    """Terms that are rational multiples of one another are still to be added."""
    keys = [
        tuple(in_order(ordered(f) for f in side if not is_rational_factor(f)) for side in factors_of(term))
        for term in (without_sign(term)[0] for term in node[1])
    ]
    has_zero = any(term[:2] == ("num", 0) for term in node[1]) and IMAGINARY not in atoms(node)
    return len(keys) - len(set(keys)) + NO_OP * has_zero


def in_product(node: Node, families: frozenset[str]) -> int:
    """Factors of one kind, on one side of the bar, are still to be multiplied; on both, to be cancelled."""
    sides = factors_of(node)
    above, below = ([kind_of(factor, families) for factor in side] for side in sides)
    cancels = {kind for kind in above if type(kind) is tuple}.intersection(below)
    left = sum(side.count(kind) > 1 for side in (above, below) for kind in set(side)) + NO_OP * bool(cancels)
    divisors = [factor[1] for factor in sides[1] if factor[0] == "num"]
    powers = [factor[1][1] for factor in sides[0] if factor[0] == "^" and factor[1][0] == "num"]
    left += bool(divisors) and any(gcd(base, *divisors) > 1 for base in powers)  # 6^2 / 4
    return left + any(IMAGINARY in atoms(factor) for factor in sides[1])


def kind_of(factor: Node, families: frozenset[str]) -> Node | str:
    """What a factor can be multiplied with: its base, or the name of a kind of numbers."""
    factor = without_sign(factor)[0]
    if is_rational_factor(factor):
        is_kept = factor[0] == "^" and (factor[1] == TEN or "power" in families)  # 1.2 * 10^3
        return factor[1] if is_kept else "rational"
    if surd_of(factor):
        return "surd"
    return "sum" if factor[0] == "+" and not symbols(factor) else ordered(base_of(factor))


def in_power(base: Node, exponent: Node) -> int:
    if exponent[:2] == ("num", 0) or without_sign(base)[0] in (ONE, ZERO):
        return NO_OP
    if base == EULER:
        return int(IMAGINARY in atoms(exponent))
    is_number = not (symbols(base) or symbols(exponent) or base[0] in ("num", "const"))
    return int(is_number and not is_literal_fraction(base))  # (1 + \sqrt 2)^2


# ---- functions ----


@lru_cache(4096)
def families_of(gold: Value) -> frozenset[str]:
    """The kinds of functions that a reference has, and powers of numbers: what an answer may have, too."""
    found: set[str] = set()
    for node in expressions(gold):
        nodes = [folded(node)]
        for part in nodes:  # which grows on the way
            nodes += parts(part)
            if part[0] == "fn":
                found.add(family_of(part))
            elif part[:2] == ("^", EULER) and symbols(part[2]):
                found.add("hyperbolic")  # \\cosh x is a sum of them
            elif part[0] == "^" and is_rational_factor(part):
                found.add("power")
    return frozenset(found)


def family_of(node: Node) -> str:
    """The kind of a function, those of numbers apart: `\\tan 45^\\circ` is work where `\\tan x` is none."""
    family = _FAMILIES.get(node[1], node[1])
    return family if node[1] == "root" or any(map(symbols, node[2])) else f"{family} of numbers"


def is_plain(node: Node, families: frozenset[str]) -> bool:
    """True for a function that the reference has, for n!, and for a root that cannot be taken."""
    family = family_of(node)
    if family in families or family == "factorial":
        return True
    if node[1] != "root":
        return False
    (radicand, degree), surd = node[2], surd_of(node)
    undone = radicand[0] == "^" and radicand[2] == degree and "abs" not in families  # \sqrt[3]{5^3}
    return not (undone or (surd and is_perfect(surd)))


# ---- factors ----


def atoms(node: Node) -> set[Node]:
    return {("const", name) for name in leaves(node, "const")}


def base_of(factor: Node) -> Node:
    return factor[1] if factor[0] == "^" else factor


def is_literal_fraction(node: Node) -> bool:
    return node[0] == "/" and node[1][0] == node[2][0] == "num"


def is_rational_factor(node: Node) -> bool:
    """True for a number, also in degrees or per cent, and for a whole power of one."""
    power = node[0] == "^" and is_whole(node[2])
    base = node[1] if power or node[0] in ("pct", "deg") else node
    return base[0] == "num" or (power and is_literal_fraction(base))


def surd_of(node: Node) -> tuple[int, int] | None:
    """(radicand, degree) of a root of a rational number, whose denominator is taken out of it; else None."""
    if node[:2] != ("fn", "root"):
        return None
    radicand, degree = node[2]
    if not (radicand[0] == degree[0] == "num" and degree[2] == 1 < degree[1] < DEGREE_LIMIT and radicand[1]):
        return None
    if degree[1] * max(map(int.bit_length, radicand[1:])) > BIT_LIMIT:
        return None
    return abs(radicand[1]) * abs(radicand[2]) ** (degree[1] - 1), degree[1]


def is_perfect(surd: tuple[int, int]) -> bool:
    radicand, degree = surd
    return integer_root(radicand, degree) ** degree == radicand
