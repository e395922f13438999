"""One split of a task without splits: a hash of the index assigns each problem to a split."""

import numpy as np

from envs.combining.wrapper import TaskWrapper
from envs.errors import EnvError, check_choice
from envs.problem import Problem, check_index, read_problem
from envs.splits import SPLITS
from envs.task import Task

MAX_DIVIDED = 10**7
"""The most problems that `Divided` divides: the first ones of its environment. Each takes 8 bytes."""
# The function `tenth` below gives each index a number from 0 to 9. In `Divided`, these numbers decide the split.
_TENTHS = {"train": list(range(8)), "validation": [8], "test": [9]}
ENOUGH_FOR_EACH_SPLIT = 18
"""The least number of problems with which no split is empty: problem 17 is the first that the hash gives to test."""


def tenth(indices: np.ndarray) -> np.ndarray:
    """(n,) int64 indices -> (n,) int64 in 0..9, by a fixed hash (SplitMix64, Steele et al. 2014)."""
    x = indices.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) % np.uint64(10)).astype(np.int64)


class Divided(TaskWrapper):
    """One split of `task`: a hash of the index gives each problem to a split (80% train, 10% validation, 10% test).

    Problem i here is problem `indices[i]` of `task`.
    """

    def __init__(self, task: Task, split: str) -> None:
        super().__init__(task)
        check_choice(task.spec_name, "split", split, SPLITS)
        self.split = split
        tenths = tenth(np.arange(min(len(task), MAX_DIVIDED)))
        self.indices = np.flatnonzero(np.isin(tenths, _TENTHS[split]))
        if not len(self.indices):
            raise EnvError(
                f"{self._how_it_is_divided}. Give it {ENOUGH_FOR_EACH_SPLIT} problems or more, of which every split "
                "gets some, or take `split` in its __init__ and divide them there."
            )

    @property
    def _how_it_is_divided(self) -> str:
        """The beginning of messages: "NAME takes no `split`: of its 100 problems 12 are test".

        `notice` continues it with ", by a hash of their index (80/10/10).".
        """
        name, count = self.inner.spec_name, len(self.indices)
        return f"{name} takes no `split`: of its {len(self.inner)} problems {count} are {self.split}"

    @property
    def notice(self) -> str:  # type: ignore[override]
        return f"{self.inner.notice} {self._how_it_is_divided}, by a hash of their index (80/10/10).".lstrip()

    def __len__(self) -> int:
        return len(self.indices)

    def problems_at(self, step: int) -> range:
        inner = self.inner.problems_at(step)
        first, end = np.searchsorted(self.indices, [inner.start, inner.stop])
        return range(int(first), int(end))

    def problem(self, index: int) -> Problem:
        return read_problem(self.inner, int(self.indices[check_index(self, index)]))
