"""Validation in a run: which step is the best so far, and whether the run has fallen below its start.

Every validation of a run asks the same problems, so two of them are compared problem by problem.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from spg_trainer.evaluation.statistics import sign_test

Validations = Mapping[int, Sequence[bool]]
"""Step -> whether each validation problem was solved."""

ALPHA = 0.005
"""The chance of a false alarm at one validation: 2.5%, the lower side of a 95% interval, shared by five validations."""


def rate(solved: Sequence[bool]) -> float:
    """Share of the problems that are solved."""
    return sum(solved) / len(solved)


def best_step(validations: Validations) -> int:
    """The latest step within one standard error of the one that solves most, the two compared problem by problem.

    On few problems, which of several good steps solves most is chance; the longest trained of them is the better bet.
    No step is chosen that solves fewer problems than step 0. Source: the one-standard-error rule (Breiman et al. 1984,
    section 3.4.3).
    """
    most = max(validations, key=lambda step: (sum(validations[step]), step))

    def as_good(step: int) -> bool:
        lost, won = changed(validations[most], validations[step])
        return (lost - won) ** 2 <= lost + won and sum(validations[step]) >= sum(validations.get(0, ()))

    return max(step for step in validations if step >= most and as_good(step))


def changed(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int]:
    """How many problems were solved before and are not now, and how many the other way round."""
    pairs = list(zip(before, after, strict=True))
    return sum(b and not a for b, a in pairs), sum(a and not b for b, a in pairs)


def stale(validations: Validations) -> int:
    """How many validations in a row, up to the newest, solved no more problems than the best before them.

    `loop.py: reason_to_end` ends a run where it has reached --patience.
    """
    most, count = -1, 0
    for _, solved in sorted(validations.items()):
        count = count + 1 if sum(solved) <= most else 0
        most = max(most, sum(solved))
    return count


def needed_steps(validations: Validations, kept: Sequence[int]) -> set[int]:
    """For each kept checkpoint, a step, the best step up to it: a run that continues there may go back to that."""
    up_to = [{step: solved for step, solved in validations.items() if step <= last} for last in kept]
    return {best_step(earlier) for earlier in up_to if earlier}


def warning(validations: Validations) -> str:
    """What to tell where the newest validation, but not the one before, is worse than step 0 by more than chance.

    Source: the exact sign test (McNemar) on the problems whose outcome changed, one-sided at `ALPHA`.
    """
    start = validations.get(0, [])
    steps = sorted(validations)[-2:] if start else []
    p_values = [sign_test(*changed(start, validations[step])) for step in steps]
    is_worse = [p <= ALPHA for p in p_values]
    if is_worse != [False, True]:
        return ""
    last = validations[steps[-1]]
    lost, won = changed(start, last)
    return (
        f"the run is worse than its start: {rate(last):.3f} of {len(last)} validation problems solved at step "
        f"{steps[-1]}, {rate(start):.3f} at step 0 ({lost} lost, {won} won, p = {p_values[-1]:.1g}). model/ will be "
        f"the best step, {best_step(validations)}. Lower --learning-rate or raise --prompts-per-step."
    )


def summary(validations: Validations, best: int) -> dict[str, Any] | None:
    """What summary.json says of a run's validations, and of the step that model/ is; None where there are none."""
    if not validations:
        return None
    last = max(validations)
    return {
        "problems": len(validations[last]),
        "start": rate(validations[0]) if 0 in validations else None,
        "best_step": best,
        "best": rate(validations[best]),
        "highest": max(map(rate, validations.values())),
        "last_step": last,
        "last": rate(validations[last]),
        "stale": stale(validations),
    }
