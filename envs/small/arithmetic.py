"""Sums and products in one line, in which a product comes first."""

import re
from math import prod

import numpy as np

from envs.problem import Problem
from envs.small import SmallEnv


class Arithmetic(SmallEnv):
    """One line of integer arithmetic (`spg/Arithmetic-v0`): 3 to 5 numbers and the signs + - *.

    Prompt: "compute 7+12*3-5". Answer: the integer, in digits, with a minus if it is negative. level: lines of 3, 4
    or 5 numbers, up to 19, 29 or 99. Habit "hasty": goes from left to right and forgets that products come first.
    """

    habit = "hasty"

    def draw(self, rng: np.random.Generator) -> str:
        """A line that begins with a sum or difference and ends with a product."""
        highest = (19, 29, 99)[self.level - 1]
        numbers = rng.integers(1, highest + 1, self.level + 2)
        signs = rng.choice(list("+-*"), len(numbers) - 1)
        signs[0], signs[-1] = rng.choice(["+", "-"]), "*"
        return str(numbers[0]) + "".join(f"{sign}{n}" for sign, n in zip(signs, numbers[1:], strict=True))

    def as_problem(self, line: str) -> Problem:
        return Problem(f"compute {line}", {"line": line})

    def solution(self, line: str) -> str:
        terms = line.replace("-", "+-").split("+")
        return str(sum(prod(int(factor) for factor in term.split("*")) for term in terms))

    def mistake(self, line: str) -> str:
        total = 0
        for sign, digits in re.findall(r"([-+*]?)(\d+)", line):
            number = int(digits)
            total = {"-": total - number, "*": total * number}.get(sign, total + number)
        return str(total)
