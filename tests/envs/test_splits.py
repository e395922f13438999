"""Which problem belongs to which split: by content, by index, and never otherwise than released."""

from typing import ClassVar

import numpy as np
import pytest

import envs
from envs import EnvError
from envs.combining.divided import Divided, tenth
from envs.splits import SPLITS, distinct_problems, draw_for, split_of
from tests.common import env_cases  # noqa: F401 - registers "doubling"

BY_CONTENT = ["test", *["train"] * 7, "validation", "train", "train", "validation"]
BY_INDEX = [5, 5, 0, 3, 8, 8, 2, 7, 2, 8, 6, 3]


def test_problems_are_drawn_for_their_split_only():
    drawn = {
        split: {draw_for(split, i, lambda rng: int(rng.integers(3000))) for i in range(500)}
        for split in SPLITS
    }
    assert all(split_of(value) == split for split, values in drawn.items() for value in values)
    shares = [sum(split_of(i) == split for i in range(10_000)) / 10_000 for split in SPLITS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert [split_of(i) for i in range(12)] == BY_CONTENT
    assert split_of([1, "a"]) == split_of((1, "a"))
    assert split_of({"a": 1, "b": 2}) == split_of({"b": 2, "a": 1})


class Copies(envs.TextEnv):
    """Problem i is i modulo 7; problem 3 cannot be made."""

    reward_weights: ClassVar = {"correct": 1.0}

    def __len__(self):
        return 50

    def problem(self, index):
        if index == 3:
            raise KeyError(index)
        return envs.Problem("how many?", {"answer": index % 7})


def test_copies_of_a_problem_are_passed_over():
    assert distinct_problems(Copies()) == [0, 1, 2, 3, 4, 5, 6, 10]
    assert distinct_problems(Copies(), 5) == [0, 1, 2, 3, 4]
    assert distinct_problems(Copies(), 8)[-1] == 10, "drawn on"


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(EnvError, match=r'split="tset".*"test"'):
        draw_for("tset", 0, lambda rng: 1)
    lost = next(split for split in SPLITS if split != split_of(1))
    with pytest.raises(EnvError, match=f"{lost} 5 .*1"):
        draw_for(lost, 5, lambda rng: 1)
    with pytest.raises(EnvError, match=r"\{1\}"):
        draw_for("train", 0, lambda rng: {"numbers": {1}})


def test_a_class_without_splits_is_divided_by_a_hash_of_the_index():
    whole = envs.make("doubling")
    parts = {split: envs.make("doubling", split=split) for split in SPLITS}
    prompts = {split: [env.problem(i).prompt for i in range(len(env))] for split, env in parts.items()}
    together = [prompt for part in prompts.values() for prompt in part]
    assert sorted(together) == sorted(whole.problem(i).prompt for i in range(50)) and not whole.notice
    assert "takes no `split`" in parts["train"].notice and isinstance(parts["test"].inner, Divided)
    parts["test"].reset(options={"index": 0})
    assert parts["test"].step(str(parts["test"].problem(0).reference["answer"]))[4]["correct"]
    size = len(parts["train"])
    with pytest.raises(EnvError, match=f"no problem {size}"):
        parts["train"].reset(options={"index": size})
    with pytest.raises(EnvError, match="no problem -1"):
        parts["train"].problem(-1)
    with pytest.raises(EnvError, match='split="dev"'):
        envs.make("doubling", split="dev")
    shares = np.bincount(tenth(np.arange(100_000)), minlength=10) / 100_000
    assert np.abs(shares - 0.1).max() < 0.005
    assert tenth(np.arange(12)).tolist() == BY_INDEX


def test_a_split_without_problems_is_named():
    assert len(envs.make("doubling", size=1, split="train")) == 1  # index 0 is in tenth 5
    with pytest.raises(EnvError, match=r"of its 3 problems 0 are test\. Give it 18 problems or more"):
        envs.make("doubling", size=3, split="test")
    with pytest.raises(EnvError, match=r"0 are test\. Give it 18 problems or more"):
        envs.make("doubling", size=17, split="test")
    assert all(len(envs.make("doubling", size=18, split=split)) for split in SPLITS)
