"""Says in a sentence what is wrong with a Sudoku answer, without solving the puzzle."""

from __future__ import annotations

from math import isqrt

from verifiers.verdicts import Reason


def explain(extracted: str | None, reason: str, puzzle: str) -> str:
    """A sentence on the first fault: too few or too many digits, a given digit that was changed, or a repeated digit.

    extracted, reason: fields of the verdict. puzzle: the reference. Returns "" for puzzles of numbers (n > 9), and for
    an answer with words that was read all the same, because some of its digits may not be cells.
    """
    cells = "".join(cell for cell in puzzle.replace(".", "0") if cell.isdecimal())
    if not extracted or len(cells) not in (1, 16, 81):
        return ""
    has_words = any(map(str.isalpha, extracted))
    num_digits = sum(map(str.isdecimal, extracted))
    # If the number of digits is right, something else was wrong with the answer.
    if reason == Reason.MALFORMED and (has_words or num_digits == len(cells)):
        return f"The answer must be the {len(cells)} digits of the grid, row by row, and nothing else."
    return "" if has_words else flaw(cells, extracted)


def flaw(puzzle: str, answer: str) -> str:
    """A sentence on the first fault of an answer; "" if it breaks no rule. puzzle: its cells, with 0 for a blank."""
    grid = "".join(str(int(c)) for c in answer if c.isdecimal())
    if len(grid) != len(puzzle):
        return f"The grid must have {len(puzzle)} digits, not {len(grid)}."
    size = isqrt(len(puzzle))
    for cell, puzzle_digit in enumerate(puzzle):
        if puzzle_digit not in ("0", grid[cell]):
            return f"Row {cell // size + 1} column {cell % size + 1} must stay {puzzle_digit}."
    rows = [grid[start : start + size] for start in range(0, size * size, size)]
    columns = [grid[column::size] for column in range(size)]
    box_size = isqrt(size)
    boxes = []
    for top in range(0, size, box_size):
        for left in range(0, size, box_size):
            boxes.append("".join(row[left : left + box_size] for row in rows[top : top + box_size]))
    for name, units in (("Row", rows), ("Column", columns), ("Box", boxes)):
        for number, digits in enumerate(units, 1):
            for digit in digits:
                if digits.count(digit) > 1:
                    return f"{name} {number} repeats {digit}."
    return ""
