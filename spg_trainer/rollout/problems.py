"""Which problems a step takes: any, or in part those whose last completions were not all worth the same.

The choice looks at earlier rollouts only, never at the completions it is made for, so that a group is sampled whole and
its advantages stay those of the problem. Nothing here is saved but what `remember` returns.
"""

from collections.abc import Iterable
from itertools import islice

import numpy as np

from spg_trainer.seeding import numpy_generator

PATIENCE = 2
"""A problem comes back until so many of its groups in a row have had equal rewards."""

Returning = dict[int, int]
"""Problem -> its last groups in a row with equal rewards, below PATIENCE; the one tried longest ago first."""


def choose_problems(seed: int, step: int, count: int, size: int, returning: Iterable[int] = ()) -> np.ndarray:
    """`count` distinct problem indices below `size` for a step, (count,) int64; the same for every process.

    returning: problems that come first, as many as make up half of the step; the others are drawn uniformly.
    """
    drawn = numpy_generator(seed, "problems", step).choice(size, size=count, replace=False)
    back = np.fromiter(islice(returning, count // 2), np.int64)
    return np.concatenate([back, drawn[~np.isin(drawn, back)]])[:count]


def remember(returning: Returning, tried: np.ndarray, mixed: np.ndarray) -> Returning:
    """Which problems come back after a step.

    tried: (P,) int64, its problems, of all processes. mixed: (P,) bool, whether the rewards of a group differ.
    """
    after = dict(returning)
    for problem, differs in zip(tried.tolist(), mixed.tolist(), strict=True):
        misses = after.pop(problem, PATIENCE)  # a new one has to prove itself
        misses = 0 if differs else misses + 1
        if misses < PATIENCE:
            after[problem] = misses
    return after
