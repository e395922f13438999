"""Countdown's solver against brute force, plain against compiled, and how solutions are written."""

import re
from fractions import Fraction
from functools import cache
from itertools import combinations, product

import numpy as np
import pytest

from envs.countdown import solver
from envs.countdown.generator import train_problem
from envs.countdown.solver import (
    compiled,
    fits,
    format_expression,
    format_steps,
    solve,
    solve_signs,
    sum_tree,
    value,
)


@cache
def reachable(numbers: tuple[int, ...]) -> frozenset[Fraction]:
    """Every value of the sorted numbers, by splitting them into two parts in every way: no search order, no steps."""
    if len(numbers) == 1:
        return frozenset({Fraction(numbers[0])})
    values: set[Fraction] = set()
    places = range(len(numbers))
    for size in range(1, len(numbers) // 2 + 1):
        for chosen in combinations(places, size):
            left = reachable(tuple(numbers[i] for i in chosen))
            right = reachable(tuple(numbers[i] for i in places if i not in chosen))
            for a, b in product(left, right):
                values |= {a + b, a - b, b - a, a * b}
                values |= {a / b} if b else set()
                values |= {b / a} if a else set()
    return frozenset(values)


def read(text: str) -> Fraction:
    """The exact value of an expression, by Python's own grammar."""
    return eval(re.sub(r"(\d+)", r"Fraction(\1)", text))


def leaves(tree) -> list[int]:
    return [tree] if isinstance(tree, int) else leaves(tree[1]) + leaves(tree[2])


@pytest.mark.parametrize(("count", "problems"), [(2, 60), (3, 60), (4, 8)])
def test_the_solver_finds_a_solution_exactly_where_brute_force_does(count, problems):
    rng = np.random.default_rng([1, count])
    solved = unsolved = 0
    for _ in range(problems):
        numbers = rng.integers(1, 13, count).tolist()
        makes = reachable(tuple(sorted(numbers)))
        for target in (1, 7, 24, *rng.integers(1, 150, 12).tolist()):
            tree = solve(numbers, target)
            assert (tree is not None) == (target in makes), (numbers, target)
            if tree is None:
                unsolved += 1
                continue
            solved += 1
            assert sorted(leaves(tree)) == sorted(numbers)
            assert value(tree) == target == read(format_expression(tree))
    assert solved > 30 and unsolved > 10


@pytest.mark.parametrize(
    ("numbers", "target"), [((3, 3, 8, 8), 24), ((1, 5, 5, 5), 24), ((1, 3, 4, 6), 24), ((3, 7, 7, 3), 24)]
)
def test_the_solver_passes_through_fractions(numbers, target):
    tree = solve(numbers, target)
    assert value(tree) == target and "/" in format_expression(tree)


def test_plain_and_compiled_say_the_same(monkeypatch):
    kernel = compiled()
    assert kernel is not None
    problems = [train_problem(level, i) for level in (2, 3, 4, 5) for i in range(25)]
    problems += [((1, 1, 1, 1), 100), ((2, 3, 5), 97), ((7, 7, 7, 7), 4)]
    for numbers, target in problems:
        plain = solver._run(solver.search, numbers, target, 3_000)
        assert plain == solver._run(kernel, numbers, target, 3_000)
    hard = [problem for problem in problems if len(problem[0]) == 5][:5]
    fast = [solve(*problem) for problem in hard]
    monkeypatch.setattr(solver, "compiled", lambda: None)
    assert [solve(*problem) for problem in hard] == fast


def test_numbers_too_large_for_64_bits_are_solved_in_plain_python(monkeypatch):
    monkeypatch.setattr(solver, "PLAIN_STEPS", 0)
    monkeypatch.setattr(solver, "compiled", lambda: pytest.fail("64 bits are too few here"))
    numbers = [10**7, 10**7 + 1, 10**7 + 3]
    assert fits([99] * 6, 100) and not fits(numbers, 10**14)
    assert value(solve(numbers, 10**7 * (2 * 10**7 + 4))) == 10**7 * (2 * 10**7 + 4)


def test_without_a_cache_folder_the_search_is_compiled_all_the_same(monkeypatch):
    import numba

    real = numba.njit

    def njit(*arguments, **options):
        if options.pop("cache", False):
            raise RuntimeError("no locator available")
        return lambda function: real(function)  # lazily, so that the test is quick

    monkeypatch.setattr(numba, "njit", njit)
    compiled.cache_clear()
    try:
        assert compiled() is not None and compiled().py_func is solver.search
    finally:
        compiled.cache_clear()


def test_signs_have_the_fewest_minuses_and_never_begin_with_one():
    for numbers, target, text in (
        ([7, 12, 5], 24, "7+12+5"),
        ([7, 12, 5], 10, "12+5-7"),
        ([7, 12, 5], 14, "7+12-5"),
        ([5, 7, 20], 8, "20-5-7"),
        ([5, 20, 7], 8, "20-7-5"),
    ):
        assert format_expression(solve_signs(numbers, target)) == text
    assert solve_signs([7, 12, 5], 84) is None and solve_signs([1, 1], -2) is None
    assert format_expression(sum_tree([4, 5, 6, 7])) == "4+5+6+7"


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (("-", 9, ("-", 5, 2)), "9-(5-2)"),
        (("-", 9, ("*", 5, 2)), "9-5*2"),
        (("*", ("+", 1, 2), ("-", 9, 4)), "(1+2)*(9-4)"),
        (("/", 8, ("/", 4, 2)), "8/(4/2)"),
        (("/", ("*", 8, 3), ("*", 2, 3)), "8*3/(2*3)"),
        (("*", 3, ("/", 4, 2)), "3*4/2"),
        (("+", 1, ("+", 2, ("*", 3, 4))), "1+2+3*4"),
    ],
)
def test_an_expression_has_the_brackets_it_needs(tree, text):
    assert format_expression(tree) == text and read(text) == value(tree)


def test_worked_steps_end_with_the_target():
    tree = ("*", 24, ("/", ("-", 3, 1), 6))
    assert format_steps(tree) == ["3 - 1 = 2", "2 / 6 = 1/3", "24 * 1/3 = 8"]
    assert format_steps(5) == []
