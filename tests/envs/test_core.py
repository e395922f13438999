"""The environment contract: one episode is reset, one step; misuse and invalid scores are named."""

import pickle
import re
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs import EnvError, Problem, Score, Scores, TextEnv
from envs.combining.wrapper import innermost
from envs.task import short
from tests.common.env_cases import Doubling


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


def test_step_before_reset_and_a_second_step_are_refused():
    env = envs.make("doubling")
    theirs = gymnasium.make("test/Doubling-v0", disable_env_checker=True)  # our check, not Gymnasium's
    for unused in (env, theirs):
        with pytest.raises(EnvError, match=r"doubling: step\(\) before reset\(\)"):
            unused.step("1")
    env.reset(options={"index": 7})
    env.step("1")
    with pytest.raises(EnvError, match=r"second step\(\) on problem 7"):
        env.step("1")
    with pytest.raises(EnvError, match="render"):
        envs.make("doubling", render_mode="ansi").render()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"index": index}, "no problem .* 0 to 49") for index in (-1, 50, 1.0, True, "3", np.float64(2))]
    + [({"indx": 3}, 'no option "indx"')],
)
def test_a_wrong_index_or_option_is_refused(options, message):
    with pytest.raises(EnvError, match=f"doubling: .*{message}"):
        envs.make("doubling").reset(options=options)


@pytest.mark.parametrize("seed", [[1, 2], "1", -1, True, 1.0])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    for env in (envs.make("doubling"), envs.make_vec("doubling", num_envs=2)):
        with pytest.raises(EnvError, match=r"doubling: reset\(seed=.*a seed is one whole number, 0 or more"):
            env.reset(seed=seed)
    assert envs.make("doubling").reset(seed=np.int64(3)) == envs.make("doubling").reset(seed=3)


def test_an_exception_in_score_becomes_data_with_its_traceback():
    env = envs.make("doubling")
    env.reset(options={"index": 1})
    _, reward, terminated, _, info = env.step("boom")
    assert (reward, terminated, info["reason"], info["correct"]) == (0.0, True, "error", False)
    assert info["rewards"] == {"correct": 0.0, "short": 0.0}
    assert "ZeroDivisionError: the author's mistake" in info["traceback"]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"shrt": 1.0}, 'reward_weights="shrt".*Did you mean "short"'),
        ({"short": "much"}, "the weight of short is 'much'"),
        ({"short": float("inf")}, "finite"),
        ({"short": 1e300}, r"short is 1e\+300; it must be a finite number, not above 1e\+15 in size"),
    ],
)
def test_wrong_reward_weights_are_refused(weights, message):
    with pytest.raises(EnvError, match=message):
        envs.make("doubling", reward_weights=weights)


@pytest.mark.parametrize("value", [Problem(17, {}), {"prompt": "?"}])
def test_a_problem_that_is_none_is_refused(value):
    cls = type("Promptless", (Doubling,), {"problem": lambda self, index: value})
    with pytest.raises(EnvError, match=r"Promptless, problem 1: .*problem\(\)"):
        cls().reset(options={"index": 1})


def test_chats_are_prompts_too_and_gymnasium_takes_both():
    class Chat(Doubling):
        def problem(self, index: int) -> Problem:
            return Problem([{"role": "user", "content": f"{index}?"}], {"answer": 0})

    env = Chat()
    assert env.reset(options={"index": 3})[0] == [{"role": "user", "content": "3?"}]
    env.render_mode = "ansi"
    assert env.render() == "user: 3?"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)
        check_env(gymnasium.make("test/Doubling-v0", render_mode="ansi").unwrapped)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": TextEnv.score}, "lacks score"),
        ({"reward_weights": {"short": 1.0}}, '"correct" is required'),
        *(
            ({"reward_weights": {"correct": 1.0, "short": weight}}, "the weight of short is .* finite number")
            for weight in (float("nan"), "1", None)
        ),
    ],
)
def test_a_class_that_lacks_something_is_not_registered(changes, message):
    with pytest.raises(EnvError, match='"None" is not an environment id; it must read namespace/Name-vN'):
        envs.register(None, Doubling)
    with pytest.raises(EnvError, match=f"test/Lacking-v0: .*{message}"):
        envs.register("test/Lacking-v0", type("Lacking", (Doubling,), changes))


def test_environments_survive_pickling():
    weighted = envs.make("sudoku", split="test", reward_weights={"cells": 0.5})
    for env in (weighted, envs.make("doubling", size=9), envs.make("doubling", split="train")):
        env.reset(options={"index": 4})
        copy = pickle.loads(pickle.dumps(env))
        assert copy.spec_name == env.spec_name and copy.reward_weights == env.reward_weights
        assert copy.problem(8) == env.problem(8)
        assert copy.step("<answer>1</answer>")[1:] == env.step("<answer>1</answer>")[1:]


