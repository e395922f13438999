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
    """{component: (mean before, mean after)} for each component that fell by more than chance; not the solved rate.

    before, after: rows of two evaluations that ask the same problems in the same order, each with `rewards`. A
    component has fallen if its mean is lower by `FALL` or more, and if more problems fell than rose by the exact sign
    test, one-sided at `ALPHA`, on the problems whose value changed.
    """
    pairs = [(b["rewards"], a["rewards"]) for b, a in zip(before, after, strict=True)]
    names = dict.fromkeys(name for b, _ in pairs for name in b if name != "correct")
    lost = {}
    for name in names:
        values = [(b[name], a[name]) for b, a in pairs if name in b and name in a]
        first, last = (sum(column) / len(values) for column in zip(*values, strict=True))
        fell, rose = sum(a < b for b, a in values), sum(a > b for b, a in values)
        if first - last >= FALL and sign_test(fell, rose) <= ALPHA:
            lost[name] = (first, last)
    return lost
