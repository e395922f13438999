"""Find values that make every clause of a formula true."""

from itertools import combinations, product

import numpy as np

from envs.problem import Problem
from envs.small import SmallEnv


class Satisfiability(SmallEnv):
    """3-SAT (`spg/Satisfiability-v0`): clauses of three of the 4, 5 or 6 variables, at least one solution.

    Prompt: "sat abC aBd": a or b or not c, and a or not b or d; a capital letter says "not". Answer: 0 or 1 for
    each variable in the order of the alphabet; any solution counts. level: 4 variables and 8 clauses, 5 and 11, or 6
    and 14. Habit "first": each variable takes the sign of its first appearance, 1 if it has none.
    """

    habit = "first"

    def draw(self, rng: np.random.Generator) -> list[str]:
        """Clauses that one random assignment satisfies."""
        letters = "abcdef"[: 3 + self.level]
        bits = "".join(rng.choice(["0", "1"], len(letters)))
        signed = (product(*((c, c.upper()) for c in three)) for three in combinations(letters, 3))
        true = [clause for clauses in signed for clause in map("".join, clauses) if holds(bits, [clause])]
        return sorted(rng.choice(true, 5 + 3 * self.level, replace=False).tolist())

    def as_problem(self, clauses: list[str]) -> Problem:
        return Problem(f"sat {' '.join(clauses)}", {"variables": 3 + self.level, "clauses": clauses})

    def is_right(self, answer: str, variables: int, clauses: list[str]) -> bool:
        return len(answer) == variables and set(answer) <= set("01") and holds(answer, clauses)

    def flaw(self, answer: str, variables: int, clauses: list[str]) -> str:
        if len(answer) != variables or not set(answer) <= set("01"):
            return f"The answer must be {variables} digits, each 0 or 1."
        false = [clause for clause in clauses if not holds(answer, [clause])]
        return f"{false[0]} is false." if false else ""

    def solution(self, variables: int, clauses: list[str]) -> str:
        every = map("".join, product("01", repeat=variables))
        return next(bits for bits in every if holds(bits, clauses))

    def mistake(self, variables: int, clauses: list[str]) -> str:
        text = "".join(clauses)
        signs = (next((c for c in text if c.lower() == letter), letter) for letter in "abcdef"[:variables])
        return "".join("01"[sign.islower()] for sign in signs)


def holds(bits: str, clauses: list[str]) -> bool:
    """Whether an assignment makes every clause true; bits: "0" or "1" for a, b, c, ..."""
    return all(
        any((bits["abcdef".index(c.lower())] == "1") == c.islower() for c in clause) for clause in clauses
    )
