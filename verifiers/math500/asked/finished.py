r"""Is a value finished, or is there work left to do in it?

Finished are integers, fractions of two integers, decimals, a power of a number, a multiple of a surd, sums of distinct
surds, multiples of pi, e and i, functions such as the reference has, and expressions in variables in which nothing is
left to collect or to cancel. `work` counts the steps that are left; an answer may leave as many as the reference, and
one more.
"""

from __future__ import annotations

from collections.abc import Sequence
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

DEGREE_LIMIT = 100  # a root of this degree or more is not looked into
BIT_LIMIT = 4_000  # nor a root whose degree times the bits of its radicand is above this
NO_OP = 10  # the work of x^0, pi/pi and a term 0, which is more than any reference leaves
EULER, IMAGINARY = ("const", "e"), ("const", "i")
NOT_IMAGINARY = ("*", (ZERO, IMAGINARY))  # 16 + 0i is how a real number is written as a + bi
_FAMILIES = {
    **dict.fromkeys([*TRIGONOMETRIC, "asin", "acos", "atan"], "trigonometric"),
    **dict.fromkeys(["ln", "log"], "logarithm"),
    **dict.fromkeys(["!", "binom"], "factorial"),
    **dict.fromkeys("sinh cosh tanh sech csch coth".split(), "hyperbolic"),
}
UNTOUCHED = frozenset({"factorial", "root"}) | {
    f"{kind}{suffix}" for kind in ("trigonometric", "logarithm", "abs") for suffix in ("", " of numbers")
}
"""Kinds of functions that are no work of a reference: it may leave `\\ln 2`."""
SIGNED = ("*", "/", "paren", "deg", "pct")
"""Kinds of expressions whose parts may have minus signs: `(-3)/4`."""
_SMALL_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)


def is_finished(answer: Value, gold: Value) -> bool:
    """True if the answer leaves no work, or, if the reference leaves some, at most one step more than it."""
    if is_pair(answer):
        return True
    families = families_of(gold)
    left = sum(work(folded(node), families) + has_double_sign(node) for node in expressions(answer))
    if type(answer) is type(gold) is tuple and (CONSTANTS | INDICES).isdisjoint(symbols(gold)):
        left += NO_OP * bool(symbols(answer) - symbols(gold))  # letters that cancel
    if not left:
        return True
    work_of_gold = sum(work(folded(node), families & UNTOUCHED) for node in expressions(gold))
    return work_of_gold > 0 and left <= work_of_gold + 1


def is_pair(answer: Value) -> bool:
    r"""True for `3 \pm 7`, which stands for the sum and the difference of two numbers."""
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
    """True for an expression without letters that has two minus signs in a term: `-\\frac{-8}{2}`, `-(-4)`."""
    return any(minus_signs(term) > 1 for term in terms_of(node)) and not symbols(node)


def minus_signs(node: Node) -> int:
    """How many minus signs stand before a product and in its factors, above and below the bar."""
    kind = node[0]
    if kind == "num":
        return int(node[1] < 0)
    return sum(map(minus_signs, node[1] if kind == "*" else node[1:])) if kind in SIGNED else 0


@lru_cache(4096)
def families_of(gold: Value) -> frozenset[str]:
    """The kinds of functions that a reference has, and that an answer may have."""
    found: set[str] = set()
    for node in expressions(gold):
        nodes = [folded(node)]
        for part in nodes:  # the list grows on the way
            nodes += parts(part)
            if part[0] == "fn":
                found.add(family_of(part))
            elif part[:2] == ("^", EULER) and symbols(part[2]):
                found.add("hyperbolic")  # \\cosh x is a sum of them
    return frozenset(found)


def family_of(node: Node) -> str:
    """The kind of a function, which has another name for numbers: `\\tan 45^\\circ` is work where `\\tan x` is none."""
    family = _FAMILIES.get(node[1], node[1])
    return family if node[1] == "root" or any(map(symbols, node[2])) else f"{family} of numbers"


def atoms(node: Node) -> set[Node]:
    """The constants in an expression, such as pi and i."""
    return {("const", name) for name in leaves(node, "const")}


