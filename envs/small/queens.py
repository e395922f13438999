"""Complete a board of eight queens that do not attack each other."""

from functools import cache
from itertools import combinations

import numpy as np

from envs.problem import Problem
from envs.small import SmallEnv

_SIZE = 8


class Queens(SmallEnv):
    """Eight queens on a chess board (`spg/Queens-v0`), some of them given.

    Prompt: "queens 4?7?????", the column 1 to 8 of each row's queen, ? = to be found. Answer: the 8 columns; any
    solution counts. level: 3, 4 or 5 queens are to be found; there are some thousand boards, so train repeats some.
    Habit "rooks": the free columns in ascending order, diagonals ignored.
    """

    habit = "rooks"

    def draw(self, rng: np.random.Generator) -> str:
        """One of the 92 solutions without some of its rows."""
        board = list(solutions()[rng.integers(len(solutions()))])
        for row in rng.choice(_SIZE, 2 + self.level, replace=False):
            board[row] = "?"
        return "".join(board)

    def as_problem(self, board: str) -> Problem:
        return Problem(f"queens {board}", {"board": board})

    def is_right(self, answer: str, board: str) -> bool:
        return answer in solutions() and keeps(board, answer)

    def flaw(self, answer: str, board: str) -> str:
        if len(answer) != _SIZE or not set(answer) <= set("12345678"):
            return "The answer must be 8 digits, each from 1 to 8."
        if not keeps(board, answer):
            return "A given queen has moved."
        queens = list(enumerate(map(int, answer), 1))
        attacks = [(a, b) for (a, x), (b, y) in combinations(queens, 2) if abs(x - y) in (0, b - a)]
        return "The queens of rows {} and {} attack each other.".format(*attacks[0]) if attacks else ""

    def solution(self, board: str) -> str:
        return next(full for full in solutions() if keeps(board, full))

    def mistake(self, board: str) -> str:
        free = iter(column for column in "12345678" if column not in board)
        return "".join(next(free) if column == "?" else column for column in board)


def keeps(board: str, full: str) -> bool:
    """Whether a full board has the queens that are given on `board`."""
    return all(given in ("?", column) for given, column in zip(board, full, strict=True))


@cache
def solutions() -> tuple[str, ...]:
    """The 92 boards, in ascending order."""
    boards = [""]
    for row in range(_SIZE):
        boards = [
            b + c
            for b in boards
            for c in "12345678"
            if all(c != b[i] and abs(int(c) - int(b[i])) != row - i for i in range(row))
        ]
    return tuple(boards)
