"""Countdown problems on disk: our committed test problems, and files that a person brings."""

import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from envs.countdown_draw import Numbers, fixed_set
from envs.countdown_solve import solve
from envs.errors import EnvError

MAX_NUMBERS = 6
MAX_VALUE = 9_999
_EXAMPLE = '{"numbers": [30, 100, 93], "target": 23}'


@cache
def test_problems() -> tuple[tuple[Numbers, int], ...]:
    """The 256 committed (numbers, target) of level 1, in order; raises EnvError if they are not installed."""
    try:
        text = resources.files("spg_data").joinpath("countdown/test.jsonl").read_text(encoding="ascii")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise EnvError(
            f"countdown: the test problems of spg-trainer are not installed ({error}). A bare checkout must "
            "be installed first: pip install -e ."
        ) from error
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple((tuple(row["numbers"]), row["target"]) for row in rows)


def test_file() -> str:
    """The text of the committed test file, made anew; a pure function without arguments."""
    return jsonl(fixed_set("test", 1))


def jsonl(problems: Iterable[tuple[Numbers, int]]) -> str:
    """(numbers, target) pairs as lines of JSON."""
    return "".join(
        json.dumps({"numbers": list(numbers), "target": target}) + "\n" for numbers, target in problems
    )


@cache
def read_problems(path: str) -> tuple[tuple[Numbers, int], ...]:
    """The (numbers, target) of a .jsonl file, one {"numbers": [30, 100, 93], "target": 23} a line.

    Empty lines are skipped, other keys ignored. Raises EnvError naming the line if one is no JSON object, has no 2
    to 6 whole numbers from 1 to 9,999, no such target, or no solution.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvError(
            f"countdown: source={path} cannot be read ({error}). Give the path of a .jsonl file, or "
            "--env-args source=generated."
        ) from error
    problems = [_read_line(f"{path}, line {i}", line) for i, line in enumerate(lines, 1) if line.strip()]
    if not problems:
        raise EnvError(f"countdown: source={path} holds no problem; each line must be like {_EXAMPLE}.")
    return tuple(problems)


def _read_line(where: str, line: str) -> tuple[Numbers, int]:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EnvError(f"countdown: {where} is not JSON ({error}); it must be like {_EXAMPLE}.") from error
    if not isinstance(row, dict) or not {"numbers", "target"} <= set(row):
        raise EnvError(
            f"countdown: {where} is {line.strip()!r:.80}; it must be an object such as {_EXAMPLE}."
        )
    numbers, target = row["numbers"], row["target"]
    usable = isinstance(numbers, list) and 2 <= len(numbers) <= MAX_NUMBERS and all(map(_is_value, numbers))
    if not usable:
        raise EnvError(
            f"countdown: {where} has the numbers {numbers!r:.80}; it must be a list of 2 to {MAX_NUMBERS} "
            f"whole numbers from 1 to {MAX_VALUE}."
        )
    if not _is_value(target):
        raise EnvError(
            f"countdown: {where} has the target {target!r:.80}; it must be a whole number from 1 to {MAX_VALUE}."
        )
    if solve(numbers, target) is None:
        raise EnvError(f"countdown: {where} has no solution: {numbers} cannot make {target}.")
    return tuple(numbers), target


def _is_value(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_VALUE