def work(node: Node, families: frozenset[str]) -> int:
    """How many steps of a calculation a folded expression leaves to be done."""
    kind = node[0]
    if kind in ("num", "sym", "const", "pm", "held"):
        return 0
    if kind in ("deg", "pct"):
        return work(node[1], families)
    if kind == "+":
        return work_in_sum(node[1], families)
    if kind == "^":
        return work_in_power(node[1], node[2], families)
    if kind == "fn":
        if node[1] == "root":
            return work_in_root(*node[2], families)
        left = sum(work(argument, families) for argument in node[2])
        family = family_of(node)
        return left + (family not in families and family != "factorial")  # n!, not 8!
    inner, minus = without_sign(node)
    return work(inner, families) if minus else work_in_product(node, families)


# ---- powers and roots ----


def work_in_power(base: Node, exponent: Node, families: frozenset[str]) -> int:
    """`work` of a power: none in 2^10 and (1/2)^3, some in (x^2)^3 and (1 + sqrt 2)^2."""
    left = work(base, families) + work(exponent, families)
    if exponent[:2] == ("num", 0) or without_sign(base)[0] in (ONE, ZERO):
        return left + NO_OP
    if base == EULER:
        return left + (IMAGINARY in atoms(exponent))
    if symbols(base):
        return left + (base[0] == "^" and not symbols(exponent))
    if symbols(exponent) or base[0] in ("num", "const"):
        return left
    reduced = is_literal_fraction(base) and gcd(base[1][1], base[2][1]) == 1
    return left + (not reduced)  # (1 + \sqrt 2)^2


def work_in_root(radicand: Node, degree: Node, families: frozenset[str]) -> int:
    """`work` of a root: none in sqrt(12), some in sqrt(169) and sqrt(5^2)."""
    left = work(radicand, families)
    if symbols(radicand):
        is_whole = radicand[0] == "^" and radicand[2] == degree
        return left + (is_whole and families.isdisjoint(("abs", "root")))
    if radicand[0] == "^" and radicand[2][0] == degree[0] == "num":
        return left + (radicand[2] == degree or radicand[1][0] != "num" or radicand[1][2] != 1)  # \sqrt{5^2}
    surd = surd_of(("fn", "root", (radicand, degree)))
    left += bool(surd) and is_perfect(surd) and "root" not in families  # the root of 169
    plain = radicand[0] in ("num", "+", "const") or is_literal_fraction(radicand)
    return left + (not plain and not surds_in(radicand) and not atoms(radicand))


def is_literal_fraction(node: Node) -> bool:
    """True for a number over a number: 3/4."""
    return node[0] == "/" and node[1][0] == node[2][0] == "num"


def surd_of(node: Node) -> tuple[int, int] | None:
    """(radicand, degree) of a root of a rational number, with a whole radicand, 6 for sqrt(2/3); None for all else."""
    if node[:2] != ("fn", "root"):
        return None
    radicand, degree = node[2]
    if not (radicand[0] == degree[0] == "num" and degree[2] == 1 < degree[1] < DEGREE_LIMIT and radicand[1]):
        return None
    if degree[1] * max(map(int.bit_length, radicand[1:])) > BIT_LIMIT:
        return None
    return abs(radicand[1]) * abs(radicand[2]) ** (degree[1] - 1), degree[1]


def surds_in(node: Node) -> bool:
    """True if a root of a rational number stands in an expression."""
    return surd_of(node) is not None or any(map(surds_in, parts(node)))


def is_perfect(surd: tuple[int, int]) -> bool:
    """True if a root is a whole number: sqrt(169)."""
    radicand, degree = surd
    return integer_root(radicand, degree) ** degree == radicand


# ---- products ----


def work_in_product(node: Node, families: frozenset[str]) -> int:
    """`work` of a product or quotient: none in 3/4 pi, some in 2 * 3 and sqrt 2 * sqrt 3."""
    above, below = factors_of(node)
    left = sum(work(factor, families) for factor in [*above, *below])
    left += work_of_numbers(above, below) + work_of_surds(above, below, families) + nested_fractions(node)
    for constant in (EULER, IMAGINARY, ("const", "pi")):
        up, down = ([base_of(factor) for factor in side].count(constant) for side in (above, below))
        left += NO_OP * (up > 0 < down) + (up + down > 1)
    left += any(IMAGINARY in atoms(factor) for factor in below)
    sums = [sum(f[0] == "+" and not symbols(f) for f in side) for side in (above, below)]
    left += sum(count - 1 for count in sums if count > 1)
    return left + work_of_letters(above, below)


