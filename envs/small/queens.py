"""Put the missing queens on a chess board, so that none of the eight attacks another."""

from functools import cache
from itertools import combinations

import numpy as np

from envs.problem import Problem
from envs.small import SmallEnv

_SIZE = 8


class Queens(SmallEnv):
    """Eight queens on a chess board (`spg/Queens-v0`), some of them given.

    Prompt: "queens 4?7?????", for each row the column of its queen, 1 to 8; ? = to be found. Answer: the 8 columns; any
    solution counts. level: 3, 4 or 5 queens are to be found. As there are only some thousand boards, train repeats
    some. Habit "rooks", a way to answer that is often wrong: the free columns in ascending order, diagonals ignored.
    """

    habit = "rooks"

    def draw(self, rng: np.random.Generator) -> str:
        """One of the 92 solutions, with "?" in place of some of its queens."""
        board = list(solutions()[rng.integers(len(solutions()))])
        for row in rng.choice(_SIZE, 2 + self.level, replace=False):
            board[row] = "?"
        return "".join(board)

    def as_problem(self, board: str) -> Problem:
        return Problem(f"queens {board}", {"board": board})

    def is_right(self, answer: str, board: str) -> bool:
        return answer in solutions() and keeps_given(board, answer)

    def flaw(self, answer: str, board: str) -> str:
        if len(answer) != _SIZE or not set(answer) <= set("12345678"):
            return "The answer must be 8 digits, each from 1 to 8."
        if not keeps_given(board, answer):
            return "A given queen has moved."
        queens = list(enumerate(map(int, answer), 1))  # (row, column)
        for (row, column), (other_row, other_column) in combinations(queens, 2):
            if abs(column - other_column) in (0, other_row - row):  # in one column, or on one diagonal
                return f"The queens of rows {row} and {other_row} attack each other."
        return ""

    def solution(self, board: str) -> str:
        return next(full for full in solutions() if keeps_given(board, full))

    def mistake(self, board: str) -> str:
        free = iter(column for column in "12345678" if column not in board)
        return "".join(next(free) if column == "?" else column for column in board)


def keeps_given(board: str, full: str) -> bool:
    """Whether a full board has the queens that stand on `board`."""
    return all(column in ("?", full_column) for column, full_column in zip(board, full, strict=True))


@cache
def solutions() -> tuple[str, ...]:
    """The 92 full boards without an attack, e.g. "15863724", in ascending order."""
    boards = [""]
    for _ in range(_SIZE):  # adds a row to each board, in every way without an attack
        boards_with_row = [board + column for board in boards for column in "12345678"]
        boards = [board for board in boards_with_row if last_is_safe(board)]
    return tuple(boards)


def last_is_safe(board: str) -> bool:
    """Whether the queen in the last row of a board attacks no queen in the rows before it."""
    row, column = len(board) - 1, int(board[-1])
    return all(
        abs(column - int(earlier)) not in (0, row - earlier_row)
        for earlier_row, earlier in enumerate(board[:-1])
    )
