"""Rounds of a step: groups from which nothing can be learned yet get more completions, the others fewer.

What a group has earned decides how many completions it gets, and not how they are drawn. So what a problem teaches
stays the same, and only its weight in the step changes.
"""

import numpy as np

from spg_trainer.distributed import gather
from spg_trainer.rollout.scored import Scored


class Rounds:
    """The completions of P groups, P * G in all, round by round: G // 2 for each in the first.

    size: (P,) int64, how many each group has so far; right: (P,) int64, how many of them are right.
    """

    def __init__(self, groups: int, num_generations: int, right_groups_teach: bool) -> None:
        """right_groups_teach: whether the algorithm learns from a group that is all right, too."""
        self.right_groups_teach, self.completions = right_groups_teach, groups * num_generations
        self.size_of_first_round = num_generations // 2
        self.rewards: list[list[float]] = [[] for _ in range(groups)]
        self.size = self.right = np.zeros(groups, dtype=np.int64)

    @property
    def left(self) -> int:
        """How many completions are still to be drawn."""
        return self.completions - int(self.size.sum())

    @property
    def teaches(self) -> np.ndarray:
        """(P,) bool, whether a group has unequal rewards, or is all right where such groups teach too."""
        unequal = np.array([min(rewards) < max(rewards) for rewards in self.rewards])
        return unequal | (self.right == self.size) if self.right_groups_teach else unequal

    def next(self) -> tuple[np.ndarray, np.ndarray]:
        """The completions of the next round, group by group: their groups and their numbers in these, (B,) int64 each.

        After the first round, groups that are all wrong get as many again as they have; where there are none, those
        that do not teach for another reason; where there are none of these either, all groups share what is left.
        """
        if not self.size.any():
            chosen, number = np.arange(len(self.size)), self.size_of_first_round * len(self.size)
        else:
            teaches_nothing = ~self.teaches
            all_wrong = teaches_nothing & (self.right == 0)
            chosen = np.flatnonzero(all_wrong if all_wrong.any() else teaches_nothing)
            number = min(self.left, int(self.size[chosen].sum()))
            if not len(chosen):
                chosen, number = np.arange(len(self.size)), self.left
        each, remainder = divmod(number, len(chosen))
        counts = each + (np.arange(len(chosen)) < remainder)
        group = np.repeat(chosen, counts)
        return group, self.size[group] + np.concatenate(list(map(np.arange, counts)))

    def note(self, scored: Scored | None) -> None:
        """Takes down what this process's completions of a round earned; every process calls it, also with none."""
        earned = []
        if scored is not None:
            last_rows, group = scored.episodes, scored.place.group.numpy()
            columns = (group[last_rows], scored.rewards[last_rows], scored.correct[last_rows])
            earned = list(zip(*(column.tolist() for column in columns), strict=True))
        right = self.right.copy()
        for group, reward, correct in gather(earned):
            self.rewards[group].append(reward)
            right[group] += correct
        self.size, self.right = np.array([len(rewards) for rewards in self.rewards]), right
