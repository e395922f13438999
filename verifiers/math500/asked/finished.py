r"""Is a value finished, or is there work left to do in it?

These are finished: integers, fractions of two integers, decimals, a power of a number, a multiple of a surd (a root of
a number), sums of distinct surds, multiples of pi, e and i, functions of a kind that the reference has, and expressions
in variables with nothing left to collect or to cancel. `work` counts the steps that are left. If the reference leaves
some, an answer may leave one more.

An expression is a tuple, such as ("num", n, d) for the number n/d or ("*", factors) for a product (see tree.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd

from verifiers.math500.compare.exact import integer_root
from verifiers.math500.compare.normal_form import (
    factors_of,
    folded,
    in_order,
    ordered,
    terms_of,
    without_sign,
)
from verifiers.math500.tree import (
    CONSTANTS,
    INDICES,
    ONE,
    TRIGONOMETRIC,
    ZERO,
    Node,
    is_whole,
    leaves,
    parts,
    symbols,
)
from verifiers.math500.values import Value, expressions, is_expression

DEGREE_LIMIT = 100  # a root of this degree or more is not looked into
BIT_LIMIT = 4_000  # nor a root whose degree times the bits of its radicand is above this
STEPS_OF_NO_OP = 10
"""How many steps x^0, pi/pi or a term 0 counts as: more than any reference leaves, so no answer may have one."""
EULER, IMAGINARY = ("const", "e"), ("const", "i")
TEN = ("num", 10, 1)
ZERO_TIMES_I = ("*", (ZERO, IMAGINARY))  # 0i: a real number in the form a + bi is 16 + 0i
_KINDS = {  # {name of a function: its kind}; any other function is a kind of its own
    **dict.fromkeys([*TRIGONOMETRIC, "asin", "acos", "atan"], "trigonometric"),
    **dict.fromkeys(["ln", "log"], "logarithm"),
    **dict.fromkeys(["!", "binom"], "factorial"),
    **dict.fromkeys("sinh cosh tanh sech csch coth".split(), "hyperbolic"),
}
LEFT_BY_REFERENCES = frozenset(
    "factorial,root,trigonometric,trigonometric of numbers,logarithm,logarithm of numbers,abs,abs of numbers".split(
        ","
    )
)
"""Kinds of functions (as `kind_of_function` calls them) that are no work in a reference: \\ln 2, not \\binom{8}{3}."""
SIGNED = ("*", "/", "paren", "deg", "pct")
"""Kinds of expressions whose parts may have minus signs: `(-3)/4`."""


def is_finished(answer: Value, gold: Value) -> bool:
    """True if the answer leaves no work. If the reference leaves some, the answer may leave one step more than it."""
    allowed = functions_in(gold)
    nodes = list(expressions(answer))
    steps = sum(work(folded(node), allowed) for node in nodes) + sum(map(has_double_sign, nodes))
    if is_expression(answer) and is_expression(gold):
        # The answer may have another letter than the reference for an arbitrary constant or integer.
        has_free_letter = not (CONSTANTS | INDICES).isdisjoint(symbols(gold))
        if not has_free_letter and symbols(answer) - symbols(gold):
            steps += STEPS_OF_NO_OP  # a letter that the equal reference lacks cancels: x - x + 2
    if steps == 0:
        return True
    # The functions of the reference are no work in the answer. Some of them are work in the reference itself: if it is
    # \binom{8}{3}, it leaves a step, and then the answer may leave one step more.
    work_of_gold = sum(work(folded(node), allowed & LEFT_BY_REFERENCES) for node in expressions(gold))
    return work_of_gold > 0 and steps <= work_of_gold + 1


def has_double_sign(node: Node) -> bool:
    """True for an expression without letters that has two minus signs in a term: `-\\frac{-8}{2}`, `-(-4)`."""
    return any(minus_signs(term) > 1 for term in terms_of(node)) and not symbols(node)


def minus_signs(node: Node) -> int:
    """How many minus signs stand before a product and in its factors, above and below the bar."""
    kind = node[0]
    if kind == "num":
        return int(node[1] < 0)
    if kind not in SIGNED:
        return 0
    return sum(map(minus_signs, parts(node)))


@lru_cache(4096)
def functions_in(gold: Value) -> frozenset[str]:
    """The kinds of functions that a reference has, so that an answer may have them, too."""
    found: set[str] = set()
    for node in expressions(gold):
        nodes = [folded(node)]
        for part in nodes:  # the list grows on the way
            nodes += parts(part)
            if part[0] == "fn":
                found.add(kind_of_function(part))
            elif part[:2] == ("^", EULER) and symbols(part[2]):
                found.add("hyperbolic")  # \\cosh x is a sum of such powers
    return frozenset(found)


def kind_of_function(node: Node) -> str:
    """The kind of a function. Functions of numbers have other kinds: `\\tan 45^\\circ` is work, `\\tan x` is not."""
    _, name, arguments = node
    kind = _KINDS.get(name, name)
    has_letters = any(map(symbols, arguments))
    return kind if has_letters or name == "root" else f"{kind} of numbers"


def constants_in(node: Node) -> set[Node]:
    """The constants in an expression, such as pi and i."""
    return {("const", name) for name in leaves(node, "const")}


def work(node: Node, allowed: frozenset[str]) -> int:
    """How many steps of a calculation a folded expression leaves to be done.

    `allowed`: the kinds of functions that are no work.
    """
    kind = node[0]
    if kind in ("num", "sym", "const", "pm", "held"):  # "held" has a value that is no expression: a matrix
        return 0
    if kind in ("deg", "pct"):
        return work(node[1], allowed)
    if kind == "+":
        return work_in_sum(node[1], allowed)
    if kind == "^":
        return work_in_power(node[1], node[2], allowed)
    if kind == "fn":
        _, name, arguments = node
        if name == "root":
            return work_in_root(*arguments, allowed)
        steps = sum(work(argument, allowed) for argument in arguments)
        function_kind = kind_of_function(node)
        # n! is no work. 8! is of the kind "factorial of numbers".
        if function_kind not in allowed and function_kind != "factorial":
            steps += 1
        return steps
    inner, has_minus = without_sign(node)
    return work(inner, allowed) if has_minus else work_in_product(node, allowed)


# ---- powers and roots ----


def work_in_power(base: Node, exponent: Node, allowed: frozenset[str]) -> int:
    """`work` of a power: none in 2^10 and (1/2)^3, some in (x^2)^3 and (1 + sqrt 2)^2."""
    steps = work(base, allowed) + work(exponent, allowed)
    if exponent[:2] == ("num", 0) or without_sign(base)[0] in (ONE, ZERO):
        return steps + STEPS_OF_NO_OP
    if base == EULER:
        is_work = IMAGINARY in constants_in(exponent)  # e^{i \pi}
    elif base == IMAGINARY:
        is_work = is_whole(exponent)  # i^3
    elif symbols(base):
        is_work = base[0] == "^" and not symbols(exponent)  # (x^2)^3
    elif symbols(exponent) or base[0] in ("num", "const"):
        is_work = False
    else:
        is_reduced = is_literal_fraction(base) and gcd(base[1][1], base[2][1]) == 1
        is_work = not is_reduced  # (1 + \sqrt 2)^2
    return steps + 1 if is_work else steps


def work_in_root(radicand: Node, degree: Node, allowed: frozenset[str]) -> int:
    """`work` of a root: none in sqrt(12), some in sqrt(169) and sqrt(5^2)."""
    steps = work(radicand, allowed)
    if symbols(radicand):
        cancels = radicand[0] == "^" and radicand[2] == degree  # sqrt(x^2)
        is_work = cancels and allowed.isdisjoint(("abs", "root"))  # the reference has neither |x| nor a root
        return steps + 1 if is_work else steps
    if radicand[0] == "^" and radicand[2][0] == "num" and degree[0] == "num":
        _, base, exponent = radicand
        is_work = exponent == degree or not is_whole(base)  # \sqrt{5^2}, \sqrt{(2/3)^3}
        return steps + 1 if is_work else steps
    surd = surd_of(("fn", "root", (radicand, degree)))
    if surd and is_perfect(surd) and "root" not in allowed:
        steps += 1  # the root of 169
    # 12, 2/3, pi and 2 + 3 may stand under a root; the step that the sum leaves is counted already. Anything else, as
    # 2 * 3, is a step more, unless it has a root or a constant in it.
    is_plain = radicand[0] in ("num", "+", "const") or is_literal_fraction(radicand)
    if not is_plain and not has_surd(radicand) and not constants_in(radicand):
        steps += 1
    return steps


def is_literal_fraction(node: Node) -> bool:
    """True for a number over a number: 3/4."""
    return node[0] == "/" and node[1][0] == "num" and node[2][0] == "num"


def surd_of(node: Node) -> tuple[int, int] | None:
    """(radicand, degree) of a root of a number, as a root of a whole number: (6, 2) for sqrt(2/3), which is sqrt(6)/3.

    None for any other expression, a root of 0, and a root that is too large to be looked into.
    """
    if node[:2] != ("fn", "root"):
        return None
    radicand, degree = node[2]
    if radicand[0] != "num" or radicand[1] == 0:
        return None
    if not is_whole(degree) or not 1 < degree[1] < DEGREE_LIMIT:
        return None
    if degree[1] * max(map(int.bit_length, radicand[1:])) > BIT_LIMIT:
        return None
    _, n, d = radicand
    k = degree[1]
    return abs(n) * abs(d) ** (k - 1), k  # the k-th root of n/d is that of n d^(k-1), over d


def has_surd(node: Node) -> bool:
    """True if a root of a rational number stands in an expression."""
    return surd_of(node) is not None or any(map(has_surd, parts(node)))


def is_perfect(surd: tuple[int, int]) -> bool:
    """True if a root is a whole number: sqrt(169)."""
    radicand, degree = surd
    return integer_root(radicand, degree) ** degree == radicand


# ---- products ----


def work_in_product(node: Node, allowed: frozenset[str]) -> int:
    """`work` of a product or quotient: none in 3/4 pi, some in 2 * 3 and sqrt 2 * sqrt 3."""
    above, below = factors_of(node)
    steps = sum(work(factor, allowed) for factor in [*above, *below])
    steps += work_of_numbers(above, below) + work_of_surds(above, below, allowed)
    for factors in (above, below):
        sums_of_numbers = [factor for factor in factors if factor[0] == "+" and not symbols(factor)]
        steps += max(len(sums_of_numbers) - 1, 0)  # (1 + sqrt 2)(1 + sqrt 3)
    return steps


def base_of(factor: Node) -> Node:
    """The base of a power; any other factor as it is."""
    return factor[1] if factor[0] == "^" else factor


def is_rational_factor(node: Node) -> bool:
    """True for a number, also in degrees or per cent, and for a whole power of a number."""
    is_whole_power = node[0] == "^" and is_whole(node[2])
    base = node[1] if is_whole_power or node[0] in ("pct", "deg") else node
    return base[0] == "num" or (is_whole_power and is_literal_fraction(base))


def work_of_numbers(above: Sequence[Node], below: Sequence[Node]) -> int:
    """How many steps are left to multiply numbers; none for one above and one below the bar, which are a fraction."""
    numbers_above, numbers_below = numbers_among(above), numbers_among(below)
    if ZERO in numbers_above:
        return STEPS_OF_NO_OP
    steps = 0
    if len(numbers_above) > 1 and (numbers_below or not is_scientific(numbers_above)):  # 2 * 3, not 3 * 10^5
        steps += 1
    steps += sum(factor[0] == "num" and factor[2] != 1 for factor in numbers_below)  # 3 / 0.5
    divisors = [factor[1] for factor in numbers_below if factor[0] == "num"]
    bases = [factor[1][1] for factor in numbers_above if factor[0] == "^" and factor[1][0] == "num"]
    if divisors and any(gcd(base, *divisors) > 1 for base in bases):  # 8^2 / 2
        steps += 1
    return steps


def is_scientific(factors: Sequence[Node]) -> bool:
    """True for the factors of a number in scientific notation: 3 and 10^5."""
    return len(factors) == 2 and factors[0][0] == "num" and factors[1][:2] == ("^", TEN)


def numbers_among(factors: Sequence[Node]) -> list[Node]:
    """The factors that are numbers or powers of numbers, without their signs."""
    unsigned = [without_sign(factor)[0] for factor in factors]
    return [factor for factor in unsigned if is_rational_factor(factor)]


def work_of_surds(above: Sequence[Node], below: Sequence[Node], allowed: frozenset[str]) -> int:
    """How many steps are left to multiply or take roots; some in sqrt 6 / sqrt 3, none in sqrt 2 / sqrt 3."""
    surds_above, surds_below = surds_among(above), surds_among(below)
    steps = max(len(surds_above) - 1, 0) + max(len(surds_below) - 1, 0)
    steps += sum(gcd(a[0], b[0]) > 1 for a in surds_above for b in surds_below)
    are_numbers = all(is_rational_factor(factor) or surd_of(factor) for factor in (*above, *below))
    if are_numbers and "root" in allowed:
        return steps  # 2 sqrt(9) is no work if the reference has a root, too
    return steps + sum(map(is_perfect, (*surds_above, *surds_below)))


def surds_among(factors: Sequence[Node]) -> list[tuple[int, int]]:
    """`surd_of` for each factor that is a surd."""
    return [surd for surd in map(surd_of, factors) if surd]


# ---- sums ----


def work_in_sum(terms: Sequence[Node], allowed: frozenset[str]) -> int:
    """`work` of a sum: none in 1 + sqrt 2, some in 2 + 3 and x + 2x."""
    steps = sum(work(term, allowed) for term in terms if term != ZERO_TIMES_I)
    variable_parts = [variable_part(term) for term in terms]
    has_zero = any(term[:2] == ("num", 0) for term in terms)
    if has_zero and not any(IMAGINARY in constants_in(term) for term in terms):
        steps += STEPS_OF_NO_OP
    to_be_added = len(variable_parts) - len(set(variable_parts))
    return steps + to_be_added


def variable_part(term: Node) -> tuple:
    """(factors, divisors) of a term, both sorted and without rational numbers: x for 2x.

    Terms with the same variable part are still to be added.
    """
    above, below = factors_of(without_sign(term)[0])
    return without_rational(above), without_rational(below)


def without_rational(factors: Sequence[Node]) -> tuple[Node, ...]:
    """The factors that are not rational numbers, sorted."""
    return in_order(ordered(factor) for factor in factors if not is_rational_factor(factor))
