"""Two tasks whose bases are seldom right: `--env benchmarks/rare.py:bench/Shift-v0` and `bench/Sorted-v0`.

Bases are made by `sft --mix right=0.03 HABIT=0.97`: nearly all groups of eight completions are all wrong.
"""

from typing import ClassVar

import numpy as np

import envs


class Rare(envs.TextEnv):
    """A short text is rewritten by a rule; the habit is a simpler rule."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}
    characters = "abcdefghij"
    length = 6

    def __init__(self, split: str = "train") -> None:
        self.split = split

    def __len__(self) -> int:
        return 20_000 if self.split == "train" else 256

    def problem(self, index: int) -> envs.Problem:
        def draw(rng: np.random.Generator) -> str:
            return "".join(rng.choice(list(self.characters), self.length))

        return envs.Problem(envs.draw_for(self.split, index, draw), {})

    def score(self, problem: envs.Problem, completion: str) -> envs.Score:
        return envs.judge(completion, lambda answer: answer == self.right(problem.prompt))

    def demonstration(self, problem: envs.Problem) -> str:
        return f"<answer>{self.right(problem.prompt)}</answer>"

    def habits(self, problem: envs.Problem) -> dict[str, str]:
        return {"simple": f"<answer>{self.simple(problem.prompt)}</answer>"}

    def right(self, text: str) -> str:
        raise NotImplementedError

    def simple(self, text: str) -> str:
        raise NotImplementedError


class Shift(Rare):
    """Prompt: "cafe". Answer: "dbgf", every letter's successor. Habit: only the first letter is replaced."""

    def right(self, text: str) -> str:
        return "".join(chr(ord(character) + 1) for character in text)

    def simple(self, text: str) -> str:
        return self.right(text[:1]) + text[1:]


class Sorted(Rare):
    """Prompt: "381274". Answer: "123478", the digits in order. Habit: from the last to the first."""

    characters = "0123456789"

    def right(self, text: str) -> str:
        return "".join(sorted(text))

    def simple(self, text: str) -> str:
        return text[::-1]


envs.register("bench/Shift-v0", Shift)
envs.register("bench/Sorted-v0", Sorted)
