"""What of a Sudoku completion is measured beside the verifier's verdict: its format, and the papers' reward."""

from envs.answers import CLOSE, OPEN, only_answer, until_end

_MEASURED = {"correct": 0.0, "format": 0.0, "cells": 0.0}
REWARD_PRESETS = {"default": {**_MEASURED, "correct": 1.0}, "paper": {"paper_cells": 1.0, **_MEASURED}}
"""The weights by `reward_preset`."""


def has_format(completion: str, size: int = 4) -> bool:
    """Whether there is exactly one closed <answer> block, and n*n digits from 1 to n are all that is in it."""
    grid = only_answer(completion)
    return grid is not None and len(grid) == size * size and not grid.strip("123456789"[:size])


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
