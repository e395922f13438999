"""Numbers in ascending order, which are not words in alphabetical order."""

from typing import ClassVar

import numpy as np

from envs.answers import judge
from envs.core import Problem, Score, TextEnv
from envs.errors import check_choice
from envs.splits import draw_for


class Sorting(TextEnv):
    """Sort whole numbers (`spg/Sorting-v0`): 3, 5 or 8 of them, from 0 to 199.

    Prompt: "sort 31 4 159". Answer: the same numbers, ascending, with spaces between them.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}

    def __init__(self, split: str = "train", level: int = 1) -> None:
        """Opens one split. level: 1, 2 or 3: lists of 3, 5 or 8 numbers."""
        check_choice("sorting", "level", level, [1, 2, 3])
        self.split, self.level = split, level

    def __len__(self) -> int:
        """100,000 problems to train on, 256 in each other split."""
        return 100_000 if self.split == "train" else 256

    def problem(self, index: int) -> Problem:
        """A list of numbers, some of them perhaps equal."""
        numbers = draw_for(self.split, index, self._numbers)
        return Problem(f"sort {' '.join(map(str, numbers))}", {"numbers": numbers})

    def score(self, problem: Problem, completion: str) -> Score:
        """correct: the answer holds the numbers in order and nothing else."""
        truth = [str(number) for number in sorted(problem.reference["numbers"])]
        return judge(completion, lambda answer: answer.split() == truth)

    def demonstration(self, problem: Problem) -> str:
        """The sorted list."""
        return self._write(sorted(problem.reference["numbers"]))

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit, "alphabetical": it sorts the digits as words, so that 159 comes before 31."""
        return {"alphabetical": self._write(sorted(problem.reference["numbers"], key=str))}

    def _numbers(self, rng: np.random.Generator) -> list[int]:
        return rng.integers(0, 200, (3, 5, 8)[self.level - 1]).tolist()

    def _write(self, numbers: list[int]) -> str:
        return f"<answer>{' '.join(map(str, numbers))}</answer>"
