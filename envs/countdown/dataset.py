"""Countdown problems on disk: our committed test problems, and files of the user."""

from functools import cache

from envs.countdown.generator import Puzzle, fixed_set
from envs.countdown.solver import solve
from envs.datasets import Row, read_jsonl, read_packaged, to_jsonl
from envs.errors import EnvError

MAX_NUMBERS = 6
MAX_VALUE = 9_999
_EXAMPLE = '{"numbers": [30, 100, 93], "target": 23}'


@cache
def test_problems() -> tuple[Puzzle, ...]:
    """The 256 committed (numbers, target) of level 1, in order; raises EnvError if they are not installed."""
    rows = read_packaged("countdown", "countdown/test.jsonl")
    return tuple((tuple(row["numbers"]), row["target"]) for row in rows)


def test_file() -> str:
    """The text of the committed test file, made anew; a pure function without arguments."""
    return to_jsonl({"numbers": list(numbers), "target": target} for numbers, target in fixed_set(1, "test"))


@cache
def read_problems(path: str) -> tuple[Puzzle, ...]:
    """The (numbers, target) of a .jsonl file, one {"numbers": [30, 100, 93], "target": 23} a line.

    Raises EnvError naming the line if one is no JSON object, has no 2 to 6 whole numbers from 1 to 9,999, no such
    target, or no solution.
    """
    rows = read_jsonl("countdown", path, ("numbers", "target"), example=_EXAMPLE)
    return tuple(map(read_row, rows))


def read_row(row: Row) -> Puzzle:
    """(numbers, target) of one row; raises EnvError, naming its line, for values that make no solvable problem."""
    numbers, target = row.values["numbers"], row.values["target"]
    if not (isinstance(numbers, list) and 2 <= len(numbers) <= MAX_NUMBERS and all(map(_is_value, numbers))):
        wanted = f"a list of 2 to {MAX_NUMBERS} whole numbers from 1 to {MAX_VALUE}"
        raise EnvError(f"countdown: {row.where} has the numbers {numbers!r:.80}; it must be {wanted}.")
    if not _is_value(target):
        wanted = f"a whole number from 1 to {MAX_VALUE}"
        raise EnvError(f"countdown: {row.where} has the target {target!r:.80}; it must be {wanted}.")
    if solve(numbers, target) is None:
        raise EnvError(f"countdown: {row.where} has no solution: {numbers} cannot make {target}.")
    return tuple(numbers), target


def _is_value(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_VALUE
