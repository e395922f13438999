"""What a model no longer does: components of the reward that fell between two evaluations of the same problems."""

from collections.abc import Mapping, Sequence
from typing import Any

from spg_trainer.evaluation.statistics import sign_test

ALPHA = 0.005
"""Chance of a false alarm for one component."""
FALL = 0.05
"""The least fall of a mean that is told; a smaller one changes nothing that a user does."""

Row = Mapping[str, Any]


def lost_components(before: Sequence[Row], after: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """{component: (mean before, mean after)} of those that fell by more than chance, the solved rate aside.

    before, after: rows of two evaluations that ask the same problems in the same order, each with `rewards`. A
    component has fallen where its mean is lower by `FALL` or more, and the exact sign test on the problems whose value
    changed, one-sided at `ALPHA`, says that more of them fell than rose.
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
