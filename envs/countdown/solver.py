"""Countdown solutions: an exact search over all ways to combine the numbers, and how a solution is written.

A solution is a tree: a given number, or (operator, left tree, right tree). `solve` searches in a fixed order, so that
the same numbers in the same order with the same target always get the same tree.
"""

import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache, reduce
from itertools import combinations, product

Tree = int | tuple[str, "Tree", "Tree"]
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}

PLAIN_STEPS = 5_000
"""Combinations tried in plain Python (a few milliseconds) before numba is imported and compiles the search."""

_STRIDE = 8  # places per depth in the flat arrays: six numbers at most, rounded up
_FOUND, _UNDECIDED = 1, -1
_SIGNATURE = "int64(int64[::1], int64[::1], int64[::1], int64, int64, int64)"


def solve(numbers: Sequence[int], target: int) -> Tree | None:
    """A tree that uses each of 1 to 6 whole numbers once and equals `target`, or None if there is none.

    Values are exact fractions. Most problems are decided within PLAIN_STEPS; what is not is left to the same
    function compiled by numba, or to plain Python without a limit where numba is missing or 64 bits are too few.
    """
    outcome, choices = _run(search, numbers, target, PLAIN_STEPS)
    if outcome == _UNDECIDED:
        kernel = compiled() if fits(numbers, target) else None
        outcome, choices = _run(kernel or search, numbers, target, -1)
    return _tree(numbers, choices) if outcome == _FOUND else None


def fits(numbers: Sequence[int], target: int) -> bool:
    """Whether no numerator or denominator of the search can leave 64 bits.

    Unreduced, each is a sum of at most 2**5 products in which a given number occurs at most once.
    """
    return math.prod(max(1, abs(n)) for n in numbers) * 32 * max(1, abs(target)) < 1 << 62


def search(tops, bottoms, choices, count, target, limit):  # type: ignore[no-untyped-def]
    """Depth-first over pairs and operators; 1 found, 0 none, -1 after `limit` combinations (limit < 0: no limit).

    Plain Python that numba also compiles as it stands. tops, bottoms: numerators and denominators, 8 places per
    depth, the given numbers in the first; choices: per depth the number of the choice after the current one, that
    is 6 * pair + operator, pairs (i < j) in order, operators a+b, a-b, b-a, a*b, a/b, b/a.
    """
    depth = 0
    steps = 0
    choices[0] = 0
    while depth >= 0:
        size = count - depth
        here = depth * _STRIDE
        if size == 1:
            if tops[here] == target * bottoms[here]:
                return 1
            depth -= 1
            continue
        choice = choices[depth]
        if choice == 3 * size * (size - 1):
            depth -= 1
            continue
        if steps == limit:
            return -1
        steps += 1
        choices[depth] = choice + 1
        pair = choice // 6
        kind = choice % 6
        i = 0
        while pair >= size - 1 - i:
            pair -= size - 1 - i
            i += 1
        j = i + 1 + pair
        a, b, c, d = tops[here + i], bottoms[here + i], tops[here + j], bottoms[here + j]
        if kind == 0:
            top, bottom = a * d + c * b, b * d
        elif kind == 1:
            top, bottom = a * d - c * b, b * d
        elif kind == 2:
            top, bottom = c * b - a * d, b * d
        elif kind == 3:
            top, bottom = a * c, b * d
        elif kind == 4:
            top, bottom = a * d, b * c
        else:
            top, bottom = c * b, d * a
        if bottom == 0:
            continue
        place = here + _STRIDE
        for k in range(size):
            if k != j:
                tops[place] = top if k == i else tops[here + k]
                bottoms[place] = bottom if k == i else bottoms[here + k]
                place += 1
        depth += 1
        choices[depth] = 0
    return 0


@cache
def compiled() -> Callable[..., int] | None:
    """`search` compiled; None where numba cannot be imported."""
    from verifiers.batch import compile_loop

    return compile_loop(lambda checksum: search, _SIGNATURE)


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


def _run(function: Callable, numbers: Sequence[int], target: int, limit: int) -> tuple[int, list[int]]:
    """(what `function` returns, the choice taken at each depth)."""
    count = len(numbers)
    places = _STRIDE * count
    columns: list = [[*numbers, *[0] * (places - count)], [1] * places, [0] * (count + 1)]
    if function is not search:  # compiled: it takes arrays
        import numpy as np

        columns = [np.array(column, np.int64) for column in columns]
    outcome = int(function(*columns, count, target, limit))
    return outcome, [int(choice) - 1 for choice in columns[2][: count - 1]]


def _tree(numbers: Sequence[int], choices: Sequence[int]) -> Tree:
    """The tree that a run of choices builds."""
    trees: list[Tree] = list(numbers)
    for choice in choices:
        pair, kind = divmod(choice, 6)
        i, j = list(combinations(range(len(trees)), 2))[pair]
        a, b = (trees[j], trees[i]) if kind in (2, 5) else (trees[i], trees[j])
        trees[i] = ("+--*//"[kind], a, b)
        del trees[j]
    return trees[0]
