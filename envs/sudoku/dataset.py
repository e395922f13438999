"""Sudoku puzzles on disk: the committed test puzzles, and the user's own files."""

from functools import cache
from typing import Any

from envs.datasets import read_jsonl, read_packaged, to_jsonl
from envs.errors import EnvError
from envs.sudoku.generator import TEST_BLANKS_9X9, draw_9x9, fixed_set, solutions
from envs.sudoku.solver import solve

_FILES = {4: "sudoku/test.jsonl", 9: "sudoku/test-9x9.jsonl"}


@cache
def test_puzzles(size: int = 4) -> tuple[tuple[str, str], ...]:
    """The 256 committed (puzzle, solution) pairs, in order; raises EnvError if they are not installed."""
    return tuple((row["puzzle"], row["solution"]) for row in read_packaged("sudoku", _FILES[size]))


def test_file(size: int = 4) -> str:
    """The text of the committed test file, made anew; a pure function of the size."""
    if size == 4:
        pairs = fixed_set("test")
    else:
        pairs = [draw_9x9("test", i, TEST_BLANKS_9X9, frozenset(), compiled=True) for i in range(256)]
    return to_jsonl({"puzzle": puzzle, "solution": grid} for puzzle, grid in pairs)


@cache
def read_puzzles(path: str, size: int = 4) -> tuple[tuple[str, str], ...]:
    """The (puzzle, solution) pairs of a .jsonl file, one {"puzzle": "0310...", "solution": "4312..."} a line.

    Without "solution" the first grid that solves the puzzle is taken. Raises EnvError naming the line if one is no
    JSON object, has no usable puzzle, or a solution that does not solve it.
    """
    puzzle, solution = test_puzzles(size)[0]
    example = to_jsonl([{"puzzle": puzzle, "solution": solution}]).strip()
    rows = read_jsonl("sudoku", path, ["puzzle"], example=example)
    return tuple(_read_row(where, values, size) for where, values in rows)


def _read_row(where: str, values: dict[str, Any], size: int) -> tuple[str, str]:
    puzzle, solution = values["puzzle"], values.get("solution")
    if not _is_grid(puzzle, size, "0"):
        other = 13 - size
        hint = f" For {other}x{other}: size={other}." if _is_grid(puzzle, other, "0") else ""
        wanted = f"{size * size} digits from 0 to {size}, 0 = blank"
        raise EnvError(f"sudoku: {where} has the puzzle {puzzle!r:.100}; it must be {wanted}.{hint}")
    if solution is None or (size == 4 and not solutions(puzzle)):
        return puzzle, _first_solution(where, puzzle)
    solves = _is_grid(solution, size) and solve(solution)[0] == 1
    if not solves or any(given not in ("0", cell) for given, cell in zip(puzzle, solution, strict=True)):
        raise EnvError(f"sudoku: {where} has the solution {solution!r:.100}, which does not solve {puzzle}.")
    return puzzle, solution


def _first_solution(where: str, puzzle: str) -> str:
    if len(puzzle) == 16:
        count, solution = 0, next(iter(solutions(puzzle)), "")
    else:
        count, solution = solve(puzzle)
    if count < 0:
        raise EnvError(f'sudoku: {where} has a puzzle too hard for our search, {puzzle}; give its "solution"')
    if not solution:
        raise EnvError(f"sudoku: {where} has the puzzle {puzzle}, which no grid solves.")
    return solution


def _is_grid(value: Any, size: int, blank: str = "") -> bool:
    digits = "123456789"[:size] + blank
    return isinstance(value, str) and len(value) == size * size and not value.strip(digits)
