"""Which step of a run is the best so far, and whether the run has become, or has ended, worse than its start.

A validation solves problems, or measures the loss of completions that are held out. Every validation of a run asks the
same problems, so two of them are compared problem by problem.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spg_trainer.evaluation.statistics import sign_test

Validations = Mapping[int, Sequence[bool]]
"""Validated step -> whether each validation problem was solved, always in the same order."""

END_ALPHA = 0.05
"""The two-sided level of the sign test at the end of a run, of which only "worse" is ever reported."""
Losses = Mapping[int, float]
"""Validated step -> the loss of the held-out completions, in nats a token, always under the same masks."""

BETTER = 0.01
"""A loss counts as falling if it is more than this share, 1%, below the last one that counted: after 2.00, one below
1.98."""
ALPHA = 0.005
"""The chance of a false alarm at one validation: 2.5%, as on one side of a 95% interval, divided by five
(Bonferroni). So in a run of five validations, the chance of at least one false alarm is 2.5% at most."""


RULE = "the latest step within one standard error of the highest rate"
"""How `best_step` chooses, in words."""
OF_THE_REST = "the best step whose checkpoint is not lost; compare with the highest rate of all steps"
"""How a step is chosen if the checkpoint of the best one is lost."""


def rate(solved: Sequence[bool]) -> float:
    """The share of the problems that are solved."""
    return sum(solved) / len(solved)


def best_step(validations: Validations) -> int:
    """The latest step that solves at most one standard error fewer problems than the step that solves most.

    Where several steps are good, and there are few problems, it is chance which of the steps solves most. Then the one
    that was trained longest is the better bet. No step is chosen that solves fewer problems than step 0. Source: the
    one-standard-error rule (Breiman et al. 1984, section 3.4.3).
    """
    best = max(validations, key=lambda step: (sum(validations[step]), step))  # of equal ones the latest
    solved_at_start = sum(validations.get(0, ()))

    def is_as_good(step: int) -> bool:
        lost, won = changed(validations[best], validations[step])
        # The difference in solved problems is lost - won, and its standard error sqrt(lost + won).
        within_standard_error = (lost - won) ** 2 <= lost + won
        return within_standard_error and sum(validations[step]) >= solved_at_start

    return max(step for step in validations if step >= best and is_as_good(step))


def changed(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int]:
    """(lost, won): how many problems were solved before and are not after, and how many the other way round."""
    pairs = list(zip(before, after, strict=True))
    lost = sum(b and not a for b, a in pairs)
    won = sum(a and not b for b, a in pairs)
    return lost, won


def improvements(validations: Validations) -> Iterator[tuple[int, bool]]:
    """(step, whether it solved more problems than all before it) of each validation, in the order of steps."""
    most = -1
    for step, solved in sorted(validations.items()):
        yield step, sum(solved) > most
        most = max(most, sum(solved))


def lowest_step(losses: Losses) -> int:
    """The latest step whose loss is at most 1% (`BETTER`) above the lowest."""
    limit = (1 + BETTER) * min(losses.values())
    return max(step for step, loss in losses.items() if loss <= limit)


def falls(losses: Losses) -> Iterator[tuple[int, bool]]:
    """(step, whether its loss counts as falling, see `BETTER`) of each validation, in the order of steps."""
    marked = float("inf")
    for step, loss in sorted(losses.items()):
        falling = loss < (1 - BETTER) * marked
        marked = loss if falling else marked
        yield step, falling


def stale(improved: Iterator[tuple[int, bool]]) -> int:
    """How many validations in a row, up to the newest, brought nothing.

    improved: (step, whether it did) of each, in the order of steps.
    """
    count = 0
    for _, better in improved:
        count = 0 if better else count + 1
    return count


def stalled_at(improved: Iterator[tuple[int, bool]], patience: int) -> int | None:
    """The first step at which `patience` validations in a row had brought nothing; None where there is none.

    improved: as for `stale`.
    """
    count = 0
    for step, better in improved:
        count = 0 if better else count + 1
        if 0 < patience <= count:
            return step
    return None


def needed_steps(
    validations: Mapping[int, Any],
    kept: Sequence[int],
    choose: Callable[[Mapping[int, Any]], int] = best_step,
) -> set[int]:
    """The steps whose checkpoints are needed as long as the checkpoints of the steps `kept` are there.

    For each step in `kept`, the best step up to it is needed: a run that continues from the kept checkpoint may still
    end with the weights of that best step. choose: which of some validated steps is the best.
    """
    needed = set()
    for last in kept:
        up_to_last = {step: solved for step, solved in validations.items() if step <= last}
        if up_to_last:
            needed.add(choose(up_to_last))
    return needed


def warning(validations: Validations) -> str:
    """A warning if the newest validation is worse than that of step 0 by more than chance; "" if it is not.

    It is also "" if the validation before was worse already: the warning is not repeated while the run stays worse, but
    comes again if the run recovers and becomes worse once more. Source: the exact sign test (McNemar) on the problems
    whose outcome changed, one-sided at `ALPHA`.
    """
    if 0 not in validations or len(validations) < 2:
        return ""
    start = validations[0]
    before, newest = sorted(validations)[-2:]
    p_before, p = (sign_test(*changed(start, validations[step])) for step in (before, newest))
    if p_before <= ALPHA or p > ALPHA:
        return ""
    last = validations[newest]
    lost, won = changed(start, last)
    return (
        f"the run is worse than its start: {rate(last):.3f} of {len(last)} validation problems solved at step "
        f"{newest}, {rate(start):.3f} at step 0 ({lost} lost, {won} won, p = {p:.1g}). model/ will be "
        f"the best step, {best_step(validations)}."
    )


def end_below_start(before: Sequence[bool], after: Sequence[bool]) -> dict[str, float] | None:
    """How much worse the trained model is than the start, if by more than chance; None if it is not.

    before, after: whether each problem was solved by the start and by the trained model. The result has the problems
    that were `lost` and `won`, and `p` of the exact sign test on them, two-sided: at most 0.05, as for a rate that is
    outside of a 95% interval.
    """
    lost, won = changed(before, after)
    p = min(1.0, 2 * sign_test(lost, won))
    return {"lost": lost, "won": won, "p": p} if lost > won and p <= END_ALPHA else None


def summary(validations: Validations, best: int) -> dict[str, Any] | None:
    """What summary.json says of a run's validations; None where there are none. best: the step that was chosen.

    "best" is the solved rate of that step. "highest", the highest rate of any step, may be a little above it
    (`best_step`); "chosen" says so in words.
    """
    if not validations:
        return None
    last = max(validations)
    highest_step = max(validations, key=lambda step: (sum(validations[step]), step))
    problems, best_rate, highest = (
        len(validations[last]),
        rate(validations[best]),
        rate(validations[highest_step]),
    )
    rule = RULE if best == best_step(validations) else OF_THE_REST
    return {
        "problems": problems,
        "start": rate(validations[0]) if 0 in validations else None,
        "best_step": best,
        "best": best_rate,
        "highest_step": highest_step,
        "highest": highest,
        "chosen": (
            f"step {best}, with {best_rate:.3f} of {problems} validation problems: {rule} ({highest:.3f} at step "
            f"{highest_step})"
        ),
        "last_step": last,
        "last": rate(validations[last]),
        "stale": stale(improvements(validations)),
    }


def loss_warning(losses: Losses) -> str:
    """A warning if the newest loss is above that of step 0, and the one before it was not; "" otherwise."""
    if 0 not in losses or len(losses) < 2:
        return ""
    before, newest = sorted(losses)[-2:]
    if losses[newest] <= losses[0] or losses[before] > losses[0]:
        return ""
    return (
        f"the run is worse than its start: validation loss {losses[newest]:.4f} at step {newest}, {losses[0]:.4f} at "
        f"step 0. model/ will be step {lowest_step(losses)}."
    )


def loss_summary(losses: Losses, best: int) -> dict[str, Any] | None:
    """What summary.json says of validations by a loss; None where there are none. best: the step that became model/."""
    if not losses:
        return None
    last, lowest = max(losses), min(losses, key=lambda step: (losses[step], step))
    return {
        "start": losses.get(0),
        "best_step": best,
        "best": losses[best],
        "lowest": losses[lowest],
        "chosen": (
            f"step {best}, with a validation loss of {losses[best]:.4f} nats a token: the latest at most {BETTER:.0%} "
            f"above the lowest ({losses[lowest]:.4f} at step {lowest})"
        ),
        "last_step": last,
        "last": losses[last],
        "stale": stale(falls(losses)),
    }


@dataclass(frozen=True)
class Criterion:
    """What the validations of a run say of it; each function takes {validated step: what was measured}."""

    best_step: Callable[[Mapping[int, Any]], int]
    """The step whose weights are kept."""
    improvements: Callable[[Mapping[int, Any]], Iterator[tuple[int, bool]]]
    warning: Callable[[Mapping[int, Any]], str]
    summary: Callable[[Mapping[int, Any], int], dict[str, Any] | None]
    why_ended: Callable[[Mapping[str, Any]], str]
    """Of a `summary`: why --patience ended the run."""


CRITERIA = {
    "solved": Criterion(
        best_step,
        improvements,
        warning,
        summary,
        lambda v: f"{v['stale']} validations in a row solved no more problems than the best before",
    ),
    "loss": Criterion(
        lowest_step,
        falls,
        loss_warning,
        loss_summary,
        lambda v: f"the validation loss, {v['lowest']:.4f} nats a token, no longer fell",
    ),
}
"""By what a validation measures (`Config.validates`)."""
