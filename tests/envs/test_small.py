"""The six small tasks: their checks against brute force, near misses, splits, and any text as an action."""

from itertools import permutations, product

import pytest

import envs
from envs.small import coloring, edits, queens, satisfiability
from tests.common.env_cases import make_splits
from tests.common.marks import slow_if

SMALL = (place.partition(":")[2] for place in envs.ENVIRONMENTS.values() if "small" in place)
TASKS = sorted(name for name in SMALL if name != "Guess")  # a game of turns, which has tests of its own


def correct(env: envs.TextEnv, problem: envs.Problem, answer: str) -> bool:
    return env.score(problem, f"<answer>{answer}</answer>").rewards["correct"] == 1.0


@pytest.mark.parametrize("level", slow_if([1, 2, 3], lambda level: level != 2))
@pytest.mark.parametrize("name", slow_if(TASKS, lambda name: name not in TASKS[::2]))
def test_prompts_are_short_demonstrations_right_and_splits_share_nothing(name: str, level: int):
    splits, prompts = make_splits(name, level=level), []
    assert [len(env) for env in splits.values()] == [100_000, 256, 256]
    for env in splits.values():
        problems = [env.problem(i) for i in range(40)]
        for problem in problems:
            right, (wrong,) = env.demonstration(problem), env.habits(problem).values()
            assert problem.prompt.isascii() and max(len(problem.prompt), len(right)) <= 60
            assert env.score(problem, right).rewards == {"correct": 1.0, "format": 1.0}
            assert env.score(problem, wrong).rewards["format"] == 1.0
        prompts.append({problem.prompt for problem in problems})
    assert min(map(len, prompts)) > 30 and len(set().union(*prompts)) == sum(map(len, prompts))
    with pytest.raises(envs.EnvError, match=f'{name.lower()}: level="4"'):
        envs.make(name, level=4)


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("name", ["arithmetic", "coloring", "queens"])
def test_no_problem_is_measured_twice(name: str, split: str):
    env = envs.make(name, split=split)
    assert len({str(env.problem(i)) for i in range(len(env))}) == len(env) == 256


def test_arithmetic_is_exact_and_its_habit_forgets_the_products():
    env = envs.make("arithmetic", level=3)
    assert env.solution("7+2*3") == "13" and env.mistake("7+2*3") == "27"
    assert env.solution("1-2*3*4-5") == "-28" and env.mistake("1-2*3*4-5") == "-17"
    for index in range(40):
        problem = env.problem(index)
        line = problem.reference["line"]
        truth = env.demonstration(problem)[8:-9]
        assert truth == str(eval(line, {}))  # our own digits and signs
        assert not correct(env, problem, line) and not correct(env, problem, f"{int(truth) + 1}")
        assert not correct(env, problem, f"{truth}.0") and correct(env, problem, f" {truth}\n")


def test_sorting_wants_every_number_once():
    env = envs.make("sorting")
    problem = envs.Problem("", {"numbers": [31, 4, 159, 4]})
    assert correct(env, problem, "4 4 31 159") and correct(env, problem, "4  4\n31 159")
    for wrong in ("4 31 159", "4 4 159 31", "4 4 31 159 159", "04 4 31 159", "4,4,31,159", ""):
        assert not correct(env, problem, wrong)
    assert env.habits(problem) == {"alphabetical": "<answer>159 31 4 4</answer>"}


def test_edits_work_in_order_everywhere():
    assert edits.edited("cabbac", ["a>b", "-c"], most=-1) == "bbbb"
    assert edits.edited("cabbac", ["a>b", "-c"], most=1) == "bbbac"
    assert edits.edited("abc", ["a>b", "b>c"], most=-1) == "ccc"
    env = envs.make("edits", level=3)
    assert all(env.demonstration(env.problem(i)) != "<answer></answer>" for i in range(300))
    problem = envs.Problem("", {"word": "abab", "edits": ["-b"]})
    assert (
        correct(env, problem, "aa") and not correct(env, problem, "aab") and not correct(env, problem, "a a")
    )


def test_any_proper_coloring_counts_and_no_other():
    env = envs.make("coloring")
    for index in range(5):
        problem = env.problem(index)
        held = problem.reference
        for colors in map("".join, product("123", repeat=6)):
            proper = all(colors[int(a)] != colors[int(b)] for a, b in held["edges"])
            assert correct(env, problem, colors) == proper
        assert env.demonstration(problem) == f"<answer>{coloring.first_coloring(**held)}</answer>"
        assert not correct(env, problem, "12345") and not correct(env, problem, "1231234")


def test_queens_are_the_92_known_boards_with_the_givens_kept():
    brute = [
        "".join(map(str, p))
        for p in permutations(range(1, 9))
        if len({c + r for r, c in enumerate(p)}) == 8 == len({c - r for r, c in enumerate(p)})
    ]
    assert list(queens.solutions()) == brute and len(brute) == 92
    env = envs.make("queens", level=3)
    problem = envs.Problem("", {"board": "1???????"})
    assert [board for board in brute if correct(env, problem, board)] == [b for b in brute if b[0] == "1"]
    assert not correct(env, problem, "1???????") and not correct(env, problem, "12345678")


def test_satisfiability_agrees_with_a_truth_table():
    env = envs.make("satisfiability")
    assert satisfiability.holds("0010", ["aBc"]) and not satisfiability.holds("0100", ["aBc"])
    for index in range(10):
        problem = env.problem(index)
        for bits in map("".join, product("01", repeat=4)):
            values = dict(zip("abcd", map(int, bits), strict=True))
            clauses = problem.reference["clauses"]
            true = all(any(values[c] if c.islower() else not values[c.lower()] for c in cl) for cl in clauses)
            assert correct(env, problem, bits) == true
        assert not correct(env, problem, "01") and not correct(env, problem, "２０１１")
