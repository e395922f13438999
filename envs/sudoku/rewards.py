"""What of a Sudoku completion is measured beside the verifier's verdict: its format, and the papers' reward."""

from collections.abc import Sequence

import numpy as np

from envs.answers import CLOSE, OPEN, only_answer, until_end

_MEASURED = {"correct": 0.0, "format": 0.0, "cells": 0.0}
REWARD_PRESETS = {"default": {**_MEASURED, "correct": 1.0}, "paper": {"paper_cells": 1.0, **_MEASURED}}
"""The weights by `reward_preset`."""


def has_format(completion: str, size: int = 4) -> bool:
    """Whether there is exactly one closed <answer> block, and n*n digits from 1 to n are all that is in it."""
    grid = only_answer(completion)
    return grid is not None and len(grid) == size * size and not grid.strip("123456789"[:size])


def paper_cells(completions: Sequence[str], puzzles: Sequence[str], solutions: Sequence[str]) -> np.ndarray:
    """The reward of d1 and SPG for n completions, (n,) float64: the share of the blanks that equal the solution.

    puzzles, solutions: n each, all of one size. Read are the digits of the last closed <answer> block, zeros
    added or cut to the cells of the board; nothing asks whether the givens are kept. A puzzle without blanks
    earns 0.
    """
    cells = len(puzzles[0]) if puzzles else 0
    written = [_last_digits(until_end(completion))[:cells].ljust(cells, "0") for completion in completions]
    answers, givens, grids = (
        # Digits of other scripts, which isdigit lets pass, become marks that equal no cell.
        np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8).reshape(len(texts), cells)
        for texts in (written, puzzles, solutions)
    )
    blank = givens == ord("0")
    return (blank & (answers == grids)).sum(axis=1) / np.maximum(1, blank.sum(axis=1))


def _last_digits(completion: str) -> str:
    """The digits of the last closed <answer> block, "" without one; a tag inside a block belongs to the block."""
    block, start = "", completion.find(OPEN)
    while start >= 0 and (end := completion.find(CLOSE, start)) >= 0:
        block, start = completion[start + len(OPEN) : end], completion.find(OPEN, end)
    return block if block.isdigit() else "".join(filter(str.isdigit, block))
