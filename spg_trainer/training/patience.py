"""Counts the validations in a row that have brought no improvement, whatever they measure.

The run is ended by `loop.py: reason_to_end`, which compares `stale` with --patience. With --lr-schedule
warmup_stable_decay the learning rate falls first, from the step `stalled_at`.
"""

from collections.abc import Iterable


def stale(improved: Iterable[tuple[int, bool]]) -> int:
    """How many validations in a row, up to the newest, brought no improvement.

    improved: (step, whether it improved) of each validation, in the order of steps.
    """
    count = 0
    for _, better in improved:
        count = 0 if better else count + 1
    return count


def stalled_at(improved: Iterable[tuple[int, bool]], patience: int) -> int | None:
    """The first step at which `patience` validations in a row had brought no improvement; None if there is none.

    improved: as for `stale`.
    """
    count = 0
    for step, better in improved:
        count = 0 if better else count + 1
        if 0 < patience <= count:
            return step
    return None
