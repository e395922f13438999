"""Sudoku in words: the paper-style prompt, worked completions, the careless habit, and marks on a text."""

from collections.abc import Sequence
from math import isqrt

import numpy as np

from envs.answers import until_end

PAPER_EXAMPLES = {
    4: (
        ("3400200403020243", "3421213443121243"),
        ("0234001023400020", "1234341223414123"),
        ("0032000002133004", "1432234142133124"),
    ),
    9: (
        (
            "596087040000000067307056890604012905000749002912800004701000400003628079209471308",
            "596187243128934567347256891674312985835749612912865734781593426453628179269471358",
        ),
    ),
}
"""By size, what the paper-style prompt solves first (4x4: 7, 8 and 9 blanks; 9x9: 36), on grids of train."""

_RULES = """\
You are given a {n}x{n} Sudoku as {cells} digits: {rows} rows of {rows}, from top to bottom, where 0 is an empty cell.
Replace every 0 by a digit from 1 to {n} and change nothing else, so that each row, each column and each \
of the {boxes} holds {digits} exactly once.
First think inside <reasoning> and </reasoning>. Then write the finished grid, again as {cells} digits without \
spaces, inside <answer> and </answer>."""
_WORDS = {
    4: {"rows": "four", "boxes": "four 2x2 corner boxes", "digits": "1, 2, 3 and 4"},
    9: {"rows": "nine", "boxes": "nine 3x3 boxes", "digits": "each digit from 1 to 9"},
}
_OPEN, _CLOSE = "<answer>", "</answer>"
_ENDS = ("<|eot_id|>", "<|endoftext|>")


def digits_of(size: int) -> str:
    """The digits that a finished n x n grid is made of: "1234" or "123456789"."""
    return "123456789"[:size]


def rows_of(grid: str) -> list[str]:
    """A grid or puzzle of n*n digits as its n rows."""
    size = isqrt(len(grid))
    return [grid[i : i + size] for i in range(0, len(grid), size)]


def careless(puzzle: str) -> str:
    """The grid of a solver that looks at rows only: left to right, the smallest digit the row still lacks."""
    grid = ""
    for row in rows_of(puzzle):
        lacking = iter(sorted(set(digits_of(len(row))) - set(row)))
        grid += "".join(digit if digit != "0" else next(lacking) for digit in row)
    return grid


def has_format(completion: str, size: int = 4) -> bool:
    """Whether the text before the first end token holds one closed <answer> block of n*n digits 1 to n."""
    text = completion[completion.find("<") :]  # all tags are behind it; finding one byte is quick
    if "<|" in text:
        for end in _ENDS:
            text = text.partition(end)[0]
    if text.count(_OPEN) != 1 or text.count(_CLOSE) != 1:
        return False
    start, end = text.find(_OPEN) + len(_OPEN), text.find(_CLOSE)
    grid = text[start:end].strip() if start <= end else ""
    return len(grid) == size * size and not grid.strip("123456789"[:size])


def paper_cells(completions: Sequence[str], puzzles: Sequence[str], solutions: Sequence[str]) -> np.ndarray:
    """The reward of d1 and SPG for n completions, (n,) float64: the share of the blanks that equal the solution.

    puzzles, solutions: n each, all of one size. Read are the digits of the last closed <answer> block, zeros
    added or cut to the cells of the board; nothing asks whether the givens are kept. A puzzle without blanks
    earns 0.
    """
    cells = len(puzzles[0]) if puzzles else 0
    shown = [_last_digits(until_end(completion))[:cells].ljust(cells, "0") for completion in completions]
    answers, givens, grids = (
        # Digits of other scripts, which isdigit lets pass, become marks that equal no cell.
        np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8).reshape(len(texts), cells)
        for texts in (shown, puzzles, solutions)
    )
    blank = givens == ord("0")
    return (blank & (answers == grids)).sum(axis=1) / np.maximum(1, blank.sum(axis=1))


def _last_digits(completion: str) -> str:
    """The digits of the last closed <answer> block, "" without one."""
    block, start = "", completion.find(_OPEN)
    while start >= 0 and (end := completion.find(_CLOSE, start)) >= 0:
        block, start = completion[start + len(_OPEN) : end], completion.find(_OPEN, end)
    return block if block.isdigit() else "".join(filter(str.isdigit, block))


def worked(puzzle: str, grid: str) -> str:
    """The completion that the paper-style prompt asks for: row by row, then the grid."""
    lines = []
    for number, (row, full) in enumerate(zip(rows_of(puzzle), rows_of(grid), strict=True), 1):
        lacking = " ".join(sorted(set(digits_of(len(row))) - set(row))) or "nothing"
        lines.append(f"Row {number}: {row} lacks {lacking}, so it becomes {full}.")
    body = "\n".join(lines)
    return f"<reasoning>\n{body}\n</reasoning>\n<answer>\n{grid}\n</answer>"


def paper_prompt(puzzle: str) -> str:
    """One user message: the rules, the tags, solved puzzles, and the puzzle."""
    size = isqrt(len(puzzle))
    rules = _RULES.format(n=size, cells=size * size, **_WORDS[size])
    shown = [f"Puzzle: {example}\n{worked(example, grid)}" for example, grid in PAPER_EXAMPLES[size]]
    examples = "\n\n".join(f"Example {i}\n{text}" for i, text in enumerate(shown, 1))
    return f"{rules}\n\n{examples}\n\nNow solve this one.\nPuzzle: {puzzle}"
