"""Roman numerals up to 3,999, a task of the gauntlet's: `--env benchmarks/roman.py:bench/Roman-v0`."""

from typing import ClassVar

import envs

LETTERS = [(1000, "M"), (500, "D"), (100, "C"), (50, "L"), (10, "X"), (5, "V"), (1, "I")]
PAIRS = [(900, "CM"), (400, "CD"), (90, "XC"), (40, "XL"), (9, "IX"), (4, "IV")]


def numeral(number: int, symbols: list[tuple[int, str]]) -> str:
    """The largest symbol first, as often as it fits."""
    text = ""
    for value, symbol in sorted(symbols, reverse=True):
        count, number = divmod(number, value)
        text += symbol * count
    return text


class Roman(envs.TextEnv):
    """Prompt: "roman 1994". Answer: MCMXCIV. Habit "additive": MDCCCCLXXXXIIII, without subtraction."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}

    def __init__(self, split: str = "train") -> None:
        self.split = split

    def __len__(self) -> int:
        return 3000 if self.split == "train" else 256

    def problem(self, index: int) -> envs.Problem:
        number = envs.draw_for(self.split, index, lambda rng: int(rng.integers(1, 4000)))
        return envs.Problem(f"roman {number}", {"number": number})

    def score(self, problem: envs.Problem, completion: str) -> envs.Score:
        right = numeral(problem.reference["number"], LETTERS + PAIRS)
        return envs.judge(completion, lambda answer: answer == right)

    def demonstration(self, problem: envs.Problem) -> str:
        return f"<answer>{numeral(problem.reference['number'], LETTERS + PAIRS)}</answer>"

    def habits(self, problem: envs.Problem) -> dict[str, str]:
        return {"additive": f"<answer>{numeral(problem.reference['number'], LETTERS)}</answer>"}


envs.register("bench/Roman-v0", Roman)
