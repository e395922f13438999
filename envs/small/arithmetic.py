"""One line of sums, differences and products, in which products bind more tightly, as in 7+12*3."""

import re
from math import prod

import numpy as np

from envs.problem import Problem
from envs.small import SmallEnv


class Arithmetic(SmallEnv):
    """One line of integer arithmetic (`spg/Arithmetic-v0`): 3 to 5 numbers and the signs + - *.

    Prompt: "compute 7+12*3". Answer: the integer, in digits, with a minus if it is negative. level: lines of 3, 4
    or 5 numbers, up to 19, 29 or 99. Habit "hasty", a way to answer that is often wrong: goes from left to right and
    forgets that * binds more tightly.
    """

    habit = "hasty"

    def draw(self, rng: np.random.Generator) -> str:
        """Draws a line whose first sign is + or - and whose last one is *, so that "hasty" is seldom right."""
        highest = (19, 29, 99)[self.level - 1]
        numbers = rng.integers(1, highest + 1, self.level + 2)
        signs = rng.choice(list("+-*"), len(numbers) - 1)
        signs[0] = rng.choice(["+", "-"])
        signs[-1] = "*"
        return str(numbers[0]) + "".join(f"{sign}{n}" for sign, n in zip(signs, numbers[1:], strict=True))

    def as_problem(self, line: str) -> Problem:
        return Problem(f"compute {line}", {"line": line})

    def solution(self, line: str) -> str:
        terms = line.replace("-", "+-").split("+")  # "7-12+5*3" -> "7", "-12", "5*3"
        return str(sum(prod(map(int, term.split("*"))) for term in terms))

    def mistake(self, line: str) -> str:
        total = 0
        for sign, digits in re.findall(r"([-+*]?)(\d+)", line):  # the first number has no sign
            if sign == "*":
                total *= int(digits)
            elif sign == "-":
                total -= int(digits)
            else:
                total += int(digits)
        return str(total)
