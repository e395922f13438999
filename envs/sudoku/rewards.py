"""The rewards of Sudoku: the verifier's verdict and partial credit, the format, and the papers' reward."""

from collections.abc import Collection, Sequence
from math import isqrt

import numpy as np

from envs.answer_block import CLOSE, OPEN, only_answer, until_end
from envs.problem import Problem, Scores

REWARD_PRESETS = {
    "default": {"correct": 1.0, "format": 0.0, "cells": 0.0},
    "paper": {"paper_cells": 1.0, "correct": 0.0, "format": 0.0, "cells": 0.0},
}
"""The weights by `reward_preset`. A component of weight 0 is computed and shown, but not paid."""


def score(problems: Sequence[Problem], completions: Sequence[str], wanted: Collection[str]) -> Scores:
    """The scores of n completions. wanted: components, of which only `paper_cells` may be left out."""
    from verifiers import verify_batch

    puzzles = [problem.reference["puzzle"] for problem in problems]
    verdicts = verify_batch("sudoku", completions, puzzle=puzzles)
    pairs = zip(completions, puzzles, strict=True)
    formatted = [has_format(completion, size=isqrt(len(puzzle))) for completion, puzzle in pairs]
    rewards = {
        "correct": np.asarray(verdicts.correct, np.float64),
        "format": np.array(formatted, np.float64),
        "cells": np.asarray(verdicts.score, np.float64),
    }
    if "paper_cells" in wanted:
        solutions = [problem.metadata["solution"] for problem in problems]
        rewards["paper_cells"] = np.array(list(map(paper_cells, completions, puzzles, solutions)), np.float64)
    return Scores(rewards, verdicts.reasons, verdicts.extracted)


def has_format(completion: str, size: int = 4) -> bool:
    """Whether there is exactly one closed <answer> block, which holds n*n digits from 1 to n and nothing else.

    size: n.
    """
    grid = only_answer(completion)
    digits = "123456789"[:size]
    return grid is not None and len(grid) == size * size and all(sign in digits for sign in grid)


def paper_cells(completion: str, puzzle: str, solution: str) -> float:
    """The reward of d1 and SPG: the share of the blanks that are filled as in the solution; 0 without any blanks.

    The digits of the last closed <answer> block, however many there are, are taken as the cells from the first one on.
    Whether the givens are kept is not checked.
    """
    written = _last_digits(until_end(completion))
    blanks = [cell for cell, puzzle_digit in enumerate(puzzle) if puzzle_digit == "0"]
    # A slice, as `written` may be shorter than the grid.
    right = sum(written[cell : cell + 1] == solution[cell] for cell in blanks)
    return right / max(1, len(blanks))


def _last_digits(completion: str) -> str:
    """The digits of the last closed <answer> block, "" without one; a tag inside a block belongs to the block."""
    block = ""
    start = completion.find(OPEN)
    while start >= 0 and (end := completion.find(CLOSE, start)) >= 0:
        block = completion[start + len(OPEN) : end]
        start = completion.find(OPEN, end)
    return "".join(filter(str.isdigit, block))
