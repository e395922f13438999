"""Which generated problem belongs to which split: by a hash of its numbers and signs, so that no two share one."""

import hashlib
import re
from collections.abc import Callable
from functools import cache
from itertools import count

import numpy as np

from envs import math500_level1, math500_level2, math500_level3
from envs.math500_item import Item

LEVELS: dict[int, tuple[Callable[[np.random.Generator], Item], ...]] = {
    1: math500_level1.TEMPLATES,
    2: math500_level2.TEMPLATES,
    3: math500_level3.TEMPLATES,
}
SPLIT_SIZES = {"train": 1_000_000, "validation": 256, "test": 256}
_STREAMS = {"train": 0, "validation": 1, "test": 2}
_DOMAIN = 5_000_500  # keeps these streams apart from those of any other task


def split_of(problem: str) -> str:
    """The split a generated problem belongs to: of five forms three are train, one validation, one test.

    A form is the text without its letters: the same problem with another unknown, or about other things, stays with it.
    """
    form = re.sub("[A-Za-z]", "", problem)
    # The 1 is the first salt under which every template of every level has an eighth or more in each split.
    fifth = int.from_bytes(hashlib.sha256(f"1 {form}".encode()).digest()[:8], "big") % 5
    return {0: "validation", 1: "test"}.get(fifth, "train")


def _draw(rng: np.random.Generator, level: int, split: str, turn: int | None) -> Item:
    """A problem of the split in which the slip shows. turn: the template's number; None = any."""
    templates = LEVELS[level]
    number = int(rng.integers(len(templates))) if turn is None else turn % len(templates)
    while True:
        item = templates[number](rng)
        if item.slip != item.answer and split_of(item.problem) == split:
            return item


def train_item(level: int, index: int) -> Item:
    """Problem number `index` of the training stream, drawn freely: a problem may come again."""
    return _draw(np.random.default_rng([_DOMAIN, level, _STREAMS["train"], index]), level, "train", None)


@cache
def fixed_set(level: int, split: str) -> tuple[Item, ...]:
    """The 256 different problems of `validation` or `test` in their fixed order, the templates in turn."""
    rng = np.random.default_rng([_DOMAIN, level, _STREAMS[split]])
    found: dict[str, Item] = {}
    for turn in count():  # a template whose problems are used up does not stop the others
        if len(found) == SPLIT_SIZES[split]:
            break
        item = _draw(rng, level, split, turn)
        found.setdefault(item.problem, item)
    return tuple(found.values())
