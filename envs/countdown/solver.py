"""Countdown solutions: an exact search over all ways to combine the numbers, and how a solution is written.

A solution is a tree: a given number, or (operator, left tree, right tree). `solve` searches in a fixed order, so that
the same numbers in the same order with the same target always get the same tree.
"""

import operator
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from itertools import combinations, product
from math import gcd

Tree = int | tuple[str, "Tree", "Tree"]
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def solve(numbers: Sequence[int], target: int) -> Tree | None:
    """A tree that uses each of 2 to 6 whole numbers once and equals `target` exactly, or None if there is none."""
    return _search([(number, 1) for number in numbers], list(numbers), target, set())


def _search(
    values: list[tuple[int, int]], trees: list[Tree], target: int, tried: set[tuple[tuple[int, int], ...]]
) -> Tree | None:
    """values: reduced fractions, (numerator, denominator), of `trees`; tried: sorted values without a solution."""
    last_two = len(values) == 2
    for i, j in combinations(range(len(values)), 2):
        (a, b), (c, d) = values[i], values[j]
        left, right = trees[i], trees[j]
        ad, cb, bd = a * d, c * b, b * d
        for top, bottom, tree in (
            (ad + cb, bd, ("+", left, right)),
            (ad - cb, bd, ("-", left, right)),
            (cb - ad, bd, ("-", right, left)),
            (a * c, bd, ("*", left, right)),
            (ad, b * c, ("/", left, right)),
            (cb, d * a, ("/", right, left)),
        ):
            if bottom == 0:
                continue
            if last_two:
                if top == target * bottom:
                    return tree
                continue
            shared = gcd(top, bottom) if bottom > 0 else -gcd(top, bottom)
            rest = [*values[:i], (top // shared, bottom // shared), *values[i + 1 : j], *values[j + 1 :]]
            key = tuple(sorted(rest))
            if key in tried:
                continue
            tried.add(key)
            solution = _search(rest, [*trees[:i], tree, *trees[i + 1 : j], *trees[j + 1 :]], target, tried)
            if solution is not None:
                return solution
    return None


def solve_signs(numbers: Sequence[int], target: int) -> Tree | None:
    """A tree of + and - alone, or None: the fewest minus signs, then the latest ones.

    The numbers keep their order, but for those that are subtracted before the first added one: they come last.
    """
    patterns = sorted(product((1, -1), repeat=len(numbers)), key=lambda signs: signs.count(-1))
    for signs in patterns:
        if sum(sign * n for sign, n in zip(signs, numbers, strict=True)) == target and 1 in signs:
            first = signs.index(1)
            tree: Tree = numbers[first]
            for place in (*range(first + 1, len(numbers)), *range(first)):
                tree = ("+" if signs[place] > 0 else "-", tree, numbers[place])
            return tree
    return None


def sum_tree(numbers: Sequence[int]) -> Tree:
    """The numbers simply added in their order."""
    return reduce(lambda tree, number: ("+", tree, number), numbers)


def value(tree: Tree) -> Fraction:
    """The exact value of a tree; raises ZeroDivisionError if it divides by zero."""
    if isinstance(tree, int):
        return Fraction(tree)
    symbol, left, right = tree
    return OPERATIONS[symbol](value(left), value(right))


def format_expression(tree: Tree) -> str:
    """The tree as an expression of digits, + - * / and as few brackets as keep its meaning."""
    if isinstance(tree, int):
        return str(tree)
    symbol, left, right = tree
    bracketed = {"+": "", "-": "+-", "*": "+-", "/": "+-*/"}[symbol]
    return _operand(left, "+-" if symbol in "*/" else "") + symbol + _operand(right, bracketed)


def _operand(tree: Tree, bracketed: str) -> str:
    """bracketed: the operators that need brackets here."""
    text = format_expression(tree)
    return f"({text})" if not isinstance(tree, int) and tree[0] in bracketed else text


def format_steps(tree: Tree) -> list[str]:
    """The steps of the computation, each like "12 + 7 = 19", in the order in which they can be taken."""
    if isinstance(tree, int):
        return []
    symbol, left, right = tree
    step = f"{value(left)} {symbol} {value(right)} = {value(tree)}"
    return [*format_steps(left), *format_steps(right), step]
