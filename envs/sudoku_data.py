"""Sudoku puzzles on disk: our committed test puzzles, and files that a person brings."""

import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from envs.errors import EnvError
from envs.sudoku_grids import SPLIT_SIZES, fixed_set, solutions
from envs.sudoku_nine import draw
from envs.sudoku_solver import solve
from envs.sudoku_text import digits_of

TEST_BLANKS_9 = (8, 16)
"""The numbers of blanks of the committed 9x9 test puzzles: those of level 1."""
_FILES = {4: "test.jsonl", 9: "test-9x9.jsonl"}


@cache
def test_puzzles(size: int = 4) -> tuple[tuple[str, str], ...]:
    """The 256 committed (puzzle, solution) pairs, in order; raises EnvError if they are not installed."""
    try:
        text = resources.files("spg_data").joinpath(f"sudoku/{_FILES[size]}").read_text(encoding="ascii")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise EnvError(
            f"sudoku: the test puzzles of spg-trainer are not installed ({error}). A bare checkout must be "
            "installed first: pip install -e ."
        ) from error
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple((row["puzzle"], row["solution"]) for row in rows)


def test_file(size: int = 4) -> str:
    """The text of the committed test file, made anew; a pure function of the size."""
    if size == 4:
        return jsonl(fixed_set("test"))
    drawn = (
        draw("test", i, TEST_BLANKS_9, frozenset(), compiled=i >= 20) for i in range(SPLIT_SIZES["test"])
    )
    return jsonl(drawn)


def jsonl(pairs: Iterable[tuple[str, str]]) -> str:
    """(puzzle, solution) pairs as lines of JSON."""
    return "".join(json.dumps({"puzzle": puzzle, "solution": grid}) + "\n" for puzzle, grid in pairs)


@cache
def read_puzzles(path: str, size: int = 4) -> tuple[tuple[str, str], ...]:
    """The (puzzle, solution) pairs of a .jsonl file, one {"puzzle": "0310...", "solution": "4312..."} a line.

    size: 4 or 9, for puzzles of 16 or 81 digits. Without "solution" the first grid that solves the puzzle is
    taken. Empty lines are skipped. Raises EnvError naming the line if one is no JSON object, has no usable
    puzzle, or a solution that does not solve it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvError(
            f"sudoku: source={path} cannot be read ({error}). Give the path of a .jsonl file, or --env-args "
            "source=generated."
        ) from error
    pairs = [_read_line(f"{path}, line {i}", line, size) for i, line in enumerate(lines, 1) if line.strip()]
    if not pairs:
        raise EnvError(
            f"sudoku: source={path} holds no puzzle; each line must be like {jsonl(test_puzzles(size)[:1])}"
        )
    return tuple(pairs)


def _read_line(where: str, line: str, size: int) -> tuple[str, str]:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EnvError(f"sudoku: {where} is not JSON ({error}).") from error
    if not isinstance(row, dict) or "puzzle" not in row:
        raise EnvError(
            f'sudoku: {where} is {line.strip()!r:.80}; it must be an object with the key "puzzle".'
        )
    puzzle, solution = row["puzzle"], row.get("solution")
    if not _is_grid(puzzle, size, f"0{digits_of(size)}"):
        other = 13 - size
        hint = f" For {other}x{other}: size={other}." if _is_grid(puzzle, other, "0123456789") else ""
        raise EnvError(
            f"sudoku: {where} has the puzzle {puzzle!r:.100}; it must be {size * size} digits from 0 to {size}, "
            f"0 = blank.{hint}"
        )
    if solution is None:
        return puzzle, _first_solution(where, puzzle)
    fits = _is_grid(solution, size, digits_of(size)) and solve(solution)[0] == 1
    if not fits or any(given not in ("0", cell) for given, cell in zip(puzzle, solution, strict=True)):
        if size == 4 and not solutions(puzzle):
            raise EnvError(f"sudoku: {where} has the puzzle {puzzle}, which no grid solves.")
        raise EnvError(f"sudoku: {where} has the solution {solution!r:.100}, which does not solve {puzzle}.")
    return puzzle, solution


def _first_solution(where: str, puzzle: str) -> str:
    if len(puzzle) == 16:
        count, solution = 0, next(iter(solutions(puzzle)), "")
    else:
        count, solution = solve(puzzle)
    if count < 0:
        raise EnvError(
            f'sudoku: {where} has a puzzle too hard for our search, {puzzle}; give its "solution".'
        )
    if not solution:
        raise EnvError(f"sudoku: {where} has the puzzle {puzzle}, which no grid solves.")
    return solution


def _is_grid(value: Any, size: int, digits: str) -> bool:
    return isinstance(value, str) and len(value) == size * size and not value.strip(digits)
