"""Sudoku puzzles on disk: our committed test puzzles, and files that a person brings."""

import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from envs.errors import EnvError
from envs.sudoku_grids import fixed_set, solutions


@cache
def test_puzzles() -> tuple[tuple[str, str], ...]:
    """The 256 committed (puzzle, solution) pairs, in order; raises EnvError if they are not installed."""
    try:
        text = resources.files("spg_data").joinpath("sudoku/test.jsonl").read_text(encoding="ascii")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise EnvError(
            f"sudoku: the test puzzles of spg-trainer are not installed ({error}). A bare checkout must be "
            "installed first: pip install -e ."
        ) from error
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple((row["puzzle"], row["solution"]) for row in rows)


def test_file() -> str:
    """The text of the committed test file, made anew; a pure function without arguments."""
    return jsonl(fixed_set("test"))


def jsonl(pairs: Iterable[tuple[str, str]]) -> str:
    """(puzzle, solution) pairs as lines of JSON."""
    return "".join(json.dumps({"puzzle": puzzle, "solution": grid}) + "\n" for puzzle, grid in pairs)


@cache
def read_puzzles(path: str) -> tuple[tuple[str, str], ...]:
    """The (puzzle, solution) pairs of a .jsonl file, one {"puzzle": "0310...", "solution": "4312..."} a line.

    Without "solution" the first grid that solves the puzzle is taken. Empty lines are skipped. Raises
    EnvError naming the line if one is no JSON object, has no usable puzzle, or a solution that does not solve
    it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvError(
            f"sudoku: source={path} cannot be read ({error}). Give the path of a .jsonl file, or --env-args "
            "source=generated."
        ) from error
    pairs = [_read_line(f"{path}, line {i}", line) for i, line in enumerate(lines, 1) if line.strip()]
    if not pairs:
        raise EnvError(
            f"sudoku: source={path} holds no puzzle; each line must be like {jsonl(fixed_set('test')[:1])}"
        )
    return tuple(pairs)


def _read_line(where: str, line: str) -> tuple[str, str]:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise EnvError(f"sudoku: {where} is not JSON ({error}).") from error
    if not isinstance(row, dict) or "puzzle" not in row:
        raise EnvError(
            f'sudoku: {where} is {line.strip()!r:.80}; it must be an object with the key "puzzle".'
        )
    puzzle, solution = row["puzzle"], row.get("solution")
    if not _is_grid(puzzle, "01234"):
        raise EnvError(
            f"sudoku: {where} has the puzzle {puzzle!r:.80}; it must be 16 digits from 0 to 4, 0 = blank."
        )
    possible = solutions(puzzle)
    if not possible:
        raise EnvError(f"sudoku: {where} has the puzzle {puzzle}, which no grid solves.")
    if solution is not None and solution not in possible:
        raise EnvError(f"sudoku: {where} has the solution {solution!r:.80}, which does not solve {puzzle}.")
    return puzzle, solution or possible[0]


def _is_grid(value: Any, digits: str) -> bool:
    return isinstance(value, str) and len(value) == 16 and set(value) <= set(digits)
