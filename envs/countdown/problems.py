"""Countdown's problems by level, drawn from private streams, from our committed test file or a file of the user.

A problem is known by its sorted numbers and its target; a hash of these says which split owns it, whatever the level,
so that no two splits share a problem.
"""

from collections.abc import Collection, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.countdown.solver import solve
from envs.datasets import Row, read_files, read_packaged
from envs.errors import EnvError
from envs.splits import COUNTDOWN as SPLIT_RULE
from envs.splits import SPLIT_SIZES, STREAMS

Puzzle = tuple[tuple[int, ...], int]
"""Numbers and target."""


class Level(NamedTuple):
    """What problems of a level are drawn from."""

    count: int
    low: int
    high: int
    operators: str


LEVELS = {
    1: Level(3, 10, 40, "+-"),
    2: Level(3, 1, 99, "+-*/"),
    3: Level(4, 1, 99, "+-*/"),
    4: Level(5, 1, 99, "+-*/"),
    5: Level(6, 1, 99, "+-*/"),
}
MAX_TARGET = 100
"""Largest target from level 2 on, as in the papers' problems."""
MAX_NUMBERS, MAX_VALUE = 6, 9_999
"""How many numbers a problem of a file may have, and the largest number and target."""

_MAX_PRODUCT = 1_000  # larger values hardly ever lead back to a target of at most 100
_MAX_DRAWS = 200_000
"""After so many draws without a problem of the split, there is none; a split has a tenth of all problems or more."""
_SEED = 24_242_424  # keeps these streams apart from those of any other task


def key(numbers: Sequence[int], target: int) -> Puzzle:
    """What makes two problems the same: the numbers in any order, and the target."""
    return tuple(sorted(numbers)), target


def split_of(problem: Puzzle) -> str:
    """The split that owns a problem, given as its key: eight parts in ten train, one validation, one test."""
    numbers, target = problem
    return SPLIT_RULE(f"{','.join(map(str, numbers))}={target}")


def train_problem(level: int, index: int, excluded: Collection[Puzzle] = ()) -> Puzzle:
    """(numbers, target) number `index` of the training stream of a level, none of `excluded`."""
    rng = np.random.default_rng([_SEED, STREAMS["train"], level, index])
    return _draw(rng, "train", level, excluded)


@lru_cache(maxsize=32)
def fixed_set(level: int, split: str, excluded: frozenset[Puzzle] = frozenset()) -> tuple[Puzzle, ...]:
    """The 256 different problems of `validation` or `test` at a level, in their order, none of `excluded`."""
    rng = np.random.default_rng([_SEED, STREAMS[split], level])
    puzzles: list[Puzzle] = []
    taken = set(excluded)
    for _ in range(SPLIT_SIZES[split]):
        puzzles.append(_draw(rng, split, level, taken))
        taken.add(key(*puzzles[-1]))
    return tuple(puzzles)


def _draw(rng: np.random.Generator, split: str, level: int, excluded: Collection[Puzzle]) -> Puzzle:
    draw = _draw_signs if LEVELS[level].operators == "+-" else _draw_tree
    for _ in range(_MAX_DRAWS):
        numbers, target = draw(rng, LEVELS[level])
        problem = key(numbers, target)
        if split_of(problem) == split and problem not in excluded:
            return numbers, target
    none = f"found no further problem of {split} outside the {len(excluded)} that are taken"
    hint = "Choose another level, or give a shorter file."
    raise EnvError(f"countdown: {_MAX_DRAWS} draws at level {level} {none}. {hint}")


def _draw_signs(rng: np.random.Generator, level: Level) -> Puzzle:
    """Numbers and a sign for each, not all minus; the target is the absolute sum, never 0."""
    while True:
        numbers = tuple(rng.integers(level.low, level.high + 1, level.count).tolist())
        signs = int(rng.integers((1 << level.count) - 1))  # bit i set: number i is subtracted
        target = abs(sum(-n if signs >> i & 1 else n for i, n in enumerate(numbers)))
        if target:
            return numbers, target


def _draw_tree(rng: np.random.Generator, level: Level) -> Puzzle:
    """Numbers combined pair by pair with random operators to whole numbers; the target is the result, 1 to 100."""
    while True:
        numbers = tuple(rng.integers(level.low, level.high + 1, level.count).tolist())
        pool = list(numbers)
        while len(pool) > 1:
            first, second, operator = rng.random(3)
            a = pool.pop(int(first * len(pool)))
            b = pool.pop(int(second * len(pool)))
            high, low = max(a, b), min(a, b)
            possible = [high + low]
            if high > low:
                possible.append(high - low)
            if high * low <= _MAX_PRODUCT:
                possible.append(high * low)
            if high % low == 0:
                possible.append(high // low)
            pool.append(possible[int(operator * len(possible))])
        if pool[0] <= MAX_TARGET:
            return numbers, pool[0]


@cache
def test_problems() -> tuple[Puzzle, ...]:
    """The 256 committed (numbers, target) of level 1, in order: those of fixed_set(1, "test")."""
    rows = read_packaged("countdown/test.jsonl")
    return tuple((tuple(row["numbers"]), row["target"]) for row in rows)


@cache
def read_problems(path: str) -> tuple[Puzzle, ...]:
    """The (numbers, target) of a file, one {"numbers": [30, 100, 93], "target": 23} a line.

    The rows of d1's test file, {"input": "30,100,93", "output": "23"}, are read as well. Raises EnvError naming the
    line if one is no JSON object, has no 2 to 6 whole numbers from 1 to 9,999, no such target, or no solution.
    """
    rows = read_files("countdown", [Path(path)], ("numbers", "target"), renamed)
    return tuple(map(read_row, rows))


def renamed(values: dict[str, Any]) -> dict[str, Any]:
    """A row of d1's test file, {"input": "30,100,93", "output": "23"}, as one of ours; any other as it is."""
    texts = values.get("input"), values.get("output")
    if {"numbers", "target"} <= values.keys() or not all(isinstance(text, str) for text in texts):
        return values
    *numbers, target = (
        int(part) if part.strip().isdecimal() and len(part) < 10 else part
        for part in ",".join(texts).split(",")
    )
    return {"numbers": numbers, "target": target}


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
