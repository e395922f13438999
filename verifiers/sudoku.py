"""Sudoku of any square size: does this grid solve that puzzle, whatever solution was stored for it?

Reference: `puzzle`, a string of n * n cells in reading order, `0` or `.` for a blank. n = 1, 4 or 9: one digit per
cell; n = 16, 25, 36 or 49: numbers with white space, commas or pipes between. See docs/verifiers/sudoku.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain
from math import isqrt
from operator import itemgetter
from typing import Any

from verifiers import batch
from verifiers.errors import invalid_reference
from verifiers.reading.answer import Found, find_answer, regions
from verifiers.reading.grids import cells_in, last_grid
from verifiers.verdicts import GRAMMAR, MALFORMED, NO_ANSWER, OK, RULE_BROKEN, TEXT, WRONG, Reason

SIZES = (1, 4, 9, 16, 25, 36, 49)
_A_PUZZLE = (
    "is no puzzle that can be solved: 1, 16 or 81 digits, or 256, 625, 1296 or 2401 numbers with spaces, commas or "
    "pipes between, 0 or . for a blank, no digit above n and none twice in a row, column or box"
)
"""What the message about an invalid puzzle says of it."""
_BLANKS_OF_PUZZLES = str.maketrans(",|.", "  0")


@cache
def _units(size: int) -> tuple[Any, ...]:
    """A function from all cells to those of a unit, for each row, column and box."""
    box = isqrt(size)
    rows = [[row * size + column for column in range(size)] for row in range(size)]
    columns = [[row * size + column for row in range(size)] for column in range(size)]
    corners = [(top, left) for top in range(0, size, box) for left in range(0, size, box)]
    boxes = [
        [(top + row) * size + left + column for row in range(box) for column in range(box)]
        for top, left in corners
    ]
    return tuple(itemgetter(*unit) for unit in chain(rows, columns, boxes)) if size > 1 else (tuple,) * 3


@cache
def _units_of_cells(size: int) -> tuple[tuple[int, int, int], ...]:
    """The places in `_units` of each cell's row, column and box."""
    box = isqrt(size)
    return tuple(
        (row, size + column, 2 * size + row // box * box + column // box)
        for row in range(size)
        for column in range(size)
    )


@lru_cache(4096)
def read_puzzle(puzzle: str) -> tuple[int, tuple[int, ...]] | None:
    """(n, cells) of a puzzle, 0 for a blank; None if it is none: no digit above n, or twice in a unit, is one."""
    if not puzzle.isascii() or puzzle.strip("0123456789., \t\r\n|"):
        return None
    # A point is a blank of its own, also between digits.
    numbers = (
        [puzzle] if puzzle.isdigit() else puzzle.replace(".", " . ").translate(_BLANKS_OF_PUZZLES).split()
    )
    cells = list(map(int, chain.from_iterable(numbers)))
    if len(cells) not in (1, 16, 81):
        cells = [int(number) if len(number) < 3 else -1 for number in numbers]
    size = isqrt(len(cells))
    if size * size != len(cells) or size not in SIZES or not 0 <= min(cells) <= max(cells) <= size:
        return None
    for unit in _units(size):
        digits = unit(cells)
        blanks = digits.count(0)
        if len(set(digits)) != size - blanks + (blanks > 0):
            return None
    return size, tuple(cells)


def grade(puzzle: Sequence[int], cells: Sequence[int], size: int) -> tuple[int, float]:
    """(OK | WRONG | RULE_BROKEN, score) of a grid of n x n digits. RULE_BROKEN: a given digit was changed.

    Otherwise the score is the fraction of the puzzle's blank cells that hold a digit 1..n which no other cell of their
    row, column and box holds; the score is 1 exactly if the grid is solved.
    """
    if any(given and given != cell for given, cell in zip(puzzle, cells, strict=True)):
        return RULE_BROKEN, 0.0
    units = [unit(cells) for unit in _units(size)]
    digits = set(range(1, size + 1))
    if all(digits.issubset(unit) for unit in units):
        return OK, 1.0
    blanks = right = 0
    for given, cell, places in zip(puzzle, cells, _units_of_cells(size), strict=True):
        if not given:
            blanks += 1
            right += 1 <= cell <= size and all(units[place].count(cell) == 1 for place in places)
    return WRONG, right / blanks


def _known(puzzle: object, row: int | None) -> tuple[int, tuple[int, ...]]:
    """(n, cells) of a puzzle; raises for an invalid one."""
    if not isinstance(puzzle, str):
        raise invalid_reference("puzzle", puzzle, "is no string such as '0310200404001043'", row)
    known = read_puzzle(puzzle)
    if known is None:
        raise invalid_reference("puzzle", puzzle, _A_PUZZLE, row)
    return known


def _judge(
    text: str, lenient: bool, row: int | None, puzzle: object, found: Found | None = None
) -> batch.Judged:
    """The verdict on one completion; raises for an invalid puzzle. found: where its answer stands, if this is known."""
    size, given = _known(puzzle, row)
    found = found or find_answer(text, lenient, marks_only=True)
    span = found.start, found.end
    if found.reason != OK:
        return found.reason, TEXT, 0.0, *span
    # In strict mode, the grid itself stands in the `<answer>` block.
    if found.mark == "box" and not lenient:
        return MALFORMED, GRAMMAR, 0.0, *span
    cells = cells_in(text[slice(*span)], size, lenient)
    if cells is None:
        return MALFORMED, GRAMMAR, 0.0, *span
    reason, score = grade(given, cells, size)
    return reason, GRAMMAR, score, *span


def _judge_unmarked(text: str, judged: batch.Judged, puzzle: str) -> batch.Judged:
    """Mode "flexible": of a completion that marks no answer, the last grid is judged."""
    places = regions(text)
    if judged[0] != NO_ANSWER or places.unended >= 0:
        return judged
    size, given = read_puzzle(puzzle)  # type: ignore[misc]
    span = last_grid(text, places.begin, places.cut, size)
    cells = cells_in(text[slice(*span)], size) if span[0] >= 0 else None
    if cells is None:
        return judged
    reason, score = grade(given, cells, size)
    return reason, GRAMMAR, score, *span


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


def _pack(puzzles: list[Any]) -> tuple | None:
    """All puzzles as the kernel reads them; None if one is no text."""
    return batch.pack(puzzles) if set(map(type, puzzles)) <= {str} else None


TASK = batch.text_task(
    "sudoku",
    ("puzzle",),
    _judge,
    explain=explain,
    flexible=_judge_unmarked,
    marks_only=True,
    kernel=batch.Kernel(
        "sudoku",
        references=batch.TEXTS,
        pack=_pack,
        tiers={**dict.fromkeys((OK, WRONG, MALFORMED, RULE_BROKEN), GRAMMAR), NO_ANSWER: TEXT},
        memory=256,
        saves=25e-6,
        compiling=4.0,
    ),
)
