"""Find values that make every clause of a formula true."""

from itertools import combinations, product

import numpy as np

from envs.problem import Problem
from envs.small import SmallEnv


class Satisfiability(SmallEnv):
    """3-SAT (`spg/Satisfiability-v0`): clauses of three variables each, with at least one solution.

    Prompt: "sat abC aBd" means (a or b or not c) and (a or not b or d); a capital letter says "not". Answer: 0 or 1 for
    each variable in the order of the alphabet; any solution counts. level: 4 variables and 8 clauses, 5 and 11, or 6
    and 14. Habit "first", a way to answer that is often wrong: makes each variable's first literal true, so that aBd
    gives a=1, b=0, d=1. A variable that occurs in no clause is 1.
    """

    habit = "first"

    def draw(self, rng: np.random.Generator) -> list[str]:
        """Clauses that one random assignment satisfies."""
        letters = "abcdef"[: 3 + self.level]
        bits = "".join(rng.choice(["0", "1"], len(letters)))
        clauses = []
        for three in combinations(letters, 3):
            literals_of_each = zip(three, map(str.upper, three), strict=True)  # ("a", "A"), ...
            clauses += map("".join, product(*literals_of_each))
        true_clauses = [clause for clause in clauses if holds(bits, [clause])]
        return sorted(rng.choice(true_clauses, 5 + 3 * self.level, replace=False).tolist())

    def as_problem(self, clauses: list[str]) -> Problem:
        return Problem(f"sat {' '.join(clauses)}", {"variables": 3 + self.level, "clauses": clauses})

    def is_right(self, answer: str, variables: int, clauses: list[str]) -> bool:
        return len(answer) == variables and set(answer) <= set("01") and holds(answer, clauses)

    def flaw(self, answer: str, variables: int, clauses: list[str]) -> str:
        if len(answer) != variables or not set(answer) <= set("01"):
            return f"The answer must be {variables} digits, each 0 or 1."
        false_clauses = [clause for clause in clauses if not holds(answer, [clause])]
        return f"{false_clauses[0]} is false." if false_clauses else ""

    def solution(self, variables: int, clauses: list[str]) -> str:
        assignments = map("".join, product("01", repeat=variables))
        return next(bits for bits in assignments if holds(bits, clauses))

    def mistake(self, variables: int, clauses: list[str]) -> str:
        literals = "".join(clauses)
        bits = ""
        for letter in "abcdef"[:variables]:
            first = next((literal for literal in literals if literal.lower() == letter), letter)
            bits += "1" if first.islower() else "0"
        return bits


def holds(bits: str, clauses: list[str]) -> bool:
    """Whether an assignment makes every clause true; bits: "0" or "1" for a, b, c, ..."""

    def is_true(literal: str) -> bool:
        value = bits["abcdef".index(literal.lower())] == "1"
        return value if literal.islower() else not value

    return all(any(map(is_true, clause)) for clause in clauses)
