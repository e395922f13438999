"""`--reward ./mine.py:brevity` beside a task's own components, and `problems_at`, a task's curriculum."""

from pathlib import Path

import numpy as np
import pytest

import envs
from envs import EnvError
from envs.combining.divided import Divided
from envs.problem import Problem
from envs.scoring import score_all

FUNCTIONS = """
def brevity(completions, **kwargs):
    return [1 - len(text) / 100 for text in completions]

async def names_target(completions, numbers, target):
    numbers[0].clear()
    return [float(str(number) in text) for number, text in zip(target, completions)]

def fails(completions):
    return [1 / len(text) for text in completions]

def format(completions):
    return [1.0] * len(completions)
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    return str(tmp_path / "mine.py")


def test_functions_are_paid_beside_the_components_of_a_task(mine: str) -> None:
    env = envs.make("countdown", reward=f"{mine}:brevity+names_target", reward_weights={"brevity": 0.5})
    own = envs.make("countdown").reward_weights
    assert env.reward_weights == {**own, "brevity": 0.5, "names_target": 1.0}
    assert "reward=mine.py:brevity+names_target" in env.spec_name
    problem = env.problem(0)
    texts = [env.demonstration(problem), "x"]
    for _ in range(2):
        scored = score_all(env, [0, 0], [problem] * 2, texts)
        shares = 1 - np.array([len(text) for text in texts]) / 100
        assert scored.rewards["brevity"].tolist() == pytest.approx(shares)
        assert scored.rewards["correct"].tolist() == scored.rewards["names_target"].tolist() == [1, 0]
        assert scored.total.tolist() == pytest.approx([2 + shares[0] / 2, shares[1] / 2])
        assert scored.reason[0] == "ok" and scored.extracted[0]
    env.reset(options={"index": 0})
    assert env.step(texts[0])[1] == pytest.approx(2 + shares[0] / 2)


def test_a_completion_for_which_a_function_fails_earns_nothing(mine: str) -> None:
    env = envs.make("countdown", reward=f"{mine}:fails", tries=2)
    problem = env.problem(0)
    scored = score_all(env, [0, 0], [problem] * 2, [env.demonstration(problem), ""])
    assert scored.reason == ["ok", "error"] and "ZeroDivisionError" in scored.traceback[1]
    assert scored.total[1] == 0 and scored.total[0] > 1


def test_functions_stand_beside_all_tasks_of_a_mixture(mine: str) -> None:
    env = envs.make(["countdown", "sudoku"], reward=f"{mine}:brevity", reward_weights={"brevity": 0.25})
    problems = [env.problem(index) for index in range(2)]
    texts = [env.demonstration(problem) for problem in problems]
    scored = score_all(env, [0, 1], problems, texts)
    shares = 1 - np.array([len(text) for text in texts]) / 100
    assert scored.total.tolist() == pytest.approx((1 + shares / 4).tolist())
    assert np.isnan(scored.rewards["cells"]).tolist() == [True, False]


def test_a_function_that_does_not_fit_the_task_is_refused_at_once(mine: str) -> None:
    for env, name, words in (
        ("sudoku", "names_target", "asks for numbers, target, which the problems of sudoku"),
        ("countdown", "format", "'format' is a component of"),
        ("countdown", "brevety", "has no function 'brevety'"),
    ):
        with pytest.raises(EnvError, match=words):
            envs.make(env, reward=f"{mine}:{name}")


class Graded(envs.TextEnv):
    reward_weights = envs.make("sudoku").reward_weights

    def __len__(self) -> int:
        return 100

    def problem(self, index: int) -> Problem:
        return Problem(f"add {index}", {})

    def problems_at(self, step: int) -> range:
        return range(10 * step, 10 * step + 20)

    def score(self, problem: Problem, completion: str):
        return dict.fromkeys(self.reward_weights, 0.0)


def test_a_curriculum_reaches_through_the_split() -> None:
    train = Divided(Graded(), "train")
    for step in (0, 3, 8):
        drawn = [int(train.problem(index).prompt.split()[1]) for index in train.problems_at(step)]
        assert drawn == [index for index in train.indices if 10 * step <= index < 10 * step + 20]
    assert envs.make("countdown").problems_at(5) == range(len(envs.make("countdown")))
