"""Whether an answer copies a formula of its problem, in any layout: a policy would else be paid for the question."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from math import gcd

from verifiers.math500.asked.finished import is_literal_fraction
from verifiers.math500.compare.meaning import meaning
from verifiers.math500.compare.normal_form import folded, ordered, without_sign
from verifiers.math500.compare.regions import Region
from verifiers.math500.parser import read
from verifiers.math500.tree import ATOMS, MINUS_ONE, Node, is_decimal_literal, parts, rebuilt
from verifiers.math500.values import Matrix, Quantity, Relation, Value, inside, is_expression
from verifiers.reading.problem import PROBLEMS_REMEMBERED, Problem
from verifiers.reading.tokens import Malformed, tokens_of

_SEPARATORS = ("\\\\", "\\le", "\\ge", "\\text", "=", "<", ">", ",", "&")
"""Signs at which a formula is cut if no grammar reads it as a whole."""


def is_copy(value: Value, gold: Value, problem: Problem, letters: frozenset[str]) -> bool:
    """True if the value is a formula of the problem and looks unlike the reference.

    A bare number of the problem is one if the reference is more than a number: 360 for its prime factors, 9/4 for
    2 1/4. `letters`: the variables of the reference.
    """
    key, gold_key = formula_key(value), formula_key(gold)
    if key is None:
        return gold_key is not None and is_expression(gold) and fraction_of(value) in problem.numbers
    return key != gold_key and key in formula_keys(problem, letters)


def fraction_of(value: Value) -> tuple[int, int] | None:
    """(numerator, denominator) of a whole number, a decimal or a fraction of whole numbers; None for anything else."""
    value = value.value if type(value) is Quantity else value
    if not is_expression(value):
        return None
    node = folded(without_needless_points(value))
    if node[0] == "num":
        return Fraction(node[1], node[2]).as_integer_ratio()
    return (node[1][1], node[2][1]) if is_literal_fraction(node) else None


@lru_cache(PROBLEMS_REMEMBERED)
def formula_keys(problem: Problem, letters: frozenset[str]) -> frozenset:
    """The `formula_key` of each formula of a problem, and of each part of it that has one."""
    found: set = set()
    for _, formula in problem.formulas:
        whole = meaning_of(formula, letters)
        values = [whole]
        if whole is None:
            pieces = [formula]
            for separator in _SEPARATORS:
                pieces = [part for piece in pieces for part in piece.split(separator)]
            values = [meaning_of(piece, letters) for piece in pieces]
        for value in filter(None, values):
            found.update(keys_in(value))
    return frozenset(found)


def meaning_of(formula: str, letters: frozenset[str]) -> Value | None:
    """The meaning of a formula with these variables; None if no grammar reads it."""
    try:
        return meaning(read(tokens_of(formula, letters), letters).value)
    except (Malformed, ArithmeticError, ValueError, RecursionError):
        return None


def keys_in(value: Value) -> Iterator[object]:
    """The `formula_key` of a value and of the values in it, as far as they have one."""
    key = formula_key(value)
    if key is not None:
        yield key
    for part in inside(value):
        yield from keys_in(part)


def formula_key(value: Value) -> object:
    """What all layouts of a formula have in common: the same for 2.0 x and x 2.

    None for what is too short to be called a formula: a number, a reduced fraction, a name, words.
    """
    if not is_expression(value):
        if type(value) is Quantity:
            return formula_key(value.value)
        if type(value) is Relation and {"=", "mod"}.issuperset(value.operators):
            sides = [
                ordered(folded(without_needless_points(side))) if is_expression(side) else side
                for side in value.sides
            ]
            return ("=", tuple(sorted(sides, key=repr))) if any(map(is_long, sides)) else None
        # "x in (2, 5)" and 2 < x < 5 are the same region, but two formulas.
        return (value, value.is_written) if type(value) is Region else None
    node = folded(without_needless_points(value))
    unsigned, _ = without_sign(node)
    # Of numbers, only mixed numbers and repeating decimals count: 1 1/2, 0.333...
    is_more_than_digits = unsigned[0] == "num" and not is_decimal_literal(unsigned)
    key = ordered(node)
    return key if is_more_than_digits or is_long(key) else None


def without_needless_points(node: Node) -> Node:
    """An expression with its whole numbers written without a point: 2 for 2.0."""
    if node[0] == "num":
        _, n, d = node
        return ("num", n // d, 1) if n % d == 0 else node
    return rebuilt(node, map(without_needless_points, parts(node)))


def is_long(node: Value) -> bool:
    """True for x + 1 and 4/6, false for a number, a reduced fraction, a letter, and letters in a row."""
    if type(node) is Matrix:
        return True
    if not is_expression(node) or node[0] in ATOMS:
        return False
    if node[0] == "*":
        factors = [factor for factor in node[1] if factor != MINUS_ONE]
        are_letters = all(factor[0] == "sym" for factor in factors)
        return (len(factors) > 1 and not are_letters) or any(map(is_long, factors))
    if is_literal_fraction(node):
        return gcd(node[1][1], node[2][1]) > 1
    return True
