"""What a Sudoku completion earns: the verifier's verdict and partial credit, its format, and the papers' reward."""

from collections.abc import Collection, Sequence
from math import isqrt

import numpy as np

from envs.answers import CLOSE, OPEN, only_answer, until_end
from envs.problem import Problem, Scores

_MEASURED = {"correct": 0.0, "format": 0.0, "cells": 0.0}
REWARD_PRESETS = {"default": {**_MEASURED, "correct": 1.0}, "paper": {"paper_cells": 1.0, **_MEASURED}}
"""The weights by `reward_preset`."""


def score(problems: Sequence[Problem], completions: Sequence[str], measured: Collection[str]) -> Scores:
    """The rewards of N completions, (N,) each by name; `paper_cells` only where `measured` names it."""
    from verifiers import verify_batch

    puzzles = [p.reference["puzzle"] for p in problems]
    verdicts = verify_batch("sudoku", completions, puzzle=puzzles)
    rewards = {
        "correct": np.asarray(verdicts.correct, np.float64),
        "format": np.array(
            [has_format(c, isqrt(len(p))) for c, p in zip(completions, puzzles, strict=True)], float
        ),
        "cells": np.asarray(verdicts.score, np.float64),
    }
    if "paper_cells" in measured:
        solutions = [p.metadata["solution"] for p in problems]
        rewards["paper_cells"] = np.array(list(map(paper_cells, completions, puzzles, solutions)), np.float64)
    return Scores(rewards, verdicts.reasons, verdicts.extracted)


def has_format(completion: str, size: int = 4) -> bool:
    """Whether there is exactly one closed <answer> block, and n*n digits from 1 to n are all that is in it."""
    grid = only_answer(completion)
    return grid is not None and len(grid) == size * size and not grid.strip("123456789"[:size])


def flaw(puzzle: str, answer: str) -> str:
    """What is wrong with a grid, in a sentence that does not solve the puzzle; "" for what is no grid."""
    grid, size = "".join(str(int(c)) for c in answer if c.isdecimal()), isqrt(len(puzzle))
    if len(grid) != len(puzzle):
        return f"The grid must have {len(puzzle)} digits, not {len(grid)}."
    for cell, given in enumerate(puzzle):
        if given not in ("0", grid[cell]):
            return f"Row {cell // size + 1} column {cell % size + 1} must stay {given}."
    box, numbers = isqrt(size), range(size)
    units = [("Row", i, grid[i * size : (i + 1) * size]) for i in numbers]
    units += [("Column", i, grid[i::size]) for i in numbers]
    corners = [row * size + column for row in range(0, size, box) for column in range(0, size, box)]
    boxes = [[grid[c + r * size : c + r * size + box] for r in range(box)] for c in corners]
    units += [("Box", i, "".join(rows)) for i, rows in enumerate(boxes)]
    for name, number, digits in units:
        for digit in digits:
            if digits.count(digit) > 1:
                return f"{name} {number + 1} repeats {digit}."
    return ""


def paper_cells(completion: str, puzzle: str, solution: str) -> float:
    """The reward of d1 and SPG: the share of the blanks that equal the solution; 0 for a puzzle without blanks.

    Read are the digits of the last closed <answer> block, from the first cell on; nothing asks whether the givens are
    kept.
    """
    written = _last_digits(until_end(completion))
    blanks = [cell for cell, given in enumerate(puzzle) if given == "0"]
    right = sum(written[cell : cell + 1] == solution[cell] for cell in blanks)
    return right / max(1, len(blanks))


def _last_digits(completion: str) -> str:
    """The digits of the last closed <answer> block, "" without one; a tag inside a block belongs to the block."""
    block, start = "", completion.find(OPEN)
    while start >= 0 and (end := completion.find(CLOSE, start)) >= 0:
        block, start = completion[start + len(OPEN) : end], completion.find(OPEN, end)
    return block if block.isdigit() else "".join(filter(str.isdigit, block))
