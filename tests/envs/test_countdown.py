"""Countdown: problems, prompts, the solver against brute force, rewards and rendering."""

import re
import time
from fractions import Fraction
from functools import cache
from itertools import combinations, product

import numpy as np
import pytest

import envs
from envs import EnvError, Problem
from envs.countdown import problems as bank
from envs.countdown import solver
from envs.countdown.problems import LEVELS, fixed_set, key
from envs.countdown.rewards import share_used
from envs.countdown.solver import format_expression, solve, value
from tests.common.marks import slow_if

PROBLEM = Problem("", {"numbers": [7, 12, 5], "target": 24})
TWICE = Problem("", {"numbers": [7, 7, 5], "target": 19})


@pytest.mark.parametrize("level", slow_if(LEVELS, lambda level: level > 4))
def test_a_level_keeps_its_ranges_and_operations(level):
    env = envs.make("countdown", level=level)
    problems = [env.problem(i) for i in range(300 if level < 4 else 30)]
    for problem in problems:
        numbers, target = problem.reference["numbers"], problem.reference["target"]
        assert len(numbers) == LEVELS[level].count and target >= 1 and (level == 1 or target <= 100)
        assert LEVELS[level].low <= min(numbers) and max(numbers) <= LEVELS[level].high
    used = set("".join(env.demonstration(problem)[8:-9] for problem in problems)) & set("+-*/")
    assert used == set("+-" if level == 1 else "+-*/") or level > 3


def test_fixed_sets_leave_out_what_is_excluded(monkeypatch):
    first = [key(*problem) for problem in fixed_set(1, "validation")]
    others = fixed_set(1, "validation", frozenset(first[:20]))
    assert len(others) == 256 and not {key(*problem) for problem in others} & set(first[:20])
    monkeypatch.setattr(bank, "_MAX_DRAWS", 2_000)
    with pytest.raises(EnvError, match=r"validation.* 256 .*shorter file"):
        fixed_set.__wrapped__(1, "validation", frozenset(first))


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


def test_numbers_of_any_size_are_decided():
    large = [10**7, 10**7 + 1, 10**7 + 3]
    assert value(solve(large, 10**7 * (2 * 10**7 + 4))) == 10**7 * (2 * 10**7 + 4)


@pytest.mark.slow
def test_six_without_a_solution_are_decided():
    begun = time.process_time()
    assert solve([9973, 9967, 9949, 9941, 9931, 9929], 5003) is None
    assert time.process_time() - begun < 10


def test_signs_have_the_fewest_minuses_and_never_begin_with_one():
    for numbers, target, text in (
        ([7, 12, 5], 24, "7+12+5"),
        ([7, 12, 5], 10, "12+5-7"),
        ([7, 12, 5], 14, "7+12-5"),
        ([5, 7, 20], 8, "20-5-7"),
        ([5, 20, 7], 8, "20-7-5"),
    ):
        assert format_expression(solver.solve_signs(numbers, target)) == text
    assert solver.solve_signs([7, 12, 5], 84) is None and solver.solve_signs([1, 1], -2) is None
    assert format_expression(solver.sum_tree([4, 5, 6, 7])) == "4+5+6+7"


def rewards(completion: str, problem: Problem = PROBLEM, **arguments) -> dict[str, float]:
    return dict(envs.make("countdown", **arguments).score(problem, completion).rewards)


@pytest.mark.parametrize(
    ("completion", "correct", "form", "used"),
    [
        ("<answer>12+7+5</answer>", 1, 1, 1),
        ("thinking 99 <answer>\n (12 + 7) + 5\n</answer> done", 1, 1, 1),
        ("<answer>12+7-5</answer>", 0, 1, 1),
        ("<answer>12/(7-7)+5</answer>", 0, 1, 2 / 3),
        ("<answer>12+7</answer>", 0, 1, 2 / 3),
        ("<answer>24</answer>", 0, 1, 0),
        ("<answer>12+7+5+1</answer>", 0, 1, 0),
        ("<answer>12+7+5+5</answer>", 0, 1, 2 / 3),
        ("<answer>12+7+5=24</answer>", 1, 0, 1),
        ("<answer>12 × 7 - 5</answer>", 0, 0, 1),
        ("<answer>12+7+</answer>", 0, 0, 0),
        ("<answer>12 7 5</answer>", 0, 0, 0),
        ("<answer></answer>", 0, 0, 0),
        ("<answer>1</answer><answer>12+7+5</answer>", 1, 0, 1),
        ("<answer>12+7+5", 1, 0, 1),
        ("<answer>12+7+5</answer><|eot_id|><answer>", 1, 1, 1),
        ("", 0, 0, 0),
    ],
)
def test_components(completion, correct, form, used):
    found = rewards(completion)
    assert found == pytest.approx({"correct": correct, "format": form, "numbers_used": used})


def test_numbers_given_twice_may_be_used_twice():
    for expression, used in (("7+7+5", 1), ("7+5", 2 / 3), ("7+7+7+5", 1 / 3)):
        assert rewards(f"<answer>{expression}</answer>", TWICE)["numbers_used"] == pytest.approx(used)
    assert share_used([7, 7, 5], "07 + 7") == pytest.approx(2 / 3)
    assert share_used([3, 5], "3.5") == share_used([3, 5], "3,5") == share_used([3], "9" * 9999) == 0


def test_the_papers_reward_reads_plain_expressions_only():
    env = envs.make("countdown", reward_preset="paper")
    problem = Problem("", {"numbers": [38, 30, 15], "target": 23})
    right = ("38-30+15", " 38 - 30 + 15\n", "38\u2003-30+15")
    wrong = ("", "23", "38-30-15", "38-30", "nothing", "9**9**9", "38**1-30+15", "the answer is 38-30+15")
    not_plain = ("$38-30+15$", "23=38-30+15", "38-30+15 = 23", "38\N{MINUS SIGN}30+15")
    no_block = ("38-30+15", "<answer>38-30+15", "</answer>38-30+15<answer>")
    for paid, completions in (
        (1, [f"so <answer>{text}</answer>" for text in right]),
        (0.1, [f"<answer>{text}</answer>" for text in wrong + not_plain]),
        (0, [*no_block, "<|endoftext|><answer>38-30+15</answer>"]),
    ):
        scores = env.score_batch([problem] * len(completions), completions)
        assert scores.rewards["paper"].tolist() == [paid] * len(completions)
