"""The environment contract: one episode is reset, one step, and every misuse says what to do."""

import json
import pickle
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs import EnvError, Problem, TextEnv


class Doubling(TextEnv):
    """A class as a stranger writes it: no super().__init__(), no split, no render_mode."""

    reward_weights = {"correct": 1.0, "short": 0.5}  # noqa: RUF012

    def __init__(self, size: int = 50) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def problem(self, index: int) -> Problem:
        return Problem(f"2 * {index} = ?", {"answer": 2 * index})

    def score(self, problem: Problem, completion: str) -> dict[str, float]:
        if completion == "boom":
            raise ZeroDivisionError("the author's mistake")
        return {"correct": completion == str(problem.reference["answer"]), "short": 1 / (1 + len(completion))}


envs.register("test/Doubling-v0", Doubling)


def test_an_episode_is_a_prompt_a_completion_and_a_reward_with_reasons():
    env = envs.make("doubling")
    prompt, info = env.reset(options={"index": 21})
    assert (prompt, info) == ("2 * 21 = ?", {"index": 21})
    observation, reward, terminated, truncated, info = env.step("42")
    assert (observation, terminated, truncated) == ("", True, False)
    assert reward == pytest.approx(1 + 0.5 / 3)
    assert set(info) == {"index", "rewards", "correct", "reason", "extracted"}
    assert info["correct"] is True and info["rewards"] == {"correct": 1.0, "short": 1 / 3}
    assert all(type(value) is float for value in info["rewards"].values())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("envs:spg/Sudoku-v0", {}), ("envs:spg/Sudoku-v0", {"size": 9}), ("test/Doubling-v0", {})],
)
@pytest.mark.parametrize("direct", [True, False])
def test_gymnasium_checks_pass_without_a_warning(name, arguments, direct):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = gymnasium.make(name, render_mode="ansi", **arguments).unwrapped
        check_env(envs.make(name, **arguments) if direct else shown)
        passive = gymnasium.make(name, render_mode="ansi", **arguments)  # Gymnasium's own checker stays on
        passive.reset(seed=3)
        passive.step("x")
        assert "reward 0" in passive.render()


def test_reset_draws_the_problem_from_the_seed():
    env = envs.make("sudoku")
    drawn = [env.reset(seed=seed)[1]["index"] for seed in (1, 2, 1)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert env.reset()[1]["index"] != drawn[2]


def test_step_before_reset_and_a_second_step_are_refused():
    env = envs.make("doubling")
    with pytest.raises(EnvError, match=r"doubling: step\(\) before reset\(\)"):
        env.step("1")
    with pytest.raises(EnvError, match=r"doubling: step\(\) before reset\(\)"):  # ours, not Gymnasium's
        gymnasium.make("test/Doubling-v0", disable_env_checker=True).step("1")
    env.reset(options={"index": 7})
    env.step("1")
    with pytest.raises(EnvError, match=r"second step\(\) on problem 7"):
        env.step("1")
    with pytest.raises(EnvError, match="render"):
        envs.make("doubling", render_mode="ansi").render()


@pytest.mark.parametrize("action", [None, 3, b"14", ["14"]])
def test_an_action_that_is_no_string_is_refused(action):
    env = envs.make("doubling")
    env.reset(options={"index": 7})
    with pytest.raises(
        EnvError, match=r"doubling, problem 7: the action is .* must be the completion as a str"
    ):
        env.step(action)


@pytest.mark.parametrize("index", [-1, 50, 1.0, True, "3", np.float64(2)])
def test_an_index_outside_the_problems_is_refused(index):
    with pytest.raises(EnvError, match=r"doubling: no problem .* 0 to 49"):
        envs.make("doubling").reset(options={"index": index})


def test_an_unknown_option_is_refused():
    with pytest.raises(EnvError, match='no option "indx"'):
        envs.make("doubling").reset(options={"indx": 3})


def test_an_exception_in_score_becomes_data_with_its_traceback():
    env = envs.make("doubling")
    env.reset(options={"index": 1})
    _, reward, terminated, _, info = env.step("boom")
    assert (reward, terminated, info["reason"], info["correct"]) == (0.0, True, "error", False)
    assert info["rewards"] == {"correct": 0.0, "short": 0.0}
    assert "ZeroDivisionError: the author's mistake" in info["traceback"]


def test_reward_weights_are_merged_over_the_class():
    env = envs.make("doubling", reward_weights={"short": 2})
    assert env.reward_weights == {"correct": 1.0, "short": 2.0}
    assert Doubling.reward_weights == {"correct": 1.0, "short": 0.5}
    env.reset(options={"index": 2})
    assert env.step("4")[1] == pytest.approx(1 + 2 / 2)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"shrt": 1.0}, 'no reward component "shrt". Did you mean "short"'),
        ({"short": "much"}, "the weight of short is 'much'"),
        ({"short": float("inf")}, "finite"),
        ([1.0], "is not a dict"),
    ],
)
def test_wrong_reward_weights_are_refused(weights, message):
    with pytest.raises(EnvError, match=message):
        envs.make("doubling", reward_weights=weights)


