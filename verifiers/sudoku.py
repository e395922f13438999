"""Sudoku of any square size: does this grid solve that puzzle, whatever solution was stored for it?

Reference: `puzzle`, a string of n * n cells in reading order, `0` or `.` for a blank. n = 1, 4 or 9: one
digit per cell; n = 16, 25, 36 or 49: numbers with white space, commas or pipes between. See
docs/verifiers/sudoku.md.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from verifiers import _batch, _compile, _extract, _grid, _notation
from verifiers._extract import HEDGE, MALFORMED, NO_ANSWER, locate
from verifiers._grid import (
    GIVEN_CHANGED,
    MAX_CELLS,
    MAX_SIZE,
    SOLVED,
    judge,
    read_lenient,
    read_puzzle,
    read_strict,
)
from verifiers.errors import InvalidReferenceError, shown
from verifiers.registry import Task
from verifiers.verdicts import REASONS, TIERS, Reason, Tier, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from verifiers._extract import Bytes
    from verifiers._grid import Cells
    from verifiers.verdicts import Verdicts

_OK, _WRONG, _NO_ANSWER = Reason.OK.code, Reason.WRONG.code, Reason.NO_ANSWER.code
_MALFORMED, _RULE_BROKEN, _HEDGE = Reason.MALFORMED.code, Reason.RULE_BROKEN.code, Reason.HEDGE.code
_TEXT, _GRAMMAR = Tier.TEXT.code, Tier.GRAMMAR.code
_PLAIN_CHARACTERS = 1 << 20
_SIGNATURE = (
    "void(Array(uint8, 1, 'C', readonly=True), int64[::1], Array(uint8, 1, 'C', readonly=True), int64[::1], "
    "boolean, int8[::1], int8[::1], int8[::1], float64[::1], int64[:, ::1], int64[::1])"
)
_WRONG_PUZZLE = {
    _grid.NOT_A_SIZE: "does not have n * n cells; a puzzle has 1, 16 or 81 digits, or 256, 625, 1296 or 2401 "
    "numbers with spaces between, 0 or . for a blank",
    _grid.BAD_CHARACTER: "holds a character that is no cell; use digits, 0 or . for a blank, and spaces, "
    "commas or pipes between cells",
    _grid.BAD_DIGIT: "holds a cell greater than n; an n x n puzzle has cells 1 to n, 0 or . for a blank",
    _grid.CLASH: "holds a digit twice in a row, column or box, so nothing can solve it; check its givens",
}


def judge_answer(
    data: Bytes,
    start: int,
    end: int,
    puzzles: Bytes,
    first: int,
    last: int,
    lenient: bool,
    cells: Cells,
    puzzle: Cells,
    masks: Cells,
) -> tuple[int, int, int, float, int, int]:
    """(n or what is wrong with the puzzle, reason, tier, score, span start, span end) for data[start:end].

    Compiled by numba as it stands. `cells` and `puzzle` hold MAX_CELLS integers, `masks` 6 * MAX_SIZE.
    """
    size = read_puzzle(puzzles, first, last, puzzle, masks)
    if size < 0:
        return size, _MALFORMED, _TEXT, 0.0, -1, -1
    found, low, high, boxed = locate(data, start, end, lenient)
    if found == NO_ANSWER:
        return size, _NO_ANSWER, _TEXT, 0.0, low, high
    if found == MALFORMED:
        return size, _MALFORMED, _TEXT, 0.0, low, high
    if found == HEDGE:
        return size, _HEDGE, _TEXT, 0.0, low, high
    if lenient:
        readable = read_lenient(data, low, high, size, cells)
    else:
        readable = not boxed and read_strict(data, low, high, size, cells)
    if not readable:
        return size, _MALFORMED, _GRAMMAR, 0.0, low, high
    outcome, score = judge(puzzle, cells, size, masks)
    if outcome == SOLVED:
        return size, _OK, _GRAMMAR, 1.0, low, high
    if outcome == GIVEN_CHANGED:
        return size, _RULE_BROKEN, _GRAMMAR, 0.0, low, high
    return size, _WRONG, _GRAMMAR, score, low, high


def _scratch() -> tuple[list[int], list[int], list[int]]:
    return [0] * MAX_CELLS, [0] * MAX_CELLS, [0] * (6 * MAX_SIZE)


def _judge_plain(text: str, puzzle: object, lenient: bool, index: int | None, scratch: tuple) -> tuple:
    """(reason, tier, score, span start, span end) without numba; raises for an invalid puzzle."""
    if not isinstance(puzzle, str):
        raise _not_text(puzzle, index)
    data, raw = text.encode("utf-8", "surrogatepass"), puzzle.encode("utf-8", "surrogatepass")
    size, *verdict = judge_answer(data, 0, len(data), raw, 0, len(raw), lenient, *scratch)
    if size < 0:
        raise _invalid(puzzle, _WRONG_PUZZLE[size], index)
    return tuple(verdict)


def _invalid(puzzle: object, problem: str, index: int | None) -> InvalidReferenceError:
    where = "puzzle" if index is None else f"puzzle[{index}]"
    return InvalidReferenceError(
        f"{where}={shown(puzzle)} {problem}.", argument="puzzle", index=index, value=puzzle
    )


def _not_text(puzzle: object, index: int | None) -> InvalidReferenceError:
    problem = f"is a {type(puzzle).__name__}; a puzzle is a string such as '0310200404001043'"
    return _invalid(puzzle, problem, index)


def read_grid(extracted: str | None, size: int) -> list[int] | None:
    """The size * size cells of an extracted answer in order, for drawing a board; None if it is no grid.

    Cells may hold digits outside 1..size, as the answer did.
    """
    data = (extracted or "").encode("utf-8", "surrogatepass")
    cells = [0] * (size * size)
    return cells if read_lenient(data, 0, len(data), size, cells) else None


def _verify(completion: object, *, mode: str, puzzle: object) -> Verdict:
    text = _batch.as_text(completion)
    reason, tier, score, start, end = _judge_plain(text or "", puzzle, mode == "lenient", None, _scratch())
    if text is None:
        return Verdict(False, 0.0, None, Reason.MALFORMED, Tier.TEXT)
    extracted = None
    if start >= 0:
        extracted = text.encode("utf-8", "surrogatepass")[start:end].decode("utf-8", "surrogatepass")
    return Verdict(reason == _OK, score, extracted, REASONS[reason], TIERS[tier])


def _verify_batch(completions: list[object], *, mode: str, puzzle: list[object]) -> Verdicts:
    import numpy as np

    from verifiers.verdicts import Verdicts

    texts, strangers = _batch.as_texts(completions)
    n = len(texts)
    reason, tier = np.empty(n, np.int8), np.empty(n, np.int8)
    score, spans = np.empty(n, np.float64), np.empty((n, 2), np.int64)
    kernel = None
    if _compile.is_worthwhile(texts, _PLAIN_CHARACTERS):
        kernel = _kernel()
    if kernel is None:
        scratch = _scratch()
        for row in range(n):
            verdict = _judge_plain(texts[row], puzzle[row], mode == "lenient", row, scratch)
            reason[row], tier[row], score[row], spans[row, 0], spans[row, 1] = verdict
    else:
        _run(kernel, texts, puzzle, mode == "lenient", (reason, tier, score, spans))
    reason[strangers], tier[strangers] = _MALFORMED, _TEXT
    return Verdicts(reason == _OK, score, reason, tier, spans, texts)


def _run(kernel: Callable, texts: list[str], puzzles: list[object], lenient: bool, out: tuple) -> None:
    """Fill the columns `out` through the compiled kernel; raises for the first invalid puzzle."""
    import numpy as np

    if not all(issubclass(kind, str) for kind in set(map(type, puzzles))):
        row = next(row for row, puzzle in enumerate(puzzles) if not issubclass(type(puzzle), str))
        raise _not_text(puzzles[row], row)
    sizes = np.empty(len(texts), np.int8)

    raw, firsts = _batch.pack(puzzles)  # type: ignore[arg-type]

    def rest(rows: slice) -> tuple:
        columns = (column[rows] for column in (sizes, *out))
        room = np.zeros(2 * MAX_CELLS + 6 * MAX_SIZE, np.int64)
        return raw, firsts[rows.start : rows.stop + 1], lenient, *columns, room

    _batch.for_each_slice(texts, rest, kernel)
    invalid = np.flatnonzero(sizes < 0)
    if len(invalid):
        row = int(invalid[0])
        raise _invalid(puzzles[row], _WRONG_PUZZLE[int(sizes[row])], row)


def _make_kernel(mark: int) -> Callable[..., None]:
    """The loop over rows, to be compiled; it closes over `mark` for the sake of numba's cache."""

    def judge_rows(data, starts, puzzles, firsts, lenient, sizes, reason, tier, score, spans, room):  # type: ignore[no-untyped-def]
        if mark < 0:
            return
        cells, puzzle = room[:MAX_CELLS], room[MAX_CELLS : 2 * MAX_CELLS]
        masks = room[2 * MAX_CELLS :]
        for row in range(len(reason)):
            start, end, first, last = starts[row], starts[row + 1], firsts[row], firsts[row + 1]
            sizes[row], reason[row], tier[row], score[row], low, high = judge_answer(
                data, start, end, puzzles, first, last, lenient, cells, puzzle, masks
            )
            shift = start if low >= 0 else 0
            spans[row, 0], spans[row, 1] = low - shift, high - shift

    return judge_rows


@cache
def _kernel() -> Callable[..., None] | None:
    """The compiled row loop, or None where numba cannot be imported."""
    if not _compile.numba_is_there():
        return None
    import sys

    mark = _compile.stamp(_extract, _notation, _grid, sys.modules[__name__])
    return _compile.compile_rows(
        _make_kernel, _SIGNATURE, (*_notation.COMPILED, *_grid.COMPILED, judge_answer), mark
    )


TASK = Task("sudoku", ("puzzle",), _verify, _verify_batch)
