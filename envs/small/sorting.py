"""Sort whole numbers by their values, not by their digits as words."""

import numpy as np

from envs.problem import Problem
from envs.small import SmallEnv


class Sorting(SmallEnv):
    """Sort whole numbers (`spg/Sorting-v0`): 3, 5 or 8 of them, from 0 to 199.

    Prompt: "sort 31 4 159". Answer: the same numbers, ascending, with spaces between them. level: lists of 3, 5 or 8
    numbers. Habit "alphabetical", a way to answer that is often wrong: sorts the digits as words, so that 159 comes
    before 31.
    """

    habit = "alphabetical"

    def draw(self, rng: np.random.Generator) -> list[int]:
        return rng.integers(0, 200, (3, 5, 8)[self.level - 1]).tolist()

    def as_problem(self, numbers: list[int]) -> Problem:
        return Problem(f"sort {' '.join(map(str, numbers))}", {"numbers": numbers})

    def is_right(self, answer: str, numbers: list[int]) -> bool:
        return answer.split() == list(map(str, sorted(numbers)))

    def solution(self, numbers: list[int]) -> str:
        return " ".join(map(str, sorted(numbers)))

    def mistake(self, numbers: list[int]) -> str:
        return " ".join(sorted(map(str, numbers)))
