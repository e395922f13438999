"""Rounds of a step (--explore): groups from which nothing can be learned yet get more completions, the others fewer.

The rewards of a group decide how many completions it gets, but not how these are drawn. So what is expected to be
learned from a problem's completions stays the same, and only their number in the step changes.
"""

import numpy as np

from spg_trainer.distributed import gather
from spg_trainer.rollout.scored import Scored


class Rounds:
    """Deals the completions of a step, P * G in all, to its P groups round by round: G // 2 for each in the first.

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
        """The completions of the next round, group by group: the group of each, and its number there, (B,) int64.

        After the first round, the groups that are all wrong get as many completions again as they have. If no group is
        all wrong, the other groups that do not teach get theirs doubled. If all teach, all share what is left.
        """
        all_groups = np.arange(len(self.size))
        if not self.size.any():
            chosen = all_groups
            to_draw = self.size_of_first_round * len(chosen)
        elif self.teaches.all():
            chosen = all_groups
            to_draw = self.left
        else:
            teaches_nothing = ~self.teaches
            all_wrong = teaches_nothing & (self.right == 0)
            chosen = np.flatnonzero(all_wrong if all_wrong.any() else teaches_nothing)
            to_draw = min(self.left, int(self.size[chosen].sum()))  # all of the chosen have the same size
        each, remainder = divmod(to_draw, len(chosen))
        counts = each + (np.arange(len(chosen)) < remainder)  # the first chosen groups get one more
        group = np.repeat(chosen, counts)
        number_in_round = np.concatenate(list(map(np.arange, counts)))
        return group, self.size[group] + number_in_round

    def note(self, scored: Scored | None) -> None:
        """Counts what this process's completions of a round earned; a process without any calls it with None."""
        earned = []
        if scored is not None:
            last_turns = scored.episodes  # (E,) int64, the row of each episode's last turn
            group = scored.place.group.numpy()[last_turns].tolist()
            rewards, correct = scored.rewards[last_turns].tolist(), scored.correct[last_turns].tolist()
            earned = list(zip(group, rewards, correct, strict=True))
        right = self.right.copy()
        for group, reward, correct in gather(earned):
            self.rewards[group].append(reward)
            right[group] += correct
        self.size, self.right = np.array([len(rewards) for rewards in self.rewards]), right