def test_importing_envs_and_showing_problems_loads_and_compiles_nothing_heavy():
    code = """if True:
        import sys, envs
        for task, habit in (("sudoku", "careless"), ("countdown", "adder")):
            for split in ("train", "validation", "test"):
                env = envs.make(task, split=split)
                problem = env.problem(0)
                env.score(problem, env.demonstration(problem))
                env.render_text(problem, env.habits(problem)[habit])
        print({"torch", "numba", "datasets"} & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("arguments", [{}, {"split": "train"}])
def test_a_problem_that_raises_is_named_with_its_line(arguments):
    env = envs.make("torn", **arguments)
    number = int(env.indices[3]) if arguments else 3
    wanted = rf"torn.*, problem {number}: KeyError 'row {number}'\n.*env_cases.py:\d+, in problem: .*rows\["
    with pytest.raises(EnvError, match=wanted):
        env.reset(options={"index": 3})
    with pytest.raises(EnvError, match=wanted):
        envs.TextVectorEnv(env, 1).reset(options={"index": [3]})


RIGHT = {"correct": 1.0, "short": 0.0}


def test_a_score_may_hold_numbers_of_tensors():
    torch = pytest.importorskip("torch")
    env = envs.make("returning")
    env.value = {"correct": torch.tensor(1.0), "short": torch.tensor(3)}
    env.reset(options={"index": 13})
    _, reward, _, _, info = env.step("x")
    assert (
        info["correct"] is True
        and info["rewards"] == {"correct": 1.0, "short": 3.0}
        and isinstance(reward, float)
    )


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ({"correct": 1.0}, "components correct; they must be correct, short"),
        (RIGHT | {"long": 1.0}, "short, long; they must be correct, short"),
        (
            RIGHT | {"short": -1e300},
            '"short" is -1e+300; it must be a finite number, not above 1e+15 in size',
        ),
        *((RIGHT | {"correct": value}, f'"correct" is {value!r}') for value in (float("nan"), 0.5)),
        *(
            (RIGHT | {"short": value}, f'"short" is {value!r}')
            for value in (float("inf"), "1", None, [1.0], 1j)
        ),
        (Score(RIGHT, reason=None), "reason=None"),
        (Score(RIGHT, extracted=3), "extracted=3"),
        *((value, f"score returned {value!r}") for value in (None, 0.5, Score(None))),
    ],
)
def test_a_score_that_breaks_the_contract_names_environment_and_problem(value, seen):
    env = envs.make("returning")
    env.value = value
    env.reset(options={"index": 13})
    with pytest.raises(EnvError, match=f"returning, problem 13: .*{re.escape(seen)}"):
        env.step("x")


def batch(reason: object = ("ok",), **rewards: object) -> Scores:
    return Scores({"correct": [1.0], "short": [0.0], **rewards}, reason, [None])


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (None, "score_batch returned None"),
        (Scores(None, ["ok"], [None]), "must return envs.Scores"),
        (batch(correct=1.0), "correct=1.0 for 1 completions"),
        (batch(short=[]), "short=[] for 1 completions"),
        (batch(reason="o"), "reason='o' for 1 completions"),
        (batch(short=[np.nan]), '"short" is nan'),
        (batch(reason=[3]), "reason=3"),
        (Scores({"correct": [1.0]}, ["ok"], [None]), "components correct;"),
    ],
)
@pytest.mark.parametrize(("arguments", "vector"), [({}, False), ({"split": "train"}, False), ({}, True)])
def test_a_batch_that_breaks_the_contract_is_named_in_both_forms(value, seen, arguments, vector):
    env = envs.make("batching", **arguments)
    innermost(env).value = value
    opened = envs.TextVectorEnv(env, 1) if vector else env
    opened.reset(options={"index": [13] if vector else 13})
    with pytest.raises(EnvError, match=f"batching, problem 13: .*{re.escape(seen)}"):
        opened.step(["x"] if vector else "x")


@pytest.mark.parametrize("error", [EnvError("mine"), KeyError("gone"), RecursionError("deep")])
def test_an_exception_of_a_batch_is_counted_in_both_forms(error):
    env = envs.make("batching")
    env.value = error
    env.reset(options={"index": 1})
    info = env.step("x")[4]
    assert info["reason"] == "error" and type(error).__name__ in info["traceback"]
    many = envs.TextVectorEnv(env, 2)
    many.reset(options={"index": [1, 2]})
    info = many.step(["x", "y"])[4]
    assert info["reason"] == ["error"] * 2 and type(error).__name__ in info["traceback"][1]


def test_names_of_tasks_are_short_and_tell_them_apart() -> None:
    """They stand in every line of a log and in the names of files."""
    assert short("4-11") == "4-11" and short("openai/gsm8k") == "openai/gsm8k" and short("1/2") == "1/2"
    long = "Solve this problem step by step, and write the answer at the end"
    assert len(short(long)) <= 34 and short(long).startswith("Solve this problem step...")
    assert short(long) != short(f"{long}.")
