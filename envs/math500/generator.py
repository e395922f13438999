"""Generated problems by level, in splits of which no two share a problem with the same numbers and signs."""

import re
from functools import cache

import numpy as np

from envs.math500.templates import TEMPLATES, MathProblem
from envs.splits import MATH500 as SPLIT_RULE
from envs.splits import STREAMS, distinct

LEVELS = tuple(TEMPLATES)
_SEED = 5_000_500  # keeps these streams apart from those of any other task


def split_of(problem: str) -> str:
    """The split a generated problem belongs to, by its text without letters: of five three are train.

    So the same problem with another unknown, or about other things, is in the same split.
    """
    return SPLIT_RULE(re.sub("[A-Za-z]", "", problem))


def train_problem(level: int, index: int) -> MathProblem:
    """Problem number `index` of the training stream, drawn freely: a problem may come again."""
    rng = np.random.default_rng([_SEED, level, STREAMS["train"], index])
    return _draw(rng, level, "train", int(rng.integers(len(TEMPLATES[level]))))


@cache
def fixed_set(level: int, split: str) -> tuple[MathProblem, ...]:
    """The 256 different problems of `validation` or `test` in their fixed order, the templates in turn."""
    rng, count = np.random.default_rng([_SEED, level, STREAMS[split]]), len(TEMPLATES[level])
    return distinct(lambda turn: _draw(rng, level, split, turn % count), key=lambda problem: problem.problem)


def _draw(rng: np.random.Generator, level: int, split: str, template: int) -> MathProblem:
    """A problem of the split, by one template of the level, in which the slip leads to another answer."""
    while True:
        problem = TEMPLATES[level][template](rng)
        if problem.slip[1] != problem.right[1] and split_of(problem.problem) == split:
            return problem