def base_of(factor: Node) -> Node:
    """The base of a power; any other factor as it is."""
    return factor[1] if factor[0] == "^" else factor


def is_rational_factor(node: Node) -> bool:
    """True for a number, also in degrees or per cent, and for a whole power of a number."""
    power = node[0] == "^" and is_whole(node[2])
    base = node[1] if power or node[0] in ("pct", "deg") else node
    return base[0] == "num" or (power and is_literal_fraction(base))


def work_of_numbers(above: Sequence[Node], below: Sequence[Node]) -> int:
    """How many steps are left to multiply numbers; none for one above and one below the bar, which are a fraction."""
    up, down = (
        [without_sign(f)[0] for f in side if is_rational_factor(without_sign(f)[0])]
        for side in (above, below)
    )
    if ZERO in up:
        return NO_OP
    scientific = len(up) == 2 and up[0][0] == "num" and up[1][:2] == ("^", ("num", 10, 1)) and not down
    left = (len(up) > 1 and not scientific) + (len(down) > 1)
    powers = [factor for factor in up if factor[0] == "^" and factor[1] != ("num", 10, 1)]
    left += bool(powers) and len(above) > len(up) and not any(map(symbols, above))  # 4^2 \\pi
    left += sum(factor[0] == "num" and factor[2] != 1 for factor in down)
    left += any(  # 8^2 / 2
        f[0] == "^" and f[1][0] == "num" and gcd(f[1][1], *(g[1] for g in down if g[0] == "num")) > 1
        for f in up
        if any(g[0] == "num" for g in down)
    )
    return left + sum(factor[0] == "^" and factor[2][1] < 0 for factor in (*down, *(up if down else ())))


def work_of_surds(above: Sequence[Node], below: Sequence[Node], families: frozenset[str]) -> int:
    """How many steps are left to multiply or take roots; none for sqrt 2 / sqrt 3, which have no common divisor."""
    up, down = ([surd for surd in map(surd_of, side) if surd] for side in (above, below))
    left = max(len(up) - 1, 0) + max(len(down) - 1, 0)
    left += sum(gcd(a[0], b[0]) > 1 for a in up for b in down)
    plain = all(is_rational_factor(factor) or surd_of(factor) for factor in (*above, *below))
    return left + (0 if plain and "root" in families else sum(map(is_perfect, (*up, *down))))


def nested_fractions(node: Node) -> int:
    r"""How many fractions stand above and below the bar: 1 in `\frac{12}{1/18}`."""
    return sum(part[0] == "/" for part in node[1:]) if node[0] == "/" else 0


def work_of_letters(above: Sequence[Node], below: Sequence[Node]) -> int:
    """How many steps are left to join powers of a letter, x * x^2, or to cancel letters, x/x."""
    up, down = ([ordered(base_of(f)) for f in side if symbols(base_of(f))] for side in (above, below))
    letters = [base for base in up if base[0] == "sym"]
    return len(letters) - len(set(letters)) + NO_OP * any(base in down for base in up)


# ---- sums ----


def work_in_sum(terms: Sequence[Node], families: frozenset[str]) -> int:
    """`work` of a sum: none in 1 + sqrt 2, some in 2 + 3 and x + 2x."""
    left = sum(work(term, families) for term in terms if term != NOT_IMAGINARY)
    keys = [key_of(term) for term in terms]
    if any(term[:2] == ("num", 0) for term in terms) and not any(IMAGINARY in atoms(term) for term in terms):
        left += NO_OP
    return left + len(keys) - len(set(keys))


def key_of(term: Node) -> tuple:
    """A term without its rational factors, x for 2x; terms with the same key are still to be added."""
    sides = factors_of(without_sign(term)[0])
    return tuple(in_order(ordered(f) for f in side if not is_rational_factor(f)) for side in sides)


def kernel(radicand: int, degree: int) -> int:
    """A radicand without the powers of small primes that can be taken out of its root: 3 for 12 and degree 2."""
    for prime in _SMALL_PRIMES:
        while radicand % prime**degree == 0:
            radicand //= prime**degree
    return radicand
