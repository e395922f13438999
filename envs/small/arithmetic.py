"""Sums and products in one line, in which a product comes first."""

from math import prod
from typing import ClassVar

import numpy as np

from envs.answers import judge
from envs.core import Problem, Score, TextEnv
from envs.errors import check_choice
from envs.splits import draw_for


class Arithmetic(TextEnv):
    """One line of integer arithmetic (`spg/Arithmetic-v0`): 3 to 5 numbers and the signs + - *.

    Prompt: "compute 7+12*3-5". Answer: the integer, in digits.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}

    def __init__(self, split: str = "train", level: int = 1) -> None:
        """Opens one split. level: 1, 2 or 3: lines of 3, 4 or 5 numbers, up to 19, 29 or 99."""
        check_choice("arithmetic", "level", level, [1, 2, 3])
        self.split, self.level = split, level

    def __len__(self) -> int:
        """100,000 problems to train on, 256 in each other split."""
        return 100_000 if self.split == "train" else 256

    def problem(self, index: int) -> Problem:
        """A line that begins with a sum or difference and ends with a product."""
        line = draw_for(self.split, index, self._line)
        return Problem(f"compute {line}", {"line": line})

    def score(self, problem: Problem, completion: str) -> Score:
        """correct: the answer is the value in plain digits, with a minus if it is negative."""
        truth = str(value(problem.reference["line"]))
        return judge(completion, lambda answer: answer == truth)

    def demonstration(self, problem: Problem) -> str:
        """The value."""
        return f"<answer>{value(problem.reference['line'])}</answer>"

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit, "hasty": it goes from left to right and forgets that products come first."""
        return {"hasty": f"<answer>{from_left(problem.reference['line'])}</answer>"}

    def _line(self, rng: np.random.Generator) -> str:
        highest = (19, 29, 99)[self.level - 1]
        numbers = rng.integers(1, highest + 1, self.level + 2)
        signs = rng.choice(list("+-*"), len(numbers) - 1)
        signs[0], signs[-1] = rng.choice(["+", "-"]), "*"
        return str(numbers[0]) + "".join(f"{sign}{n}" for sign, n in zip(signs, numbers[1:], strict=True))


def value(line: str) -> int:
    """The value of a line of numbers and + - *, e.g. "7+2*3" -> 13."""
    terms = line.replace("-", "+-").split("+")
    return sum(prod(int(factor) for factor in term.split("*")) for term in terms)


def from_left(line: str) -> int:
    """The same with all signs equal in rank, e.g. "7+2*3" -> 27."""
    total, sign = 0, "+"
    for number, following in split_signs(line):
        total = {"+": total + number, "-": total - number, "*": total * number}[sign]
        sign = following
    return total


def split_signs(line: str) -> list[tuple[int, str]]:
    """Each number with the sign behind it, "" behind the last: "7+2" -> [(7, "+"), (2, "")]."""
    parts = "".join(f" {c} " if c in "+-*" else c for c in line).split()
    return list(zip(map(int, parts[::2]), [*parts[1::2], ""], strict=True))
