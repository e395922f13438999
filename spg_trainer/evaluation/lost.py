"""What a model has unlearned: components of the reward that fell between two evaluations of the same problems."""

from collections.abc import Mapping, Sequence
from typing import Any

from spg_trainer.evaluation.statistics import sign_test

ALPHA = 0.005
"""Chance of a false alarm for one component."""
FALL = 0.05
"""The smallest fall of a mean that is reported."""

Row = Mapping[str, Any]


def lost_components(before: Sequence[Row], after: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """{component: (mean before, mean after)} for each component, except the solved rate, that fell by more than chance.

    before, after: rows of two evaluations that ask the same problems in the same order, each with `rewards`. A
    component has fallen if its mean is lower by `FALL` or more, and if more problems fell than rose by the exact sign
    test, one-sided at `ALPHA`, on the problems whose value changed.
    """
    pairs = [(then["rewards"], now["rewards"]) for then, now in zip(before, after, strict=True)]
    names = dict.fromkeys(name for then, _ in pairs for name in then if name != "correct")
    lost = {}
    for name in names:
        values = [(then[name], now[name]) for then, now in pairs if name in then and name in now]
        mean_before = sum(then for then, _ in values) / len(values)
        mean_after = sum(now for _, now in values) / len(values)
        fell, rose = sum(now < then for then, now in values), sum(now > then for then, now in values)
        if mean_before - mean_after >= FALL and sign_test(fell, rose) <= ALPHA:
            lost[name] = (mean_before, mean_after)
    return lost
