"""Find a number by guessing: the environment says whether the number is higher or lower than the guess."""

from collections.abc import Sequence

import numpy as np

from envs.answer_block import read_answer
from envs.problem import Problem
from envs.small import SmallEnv
from envs.splits import GUESS


class Guess(SmallEnv):
    """Guess a number in 4, 5 or 6 turns (`spg/Guess-v0`); the reply to a wrong guess is "higher" or "lower".

    Prompt: "guess 3-14", the lowest and highest that the number can be. Answer: a number, at each turn. level: numbers
    from 1 to 15, 31 or 63, and 4, 5 or 6 turns, the most that bisecting takes. Habit "careless", a way to answer that
    is often wrong: counts upwards.
    """

    habit = "careless"
    split_rule = GUESS

    def __init__(self, split: str = "train", level: int = 1) -> None:
        super().__init__(split, level)
        self.max_turns = 3 + level

    def draw(self, rng: np.random.Generator) -> list[int]:
        """[lowest, highest, the number to be found]: a range that holds more than half of the level's numbers."""
        highest_of_level = 2**self.max_turns - 1
        size = int(rng.integers(highest_of_level // 2 + 1, highest_of_level + 1))
        low = int(rng.integers(1, highest_of_level - size + 2))
        number = int(rng.integers(low, low + size))
        return [low, low + size - 1, number]

    def as_problem(self, drawn: list[int]) -> Problem:
        low, high, number = drawn
        return Problem(f"guess {low}-{high}", {"low": low, "high": high, "number": number})

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        number = problem.reference["number"]
        answer = read_answer(turns[-1]) or ""
        is_number = answer.isascii() and answer.isdecimal() and len(answer) <= 4
        if not is_number:
            return "That is no number."
        guess = int(answer)
        if guess == number:
            return None
        return "higher" if guess < number else "lower"

    def is_right(self, answer: str, low: int, high: int, number: int) -> bool:
        is_number = answer.isascii() and answer.isdecimal() and len(answer) <= 4
        return is_number and answer.lstrip("0") == str(number)

    def demonstration(self, problem: Problem) -> list[str]:
        """Halves the remaining range, turn by turn."""
        low, high, number = (problem.reference[name] for name in ("low", "high", "number"))
        guesses: list[int] = []
        while number not in guesses:
            guess = (low + high) // 2
            guesses.append(guess)
            if guess < number:
                low = guess + 1
            else:
                high = guess - 1
        return [f"<answer>{guess}</answer>" for guess in guesses]

    def habits(self, problem: Problem) -> dict[str, list[str]]:
        low, number = problem.reference["low"], problem.reference["number"]
        last_guess = min(number, low + self.max_turns - 1)  # the number is found, or the turns are used up
        return {self.habit: [f"<answer>{guess}</answer>" for guess in range(low, last_guess + 1)]}
