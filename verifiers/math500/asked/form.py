"""Whether an answer has the form and the unit that its problem asks for.

An answer must be in lowest terms, a fraction, a decimal, expanded or factored only if the reference is, too. So no
answer that looks like the reference is refused for its form, even if a problem is misread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import gcd, prod

from verifiers.math500.asked.copies import fraction_of
from verifiers.math500.asked.finished import has_surd
from verifiers.math500.compare.normal_form import factors_of, folded, terms_of, without_sign
from verifiers.math500.tree import Node, has_product_of_sums, is_decimal_literal, is_whole, parts
from verifiers.math500.values import Quantity, Value, expressions, quotient
from verifiers.reading import units
from verifiers.reading.problem import Problem

Nodes = Sequence[Node]
_SAME_KINDS = {"ounce": "g", "teaspoon": "l"}
"""{a unit, which stands for its kind: the one that stands for the same quantity in metric units}."""


def has_form(answer: Value, gold: Value, problem: Problem) -> bool:
    """True if the answer has every form that is asked for and that the reference has."""
    rules = [RULES[form] for form in problem.forms]
    return all(
        rule(*map(nodes_of, (answer, gold))) or not rule(*map(nodes_of, (gold, gold))) for rule in rules
    )


def nodes_of(value: Value) -> list[Node]:
    """All expressions of a value, without brackets and factors 1; that of 24:18 is 24/18."""
    return [folded(node) for node in expressions(quotient(value))]


def all_nodes(nodes: Nodes) -> Iterator[Node]:
    """Some expressions and all their parts."""
    for node in nodes:
        yield node
        yield from all_nodes(parts(node))


def is_lowest(answer: Nodes, _: Nodes) -> bool:
    """True if no whole number divides the denominator and every term of the numerator: not 4/6, (2x+4)/6."""
    return not any(
        node[0] == "/" and gcd(*map(whole_factor, (*terms_of(node[1]), node[2]))) != 1
        for node in all_nodes(answer)
    )


def whole_factor(term: Node) -> int:
    """The product of the whole numbers among the factors of a term, without its sign."""
    above, _ = factors_of(without_sign(term)[0])
    return prod(factor[1] for factor in above if is_whole(factor))


def is_simplified(answer: Nodes, gold: Nodes) -> bool:
    """True if the answer is in lowest terms and has no root of a number."""
    return is_lowest(answer, gold) and not any(map(has_surd, answer))


def is_fraction(answer: Nodes, gold: Nodes) -> bool:
    """True if the answer has no decimals and the reference is a fraction: 1/2, not 0.5.

    A number that is no literal decimal is a mixed number or, below 1, a repeating decimal.
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


def is_expanded(answer: Nodes, _: Nodes) -> bool:
    """True if no term is a product of sums: not x(x+1) + 2(x+1)."""
    return not any(has_product_of_sums(term) for node in answer for term in terms_of(node))


def is_factored(answer: Nodes, _: Nodes) -> bool:
    """True if the answer is no sum: not x(x+3) + 2."""
    return all(len(terms_of(node)) == 1 for node in answer)


def is_in_parts(answer: Nodes, gold: Nodes) -> bool:
    """True if the answer is a sum, as partial fractions are: not (x^2+x)^{-1}."""
    return not is_factored(answer, gold)


RULES = {
    "lowest": is_lowest, "simplified": is_simplified, "fraction": is_fraction, "decimal": is_decimal,
    "expanded": is_expanded, "factored": is_factored, "parts": is_in_parts,
}  # fmt: skip
"""{a form of `Problem.forms`: whether (the expressions of an answer, those of the reference) have it}."""


def allows_unit(answer: Value, gold: Value, problem: Problem) -> bool:
    """True for a unit that the problem asks for or, if it asks for none, for one that it names; any if it names none.

    Only units of the answer's kind count: a problem in feet says nothing of hours.
    """
    unit = answer.unit if type(answer) is Quantity else ""
    wanted = gold.unit if type(gold) is Quantity else ""
    if not unit or unit == wanted or (wanted and not units.conflict(unit, wanted)):
        return True
    if unit == "percent":
        return bool(wanted) or not ("fraction" in problem.lower or "decimal" in problem.lower)
    if problem.asked_units:
        return any(is_one_unit(unit, asked) for asked in problem.asked_units)
    if "/" in unit:
        # Any problem may speak of rates; the one that it says itself is not the one that it asks for.
        return not wanted or fraction_of(answer) not in problem.numbers
    name = unit.partition("^")[0]
    if name == "pound" and "sterling" in problem.named_units:
        name = "sterling"  # no weight
    same_kind = {other for other in problem.named_units if kind_of(other) == kind_of(name)}
    if same_kind <= units.SMALL_CHANGE:  # none at all, or cents, beside which it may be dollars
        return True
    return any(is_one_unit(name, other) for other in same_kind)


def kind_of(unit: str) -> str:
    """`units.kind_of`, with one kind for all money, for all weights and for all volumes: "g" for pounds."""
    kind = "cent" if units.is_money(unit) else units.kind_of(unit)
    return _SAME_KINDS.get(kind, kind)


def is_one_unit(unit: str, other: str) -> bool:
    """True for the same unit, and for $ and USD, degrees and degrees celsius."""
    return unit == other or not (units.conflict(unit, other) or not units.is_known(other))
