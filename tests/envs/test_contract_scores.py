"""Scores that break the contract are named with environment and problem; exceptions become data."""

import numpy as np
import pytest

import envs
from envs import EnvError, Problem, Score, Scores, TextEnv


class Returning(TextEnv):
    """Scores whatever it is told to."""

    reward_weights = {"correct": 1.0, "short": 0.5}  # noqa: RUF012
    value: object = None

    def __len__(self) -> int:
        return 50

    def problem(self, index: int) -> Problem:
        return Problem(f"2 * {index} = ?", {"answer": 2 * index})

    def score(self, problem: Problem, completion: str) -> object:
        return self.value


class Batching(TextEnv):
    """Returns whatever it is told to for a batch, or raises it."""

    reward_weights = {"correct": 1.0, "short": 0.5}  # noqa: RUF012
    value: object = None

    def __len__(self) -> int:
        return 50

    def problem(self, index: int) -> Problem:
        return Problem(f"{index}?", {})

    def score_batch(self, problems, completions) -> object:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


envs.register("test/Returning-v0", Returning)
envs.register("test/Batching-v0", Batching)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"correct": 1.0}, "misses 'short'"),
        ({"correct": 1.0, "short": 0.0, "long": 1.0}, "unknown 'long'"),
        ({"correct": float("nan"), "short": 0.0}, '"correct" is nan; it must be 0 or 1'),
        ({"correct": 0.5, "short": 0.0}, '"correct" is 0.5; it must be 0 or 1'),
        ({"correct": 1.0, "short": float("nan")}, '"short" is nan; it must be a finite number'),
        ({"correct": 1.0, "short": float("inf")}, '"short" is inf'),
        ({"correct": 1.0, "short": "1"}, "\"short\" is '1'"),
        ({"correct": 1.0, "short": None}, '"short" is None'),
        ({"correct": 1.0, "short": 10**400}, '"short" is 1000'),
        ({"correct": 1.0, "short": [1.0, 2.0]}, r'"short" is \[1.0, 2.0\]'),
        ({"correct": 1.0, "short": 1j}, '"short" is 1j'),
        (Score({"correct": 1.0, "short": 0.0}, reason=None), "reason is None; it must be a str"),
        (Score({"correct": 1.0, "short": 0.0}, extracted=3), "extracted is 3; it must be a str or None"),
        (None, "score returned None"),
        (0.5, "score returned 0.5"),
        (Score(None), "score returned Score"),
    ],
)
def test_a_score_that_breaks_the_contract_names_environment_and_problem(value, message):
    env = envs.make("returning")
    env.value = value
    env.reset(options={"index": 13})
    with pytest.raises(EnvError, match=f"returning, problem 13: .*{message}"):
        env.step("x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "score_batch returned None; it must return envs.Scores"),
        ({"correct": [1.0], "short": [1.0]}, r"score_batch returned .*; it must return envs.Scores"),
        (Scores(None, ["ok"], [None]), "must return envs.Scores"),
        (Scores({"correct": 1.0, "short": [0.0]}, ["ok"], [None]), r"returned {'correct': None} entries"),
        (Scores({"correct": [1.0], "short": [0.0]}, "o", [None]), r"returned {'reason': None} entries"),
        (Scores({"correct": [1.0], "short": []}, ["ok"], [None]), r"returned {'short': 0} entries"),
        (Scores({"correct": [1.0], "short": [np.nan]}, ["ok"], [None]), '"short" is nan'),
        (Scores({"correct": [1.0], "short": ["1"]}, ["ok"], [None]), "\"short\" is '1'"),
        (Scores({"correct": [1.0]}, ["ok"], [None]), "misses 'short'"),
        (Scores({"correct": [1.0], "short": [0.0]}, [3], [None]), "reason is 3; it must be a str"),
    ],
)
@pytest.mark.parametrize("split", [None, "train"])
@pytest.mark.parametrize("vector", [False, True])
def test_a_batch_that_breaks_the_contract_is_named_in_both_forms(value, message, split, vector):
    env = envs.make("batching", **({"split": split} if split else {}))
    getattr(env, "base", env).value = value
    index = {"index": [13]} if vector else {"index": 13}
    one = envs.TextVectorEnv(env, 1) if vector else env
    one.reset(options=index)
    with pytest.raises(EnvError, match=f"batching, problem 13: .*{message}"):
        one.step(["x"] if vector else "x")


def test_an_exception_of_a_batch_is_counted_in_both_forms_whatever_its_class():
    for error in (EnvError("mine"), KeyError("gone"), RecursionError("deep")):
        env = envs.make("batching")
        env.value = error
        env.reset(options={"index": 1})
        info = env.step("x")[4]
        assert info["reason"] == "error" and type(error).__name__ in info["traceback"]
        many = envs.TextVectorEnv(env, 2)
        many.reset(options={"index": [1, 2]})
        info = many.step(["x", "y"])[4]
        assert info["reason"] == ["error"] * 2 and type(error).__name__ in info["traceback"][1]


@pytest.mark.parametrize("weight", [float("nan"), "1", None, True])
def test_a_class_with_a_weight_that_is_no_number_is_refused(weight):
    cls = type("Weighty", (Returning,), {"reward_weights": {"correct": 1.0, "short": weight}})
    with pytest.raises(EnvError, match=r"test/Weighty-v0: the weight of short is .* finite number"):
        envs.register("test/Weighty-v0", cls)
