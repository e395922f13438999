"""Find values that make every clause of a formula true."""

from itertools import combinations, product
from typing import ClassVar

import numpy as np

from envs.answers import judge
from envs.core import Problem, Score, TextEnv
from envs.errors import check_choice
from envs.splits import draw_for


class Satisfiability(TextEnv):
    """3-SAT (`spg/Satisfiability-v0`): clauses of three of the 4, 5 or 6 variables, at least one solution.

    Prompt: "sat abC aBd": a or b or not c, and a or not b or d; a capital letter says "not". Answer: 0 or 1 for
    each variable in the order of the alphabet.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}

    def __init__(self, split: str = "train", level: int = 1) -> None:
        """Opens one split. level: 1, 2 or 3: 4 variables and 8 clauses, 5 and 11, or 6 and 14."""
        check_choice("satisfiability", "level", level, [1, 2, 3])
        self.split, self.level = split, level

    def __len__(self) -> int:
        """100,000 problems to train on, 256 in each other split."""
        return 100_000 if self.split == "train" else 256

    def problem(self, index: int) -> Problem:
        """Clauses that a hidden assignment satisfies."""
        clauses = draw_for(self.split, index, self._clauses)
        return Problem(f"sat {' '.join(clauses)}", {"variables": 3 + self.level, "clauses": clauses})

    def score(self, problem: Problem, completion: str) -> Score:
        """correct: one 0 or 1 a variable, and every clause is true; any solution counts."""
        number, clauses = problem.reference["variables"], problem.reference["clauses"]
        return judge(
            completion, lambda bits: len(bits) == number and set(bits) <= set("01") and holds(bits, clauses)
        )

    def demonstration(self, problem: Problem) -> str:
        """The smallest solution, read as a number."""
        every = map("".join, product("01", repeat=problem.reference["variables"]))
        return f"<answer>{next(bits for bits in every if holds(bits, problem.reference['clauses']))}</answer>"

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit, "first": each variable takes the sign of its first appearance, 1 if it has none."""
        text = "".join(problem.reference["clauses"])
        letters = "abcdef"[: problem.reference["variables"]]
        signs = (next((c for c in text if c.lower() == letter), letter) for letter in letters)
        return {"first": f"<answer>{''.join('01'[sign.islower()] for sign in signs)}</answer>"}

    def _clauses(self, rng: np.random.Generator) -> list[str]:
        letters = "abcdef"[: 3 + self.level]
        hidden = "".join(rng.choice(["0", "1"], len(letters)))
        signed = (product(*((c, c.upper()) for c in three)) for three in combinations(letters, 3))
        true = [clause for clauses in signed for clause in map("".join, clauses) if holds(hidden, [clause])]
        return sorted(rng.choice(true, 5 + 3 * self.level, replace=False).tolist())


def holds(bits: str, clauses: list[str]) -> bool:
    """Whether an assignment makes every clause true; bits: "0" or "1" for a, b, c, ..."""
    return all(
        any((bits["abcdef".index(c.lower())] == "1") == c.islower() for c in clause) for clause in clauses
    )
