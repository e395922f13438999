"""Difficulty pools: problems whose last two groups were both all right, or both all wrong, are drawn less often.

prime-rl has such pools, too. It sorts a problem by the mean reward of its last group. Here the last two groups count,
and only whether their completions are right.
"""

from collections.abc import Sequence

import numpy as np

from spg_trainer.seeding import numpy_generator

LONGEST_STREAK = 2
"""How many groups of a problem in a row must be all right, or all wrong, so that it is drawn less often."""


class Pools:
    """Remembers how the latest groups of each problem ended, and draws the problems of a step.

    streaks: {problem: n}. n is how many of its latest groups in a row were all right, at most `LONGEST_STREAK`. If they
    were all wrong, n is that number below 0: with -2, the latest two groups were all wrong. A problem whose latest
    group was mixed is not in `streaks`.
    """

    def __init__(self, seed: int, size: int, all_right: float, all_wrong: float) -> None:
        """size: how many problems the training set has.

        all_right, all_wrong: the weight, 0.01 to 1, of a problem whose last two groups were all right, or all wrong.
        All other problems have weight 1.
        """
        self.seed, self.size = seed, size
        self.weights = {LONGEST_STREAK: all_right, -LONGEST_STREAK: all_wrong}
        self.streaks: dict[int, int] = {}

    def choose(self, step: int, batch: int, count: int, taken: Sequence[int] = ()) -> np.ndarray:
        """`count` distinct problems for a batch of a step, (count,) int64; the same for every process.

        Each draw is in proportion to the weights of the problems that are left. taken: the problems of the step's
        earlier batches. Returns fewer than `count` if fewer are left.
        """
        # Rejection sampling, since a training set may be too large to weigh each of its problems. A problem with the
        # least weight, 0.01, is rejected in 99 of 100 draws.
        generator = numpy_generator(self.seed, "pools", step, batch)
        chosen: list[int] = []
        excluded = {*taken}  # the taken problems, and those of `chosen`
        while len(chosen) < count and len(excluded) < self.size:
            index = int(generator.integers(self.size))
            weight = self.weights.get(self.streaks.get(index, 0), 1.0)
            if generator.random() < weight and index not in excluded:
                chosen.append(index)
                excluded.add(index)
        return np.array(chosen, dtype=np.int64)

    def note(self, index: np.ndarray, correct: np.ndarray) -> dict[str, int]:
        """Notes the groups of a finished step; returns, as metrics, how many problems are drawn less often.

        index: (P,) problems. correct: (P, G) bool.
        """
        for problem, right in zip(index.tolist(), correct, strict=True):
            streak = self.streaks.pop(problem, 0)
            if right.all():
                self.streaks[problem] = min(LONGEST_STREAK, max(0, streak) + 1)
            elif not right.any():
                self.streaks[problem] = max(-LONGEST_STREAK, min(0, streak) - 1)
        streaks = [*self.streaks.values()]
        return {
            "pools/all_right": streaks.count(LONGEST_STREAK),
            "pools/all_wrong": streaks.count(-LONGEST_STREAK),
        }
