"""The forms that a problem may ask of an expression: expanded, factored, in lowest terms, a decimal, one power.

A rule of `RULES` is given the folded expressions of an answer and those of the reference: "expanded" refuses (x+1)(x+2)
for x^2+3x+2, "lowest" refuses 4/6 for 2/3. Folded expressions have no brackets and no factors 1 (see normal_form.py).

An expression is a tuple, such as ("num", n, d) for the number n/d or ("*", factors) for a product (see tree.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import gcd, isqrt, prod

from verifiers.math500.asked.finished import base_of, has_surd, surd_of
from verifiers.math500.compare.normal_form import HALVES, factors_of, terms_of, without_sign
from verifiers.math500.tree import (
    ONE,
    Node,
    divides_by_variable,
    has_product_of_sums,
    is_whole,
    parts,
    symbols,
)

Nodes = Sequence[Node]
PRIME_LIMIT = 10**6  # a factor from this limit on is not tested for being prime
_SMALL_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)


def all_nodes(nodes: Nodes) -> Iterator[Node]:
    """Some expressions and all their parts."""
    for node in nodes:
        yield node
        yield from all_nodes(parts(node))


def is_expanded(answer: Nodes, _: Nodes) -> bool:
    """True if no sum is multiplied or raised to a power: x^2+3x+2, not (x+1)(x+2)."""
    products = [node for node in all_nodes(answer) if node[0] == "*"]
    if any(factor[0] == "+" for product in products for factor in product[1]):
        return False
    return not any(map(has_product_of_sums, answer))


def is_factored(answer: Nodes, gold: Nodes) -> bool:
    """True if the answer has at least as many factors as the reference: (x+1)(x+2), not x^2+3x+2.

    The answer may leave a common divisor in a sum, 9x + 3, only if the reference does.
    """
    gold_is_complete = all(map(is_primitive, all_nodes(gold)))
    if gold_is_complete and not all(map(is_primitive, all_nodes(answer))):
        return False
    wanted = max(map(count_factors, gold), default=0)
    return wanted > 1 and max(map(count_factors, answer), default=0) >= wanted


def is_primitive(node: Node) -> bool:
    """False for a sum with letters whose coefficients have a common divisor: 9x + 3."""
    if node[0] != "+" or not symbols(node):
        return True
    return gcd(*map(whole_factor, node[1])) == 1


def unsigned_factors(node: Node) -> list[Node]:
    """The factors of a product, or of the numerator of a quotient, without the sign in front."""
    unsigned, _ = without_sign(node)
    above, _ = factors_of(unsigned)
    return above


def count_factors(node: Node) -> int:
    """How many factors with variables a product has: 3 in x(x+1)^2."""
    count = 0
    for factor in unsigned_factors(node):
        is_whole_power = factor[0] == "^" and is_whole(factor[2])
        base, exponent = factor[1:] if is_whole_power else (factor, ONE)
        if base[0] in ("sym", "+") and symbols(base):
            count += exponent[1]
    return count


def is_product_of_primes(answer: Nodes, gold: Nodes) -> bool:
    """True if the answer is a product of primes and their powers, 2^2 * 3, not 4 * 3.

    False if the reference is a plain number, since then nobody asks for its factors.
    """
    return any(node[0] != "num" for node in gold) and any(map(has_primes_alone, answer))


def has_primes_alone(node: Node) -> bool:
    """True if all factors of an expression are primes and powers of primes."""
    factors, _ = factors_of(node)
    bases = [base_of(factor) for factor in factors]
    return all(is_whole(base) and 1 < base[1] < PRIME_LIMIT and is_prime(base[1]) for base in bases)


def is_prime(n: int) -> bool:
    return all(n % k for k in range(2, isqrt(n) + 1))


def is_lowest(answer: Nodes, _: Nodes) -> bool:
    """True if no fraction can be reduced by a whole number: 2/3, not 4/6."""
    return not any(node[0] == "/" and can_be_reduced(node) for node in all_nodes(answer))


def can_be_reduced(quotient: Node) -> bool:
    """True if a whole number divides the denominator and every term of the numerator: 4/6, (2x+4)/6."""
    _, above, below = quotient
    return gcd(*map(whole_factor, (*terms_of(above), below))) != 1


def is_coprime(answer: Nodes, _: Nodes) -> bool:
    """True if no whole number divides all terms of an equation: x + 2y = 3, not 2x + 4y = 6."""
    return gcd(*(whole_factor(term) for node in answer for term in terms_of(node))) == 1


def whole_factor(term: Node) -> int:
    """The product of the whole numbers among the factors of a term."""
    return prod(factor[1] for factor in unsigned_factors(term) if is_whole(factor))


def is_decimal_literal(node: Node) -> bool:
    """True for a whole number or a decimal that ends, 12 or 0.5, since its denominator is a power of ten."""
    return node[0] == "num" and str(node[2]).strip("0") == "1"


def is_simplified(answer: Nodes, gold: Nodes) -> bool:
    """True if the answer is in lowest terms and has no root of a number.

    If the reference is in sine and cosine and divides by no letter, the answer may not divide by one either.
    """
    if any(map(has_surd, answer)) or not is_lowest(answer, gold):
        return False
    functions = {node[1] for node in all_nodes(gold) if node[0] == "fn"}
    is_in_sine_and_cosine = bool(functions) and functions <= {"sin", "cos"}
    if is_in_sine_and_cosine and not any(map(divides_by_variable, gold)):
        return not any(map(divides_by_variable, answer))
    return True


def is_mixed_number(answer: Nodes, _: Nodes) -> bool:
    """True if a mixed number stands in the answer: 1 1/2, not 3/2 or 1.5."""
    return any(node[0] == "num" and not is_decimal_literal(node) for node in all_nodes(answer))


def has_no_mixed_number(answer: Nodes, gold: Nodes) -> bool:
    """True if no mixed number stands in the answer: 9/4, not 2 1/4."""
    return not is_mixed_number(answer, gold)


def is_fraction(answer: Nodes, gold: Nodes) -> bool:
    """True if the answer has no decimals and the reference is a fraction: 1/2, not 0.5.

    A number that is no literal decimal (`is_decimal_literal`) is a mixed number or, below 1, a repeating decimal.
    """
    has_decimal = any(
        node[0] == "num" and node[2] > 1 and (is_decimal_literal(node) or node[1] < node[2])
        for node in all_nodes(answer)
    )
    return any(node[0] == "/" for node in all_nodes(gold)) and not has_decimal


def is_decimal(answer: Nodes, gold: Nodes) -> bool:
    """True if the answer is in decimals, 0.5, and so is the reference."""
    has_decimal = any(
        node[0] == "num" and node[2] > 1 and is_decimal_literal(node) for node in all_nodes(gold)
    )
    return has_decimal and all(map(is_decimal_literal, answer))


def is_literal(answer: Nodes, _: Nodes) -> bool:
    """True if the answer is a number in digits: 0.5, neither 1/2 nor 5 * 0.1."""
    return all(node[0] == "num" for node in answer)


def is_in_parts(answer: Nodes, gold: Nodes) -> bool:
    """True if the answer has as many partial fractions as the reference, and more than one: 1/x - 1/(x+1)."""
    wanted = count_partial_fractions(gold)
    return wanted > 1 and count_partial_fractions(answer) == wanted


def count_partial_fractions(nodes: Nodes) -> int:
    """How many terms of the expressions are divided by a variable."""
    return sum(divides_by_variable(term) for node in nodes for term in terms_of(node))


def has_small_radicands(answer: Nodes, _: Nodes) -> bool:
    """True if nothing more can be taken out of a root: 2 sqrt(3), not sqrt(12)."""
    surds = [surd for surd in map(surd_of, all_nodes(answer)) if surd]
    for radicand, degree in surds:
        reduced = reduced_radicand(radicand, degree)
        # A root that is a whole number, sqrt(9), is not judged here; it leaves work (see `finished`).
        if reduced not in (1, radicand):
            return False
    return True


def reduced_radicand(radicand: int, degree: int) -> int:
    """A radicand without the powers of small primes that can be taken out of its root: 3 for 12 and degree 2."""
    for prime in _SMALL_PRIMES:
        while radicand % prime**degree == 0:
            radicand //= prime**degree
    return radicand


def is_simplest_radical(answer: Nodes, gold: Nodes) -> bool:
    """True if the answer is in lowest terms and nothing more can be taken out of a root: 2 sqrt(3), not sqrt(12)."""
    return is_lowest(answer, gold) and has_small_radicands(answer, gold)


def is_scientific(answer: Nodes, _: Nodes) -> bool:
    """True for a number from 1 to below 10, times a power of ten: 1.2 * 10^5, not 12 * 10^4."""
    for node in answer:
        factors = unsigned_factors(node)
        powers = [factor for factor in factors if factor[:2] == ("^", ("num", 10, 1))]
        others = [factor for factor in factors if factor not in powers]
        if len(powers) != 1 or not all(map(has_one_whole_digit, others)):
            return False
    return True


def has_one_whole_digit(factor: Node) -> bool:
    """True for a number from 1 to below 10: 1.2."""
    return factor[0] == "num" and factor[2] <= factor[1] < 10 * factor[2]


def is_one_fraction(answer: Nodes, _: Nodes) -> bool:
    """True if the answer is one fraction: (x+1)/x, not 1 + 1/x."""
    return all(without_sign(node)[0][0] == "/" for node in answer)


def is_power(answer: Nodes, _: Nodes) -> bool:
    """True if the answer has a power: 2^5, not 32."""
    return any(node[0] == "^" for node in all_nodes(answer))


def is_single(answer: Nodes, gold: Nodes) -> bool:
    """True if the answer has functions, but no more functions or terms than the reference: log 6, not log 2 + log 3."""
    if not 0 < count_functions(answer) <= count_functions(gold):
        return False
    return count_terms(answer) <= count_terms(gold)


def count_functions(nodes: Nodes) -> int:
    return sum(node[0] == "fn" for node in all_nodes(nodes))


def count_terms(nodes: Nodes) -> int:
    """The number of terms of the expression that has the most."""
    return max(len(terms_of(node)) for node in nodes)


Rule = Callable[[Nodes, Nodes], bool]


def is_rational_below(answer: Nodes, _: Nodes) -> bool:
    """True if no root of a number stands in or around a denominator: sqrt(2)/2, not 1/sqrt(2), nor sqrt(1/2)."""
    return not any(
        has_surd(node[2]) if node[0] == "/" else node[:2] == ("fn", "root") and divides(node[2][0])
        for node in all_nodes(answer)
    )


def divides(node: Node) -> bool:
    """True for a quotient or a number that is not whole."""
    return node[0] == "/" or (node[0] == "num" and node[1] % node[2] != 0)


RULES: dict[str, Rule] = {  # {form that a problem asks for: whether an answer has it}
    "expanded": is_expanded, "factored": is_factored, "primes": is_product_of_primes, "lowest": is_lowest,
    "single": is_single, "simplified": is_simplified, "mixed": is_mixed_number, "decimal": is_decimal,
    "repeating": is_literal, "parts": is_in_parts, "radical": is_simplest_radical, "scientific": is_scientific,
    "one fraction": is_one_fraction, "fraction": is_fraction, "power": is_power,
    "coprime": is_coprime, "rational": is_rational_below, "improper": has_no_mixed_number,
}  # fmt: skip


def layout(node: Node) -> tuple[bool, bool, bool]:
    """Three truth values: (is a sum, has a sum with variables that is multiplied or raised to a power, is a power).

    The layout of a(x - h)^2 + k is (True, True, False). Roots are no powers.
    """
    is_sum = len(terms_of(node)) > 1
    is_raised = node[0] == "^" and node[2] not in HALVES
    return is_sum, has_product_of_sums(node), is_raised
