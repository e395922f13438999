"""Find a number by guessing: the environment says whether it is higher or lower."""

from collections.abc import Sequence

import numpy as np

from envs.answers import read_answer
from envs.problem import Problem
from envs.small import SmallEnv
from envs.splits import GUESS


class Guess(SmallEnv):
    """Guess a number in 4, 5 or 6 turns (`spg/Guess-v0`); "higher" or "lower" answers each guess.

    Prompt: "guess 3-14", the lowest and highest that it can be. Answer: a number, at each turn. level: numbers from 1
    to 15, 31 or 63, and as many turns as bisecting takes at most. Habit "careless": counts upwards.
    """

    habit = "careless"
    split_rule = GUESS

    def __init__(self, split: str = "train", level: int = 1) -> None:
        super().__init__(split, level)
        self.max_turns = 3 + level

    def draw(self, rng: np.random.Generator) -> list[int]:
        """A range of more than half of the numbers, and the one to be found in it."""
        highest = 2**self.max_turns - 1
        size = int(rng.integers(highest // 2 + 1, highest + 1))
        low = int(rng.integers(1, highest - size + 2))
        return [low, low + size - 1, int(rng.integers(low, low + size))]

    def as_problem(self, drawn: list[int]) -> Problem:
        low, high, number = drawn
        return Problem(f"guess {low}-{high}", {"low": low, "high": high, "number": number})

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        guess, number = read_answer(turns[-1]) or "", problem.reference["number"]
        if len(guess) > 4 or not (guess.isascii() and guess.isdecimal()):
            return "That is no number."
        return None if int(guess) == number else "higher" if int(guess) < number else "lower"

    def is_right(self, answer: str, low: int, high: int, number: int) -> bool:
        return (
            answer.isascii() and answer.isdecimal() and answer.lstrip("0") == str(number) and len(answer) < 5
        )

    def demonstration(self, problem: Problem) -> list[str]:
        """Halves what is left of the range, turn by turn."""
        low, high, number = (problem.reference[name] for name in ("low", "high", "number"))
        guesses = []
        while not guesses or guesses[-1] != number:
            guesses.append((low + high) // 2)
            low, high = (guesses[-1] + 1, high) if guesses[-1] < number else (low, guesses[-1] - 1)
        return [f"<answer>{guess}</answer>" for guess in guesses]

    def habits(self, problem: Problem) -> dict[str, list[str]]:
        low, number = problem.reference["low"], problem.reference["number"]
        counted = range(low, min(number, low + self.max_turns - 1) + 1)
        return {self.habit: [f"<answer>{guess}</answer>" for guess in counted]}