def test_a_problem_that_is_none_is_refused():
    class Promptless(Doubling):
        def problem(self, index: int) -> Problem:
            return Problem(17, {}) if index else {"prompt": "?"}

    for index in (0, 1):
        with pytest.raises(EnvError, match=f"Promptless, problem {index}: problem\\(\\) returned"):
            Promptless().reset(options={"index": index})


def test_chats_are_prompts_too():
    class Chat(Doubling):
        def problem(self, index: int) -> Problem:
            return Problem([{"role": "user", "content": f"{index}?"}], {"answer": 0})

    env = Chat()
    assert env.reset(options={"index": 3})[0] == [{"role": "user", "content": "3?"}]
    env.render_mode = "ansi"
    assert env.render() == "user: 3?"
    check_env(env, skip_render_check=True)


def test_what_an_author_left_out_is_named():
    with pytest.raises(EnvError, match="doubling has no demonstrations"):
        envs.make("doubling").demonstration(Problem("", {}))
    assert envs.make("doubling").habits(Problem("", {})) == {}
    with pytest.raises(EnvError, match="lacks score"):
        envs.register("test/Silent-v0", type("Silent", (Doubling,), {"score": TextEnv.score}))
    with pytest.raises(EnvError, match='"correct" is required'):
        envs.register("test/Unpaid-v0", type("Unpaid", (Doubling,), {"reward_weights": {"short": 1.0}}))


def test_environments_survive_pickling():
    for env in (
        envs.make("sudoku", split="test", reward_weights={"cells": 0.5}),
        envs.make("doubling", size=9),
    ):
        env.reset(options={"index": 4})
        copy = pickle.loads(pickle.dumps(env))
        assert copy.spec_name == env.spec_name and copy.reward_weights == env.reward_weights
        assert copy.problem(8) == env.problem(8)
        assert copy.step("<answer>1</answer>")[1:] == env.step("<answer>1</answer>")[1:]


def test_problems_are_the_same_in_another_process():
    code = (
        "import envs, json, sys\n"
        "env = envs.make('sudoku', split=sys.argv[1])\n"
        "print(json.dumps([env.problem(i).prompt for i in reversed(range(20))]))"
    )
    for split in ("train", "validation"):
        env = envs.make("sudoku", split=split)
        here = [env.problem(i).prompt for i in range(20)]
        there = subprocess.run(
            [sys.executable, "-c", code, split], capture_output=True, text=True, check=True
        )
        assert json.loads(there.stdout)[::-1] == here


def test_importing_envs_brings_no_torch():
    code = "import sys, envs; envs.make('sudoku'); print({'torch', 'numba', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


class Torn(Doubling):
    """Some of its problems are not there."""

    def problem(self, index: int) -> Problem:
        rows = {"row 0": 0}
        return Problem(str(rows[f"row {index}"]), {"answer": 0})


envs.register("my/Torn-v0", Torn)


@pytest.mark.parametrize("split", [None, "train"])
def test_a_problem_that_raises_is_named_with_its_line(split):
    env = envs.make("torn", **({"split": split} if split else {}))
    number = 3 if split is None else int(env.indices[3])
    wanted = rf"problem {number} of my/Torn-v0: KeyError 'row {number}'"
    wanted += r"\n.*test_contract.py:\d+, in problem: .*rows\["
    with pytest.raises(EnvError, match=wanted):
        env.reset(options={"index": 3})
    with pytest.raises(EnvError, match=wanted):
        envs.TextVectorEnv(env, 1).reset(options={"index": [3]})
