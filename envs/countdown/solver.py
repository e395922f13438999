"""Solves Countdown by an exact search over all ways to combine the numbers, and writes solutions as text.

A solution is a tree: a given number, or (operator, left tree, right tree), e.g. ("*", ("-", 9, 3), 5) for (9-3)*5.
`solve` searches in a fixed order, so the same numbers in the same order and the same target always give the same tree.
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
    """Combines two of the trees in every way, and continues with the new tree in place of the two.

    values: the values of `trees` as reduced fractions, (numerator, denominator). tried: sorted values that have been
    searched without success; it grows.
    """
    are_last_two = len(values) == 2
    for i, j in combinations(range(len(values)), 2):
        (a, b), (c, d) = values[i], values[j]  # a/b and c/d
        left, right = trees[i], trees[j]
        ad, cb, bd = a * d, c * b, b * d
        # The numerator and the denominator of each result, and its tree.
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
            if are_last_two:
                if top == target * bottom:
                    return tree
                continue
            # The fraction is reduced, with a positive denominator.
            divisor = gcd(top, bottom) if bottom > 0 else -gcd(top, bottom)
            new_value = (top // divisor, bottom // divisor)
            new_values = [*values[:i], new_value, *values[i + 1 : j], *values[j + 1 :]]
            key = tuple(sorted(new_values))
            if key in tried:
                continue
            tried.add(key)
            new_trees = [*trees[:i], tree, *trees[i + 1 : j], *trees[j + 1 :]]
            solution = _search(new_values, new_trees, target, tried)
            if solution is not None:
                return solution
    return None


def solve_signs(numbers: Sequence[int], target: int) -> Tree | None:
    """A tree of only + and -, or None if there is none.

    It has as few minus signs as possible, and these as late as possible. The numbers keep their order, except that a
    tree begins with the first number that is added; numbers before it are subtracted at the end. E.g. 10 12 40, target
    18: 40-10-12.
    """
    # `product` lists late minus signs first, and `sorted` keeps this order among patterns with equally many.
    patterns = sorted(product((1, -1), repeat=len(numbers)), key=lambda signs: signs.count(-1))
    for signs in patterns:
        total = sum(sign * n for sign, n in zip(signs, numbers, strict=True))
        if total == target and 1 in signs:
            first_added = signs.index(1)
            tree: Tree = numbers[first_added]
            for i in (*range(first_added + 1, len(numbers)), *range(first_added)):
                tree = ("+" if signs[i] > 0 else "-", tree, numbers[i])
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
    bracketed_left = "+-" if symbol in "*/" else ""
    bracketed_right = {"+": "", "-": "+-", "*": "+-", "/": "+-*/"}[symbol]
    return _operand(left, bracketed_left) + symbol + _operand(right, bracketed_right)


def _operand(tree: Tree, bracketed: str) -> str:
    """An operand as an expression, in brackets if its operator is one of `bracketed`."""
    text = format_expression(tree)
    return f"({text})" if not isinstance(tree, int) and tree[0] in bracketed else text


def format_steps(tree: Tree) -> list[str]:
    """The steps of the computation, each like "12 + 7 = 19", in the order in which they can be taken."""
    if isinstance(tree, int):
        return []
    symbol, left, right = tree
    step = f"{value(left)} {symbol} {value(right)} = {value(tree)}"
    return [*format_steps(left), *format_steps(right), step]
