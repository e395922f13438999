"""Difficulty pools: problems whose groups were all right, or all wrong, twice running are drawn less often.

As prime-rl does by the mean reward of a problem's last group; here by its last two groups, and by what is right alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from spg_trainer.seeding import numpy_generator

TWICE = 2
"""So many groups of a problem have to be alike, one after the other."""


class Pools:
    """How often each problem's latest groups were alike, and the problems of a step by that.

    streaks: problem -> the number of its latest groups that were all right, or minus that of those that were all wrong,
    at most `TWICE`; a problem whose latest group was mixed is not in it.
    """

    def __init__(self, seed: int, size: int, all_right: float, all_wrong: float) -> None:
        """size: of the training set. all_right, all_wrong: the weight of a problem whose last two groups were so, from
        0.01 to 1; others weigh 1."""
        self.seed, self.size, self.all_right, self.all_wrong = seed, size, all_right, all_wrong
        self.streaks: dict[int, int] = {}
        self.noted: dict[int, int] = {}

    def choose(self, step: int, batch: int, count: int, taken: Sequence[int] = ()) -> np.ndarray:
        """`count` distinct problems for a batch of a step, (count,) int64; the same for every process.

        A problem is drawn with probability in proportion to its weight among those that are left. taken: the problems
        of the step's earlier batches. Returns fewer than `count` where not so many are left.
        """
        # By rejection, as a training set may be too large to weigh each of its problems. A problem of the least weight,
        # 0.01, is rejected in 99 of 100 draws.
        draw = numpy_generator(self.seed, "pools", step, batch)
        not_left, chosen = {*taken}, []
        while len(chosen) < count and len(not_left) < self.size:
            index = int(draw.integers(self.size))
            if draw.random() < self.weight(index) and index not in not_left:
                chosen.append(index)
                not_left.add(index)
        return np.array(chosen, dtype=np.int64)

    def weight(self, index: int) -> float:
        """How a problem weighs against one whose groups are mixed."""
        streak = self.streaks.get(index, 0)
        if abs(streak) < TWICE:
            return 1.0
        return self.all_right if streak > 0 else self.all_wrong

    def note(self, index: np.ndarray, correct: np.ndarray) -> None:
        """Takes down the groups of a step: index (P,), correct (P, G). They count once `keep` is called."""
        for problem, right in zip(index.tolist(), correct, strict=True):
            streak = self.streaks.get(problem, 0)
            sign = 1 if right.all() else 0 if right.any() else -1  # all right, mixed, all wrong
            goes_on = streak * sign > 0
            self.noted[problem] = sign * min(TWICE, 1 + (abs(streak) if goes_on else 0))

    def keep(self) -> dict[str, int]:
        """Lets what was noted count from now on; returns how many problems are drawn less often."""
        self.streaks |= self.noted
        self.noted = {}
        self.streaks = {problem: streak for problem, streak in self.streaks.items() if streak}
        counts = [sum(streak == sign * TWICE for streak in self.streaks.values()) for sign in (1, -1)]
        return {"pools/all_right": counts[0], "pools/all_wrong": counts[1]}

    def state(self) -> dict[str, int]:
        """What a checkpoint holds, as JSON."""
        return {str(problem): streak for problem, streak in sorted(self.streaks.items())}

    def restore(self, state: Mapping[str, int]) -> None:
        """Goes on from what `state` gave."""
        self.streaks, self.noted = {int(problem): streak for problem, streak in state.items()}, {}
