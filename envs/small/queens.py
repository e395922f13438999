"""Complete a board of eight queens that do not attack each other."""

from functools import cache
from typing import ClassVar

import numpy as np

from envs.answers import judge
from envs.core import Problem, Score, TextEnv
from envs.errors import check_choice
from envs.splits import draw_for

_SIZE = 8


class Queens(TextEnv):
    """Eight queens on a chess board (`spg/Queens-v0`), some of them given.

    Prompt: "queens 4?7?????", the column 1 to 8 of each row's queen, ? = to be found. Answer: the 8 columns.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}

    def __init__(self, split: str = "train", level: int = 1) -> None:
        """Opens one split. level: 1, 2 or 3: 3, 4 or 5 queens are to be found."""
        check_choice("queens", "level", level, [1, 2, 3])
        self.split, self.level = split, level

    def __len__(self) -> int:
        """100,000 problems to train on (with repeats, there are some thousands), 256 in each other split."""
        return 100_000 if self.split == "train" else 256

    def problem(self, index: int) -> Problem:
        """One of the 92 solutions with some rows hidden."""
        board = draw_for(self.split, index, self._board)
        return Problem(f"queens {board}", {"board": board})

    def score(self, problem: Problem, completion: str) -> Score:
        """correct: 8 columns that keep the given ones and share no column or diagonal; any solution counts."""
        return judge(
            completion, lambda answer: answer in solutions() and keeps(problem.reference["board"], answer)
        )

    def demonstration(self, problem: Problem) -> str:
        """The smallest solution, read as a number."""
        found = next(full for full in solutions() if keeps(problem.reference["board"], full))
        return f"<answer>{found}</answer>"

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit, "rooks": the free columns in ascending order, diagonals ignored."""
        board = problem.reference["board"]
        free = iter(column for column in "12345678" if column not in board)
        return {"rooks": f"<answer>{''.join(next(free) if c == '?' else c for c in board)}</answer>"}

    def _board(self, rng: np.random.Generator) -> str:
        board = list(solutions()[rng.integers(len(solutions()))])
        for row in rng.choice(_SIZE, 2 + self.level, replace=False):
            board[row] = "?"
        return "".join(board)


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
