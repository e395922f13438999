"""Countdown's problems: drawn by level from private streams, or read from our committed test file or a user's file.

Two problems are the same if their sorted numbers and their targets are the same. At any level, a hash of these decides
the split, so that no two splits share a problem.
"""

from collections.abc import Collection, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.countdown.solver import solve
from envs.errors import EnvError
from envs.files.datasets import Row, read_files, read_packaged
from envs.splits import COUNTDOWN as SPLIT_RULE
from envs.splits import SPLIT_SIZES, STREAMS

Puzzle = tuple[tuple[int, ...], int]
"""Numbers and target."""


class Level(NamedTuple):
    """A level: each of its problems has `count` numbers from `low` to `high`."""

    count: int
    low: int
    high: int
    operators: str
    """What may combine the numbers."""


LEVELS = {
    1: Level(count=3, low=10, high=40, operators="+-"),
    2: Level(count=3, low=1, high=99, operators="+-*/"),
    3: Level(count=4, low=1, high=99, operators="+-*/"),
    4: Level(count=5, low=1, high=99, operators="+-*/"),
    5: Level(count=6, low=1, high=99, operators="+-*/"),
}
MAX_TARGET = 100
"""The largest target from level 2 on, as in the problems of the papers d1 and SPG."""
MAX_NUMBERS = 6
"""How many numbers a problem of a user's file may have, at most."""
MAX_VALUE = 9_999
"""The largest number and target of a problem of a user's file."""

_MAX_PRODUCT = 1_000  # larger values hardly ever lead back to a target of at most 100
# The most draws for one problem. Each split has at least a tenth of all problems, so many draws belong to the split. If
# all of these are taken, no problem is left.
_MAX_DRAWS = 200_000
_SEED = 24_242_424  # keeps these streams apart from those of any other task


def key(numbers: Sequence[int], target: int) -> Puzzle:
    """The sorted numbers and the target, which are equal for problems that count as the same."""
    return tuple(sorted(numbers)), target


def split_of(problem_key: Puzzle) -> str:
    """The split that a problem belongs to, given its `key`: eight parts in ten train, one validation, one test."""
    numbers, target = problem_key
    return SPLIT_RULE(f"{','.join(map(str, numbers))}={target}")


def train_problem(level: int, index: int, excluded: Collection[Puzzle] = ()) -> Puzzle:
    """Problem number `index` of the training stream of a level, as (numbers, target).

    excluded: the keys of problems that it must not be.
    """
    rng = np.random.default_rng([_SEED, STREAMS["train"], level, index])
    return _draw(rng, "train", level, excluded)


@lru_cache(maxsize=32)
def fixed_set(level: int, split: str, excluded: frozenset[Puzzle] = frozenset()) -> tuple[Puzzle, ...]:
    """The 256 different problems of `validation` or `test` at a level, in their fixed order.

    excluded: the keys of problems that are not among them.
    """
    rng = np.random.default_rng([_SEED, STREAMS[split], level])
    puzzles: list[Puzzle] = []
    taken = set(excluded)
    for _ in range(SPLIT_SIZES[split]):
        puzzles.append(_draw(rng, split, level, taken))
        taken.add(key(*puzzles[-1]))
    return tuple(puzzles)


def _draw(rng: np.random.Generator, split: str, level: int, excluded: Collection[Puzzle]) -> Puzzle:
    """A random problem of a split whose key is not in `excluded`; raises EnvError if none is found."""
    # With + and - only, it is enough to draw a sign for each number.
    draw = _draw_signs if LEVELS[level].operators == "+-" else _draw_tree
    for _ in range(_MAX_DRAWS):
        numbers, target = draw(rng, LEVELS[level])
        problem_key = key(numbers, target)
        if split_of(problem_key) == split and problem_key not in excluded:
            return numbers, target
    none = f"found no further problem of {split} outside the {len(excluded)} that are taken"
    hint = "Choose another level, or give a shorter file."
    raise EnvError(f"countdown: {_MAX_DRAWS} draws at level {level} {none}. {hint}")


def _draw_signs(rng: np.random.Generator, level: Level) -> Puzzle:
    """Random numbers, and as the target the absolute value of their sum with random signs.

    The target is not 0, and at least one number is added.
    """
    while True:
        numbers = tuple(rng.integers(level.low, level.high + 1, level.count).tolist())
        signs = int(rng.integers((1 << level.count) - 1))  # bit i set: number i is subtracted; never all are
        target = abs(sum(-n if signs >> i & 1 else n for i, n in enumerate(numbers)))
        if target:
            return numbers, target


def _draw_tree(rng: np.random.Generator, level: Level) -> Puzzle:
    """Random numbers, and as the target what they make when random pairs are combined by random operators.

    Each result is a whole number above 0, and the target is at most MAX_TARGET.
    """
    while True:
        numbers = tuple(rng.integers(level.low, level.high + 1, level.count).tolist())
        values = list(numbers)  # what is left to be combined
        while len(values) > 1:
            first, second, operator = rng.random(3)  # each from 0 to 1, scaled to an index below
            a = values.pop(int(first * len(values)))
            b = values.pop(int(second * len(values)))
            high, low = max(a, b), min(a, b)
            possible = [high + low]
            if high > low:
                possible.append(high - low)
            if high * low <= _MAX_PRODUCT:
                possible.append(high * low)
            if high % low == 0:
                possible.append(high // low)
            values.append(possible[int(operator * len(possible))])
        if values[0] <= MAX_TARGET:
            return numbers, values[0]


@cache
def test_problems() -> tuple[Puzzle, ...]:
    """The 256 (numbers, target) of level 1 in our committed test file, in order: they are fixed_set(1, "test")."""
    rows = read_packaged("countdown/test.jsonl")
    return tuple((tuple(row["numbers"]), row["target"]) for row in rows)


@cache
def read_problems(path: str) -> tuple[Puzzle, ...]:
    """The (numbers, target) of a file, one {"numbers": [30, 100, 93], "target": 23} a line.

    The rows of d1's test file, {"input": "30,100,93", "output": "23"}, are read as well. Raises EnvError, naming the
    line, for a line that is no JSON object, that lacks 2 to 6 whole numbers from 1 to 9,999 or a target from 1 to
    9,999, or that has no solution.
    """
    rows = read_files("countdown", [Path(path)], ("numbers", "target"), renamed)
    return tuple(map(read_row, rows))


def renamed(values: dict[str, Any]) -> dict[str, Any]:
    """A row of d1's test file, {"input": "30,100,93", "output": "23"}, with our columns; any other row as it is."""
    has_our_columns = {"numbers", "target"} <= values.keys()
    texts = values.get("input"), values.get("output")
    is_of_d1 = all(isinstance(text, str) for text in texts)
    if has_our_columns or not is_of_d1:
        return values
    # A part that is no number stays a text, which `read_row` refuses.
    *numbers, target = (
        int(part) if part.strip().isdecimal() and len(part) < 10 else part
        for part in ",".join(texts).split(",")
    )
    return {"numbers": numbers, "target": target}


def read_row(row: Row) -> Puzzle:
    """(numbers, target) of one row; raises EnvError, naming its line, for values that make no solvable problem."""
    numbers, target = row.values["numbers"], row.values["target"]
    is_short_list = isinstance(numbers, list) and 2 <= len(numbers) <= MAX_NUMBERS
    if not is_short_list or not all(map(_is_value, numbers)):
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
