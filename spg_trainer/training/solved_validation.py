"""Judges a run by validations that solve problems: which step is the best, and whether the run got worse.

Every validation of a run asks the same problems, so two of them are compared problem by problem. `loss_validation` has
the same functions for validations that measure a loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spg_trainer.evaluation.statistics import sign_test
from spg_trainer.training.schedule import stale

Validations = Mapping[int, Sequence[bool]]
"""Validated step -> whether each validation problem was solved, always in the same order."""

END_ALPHA = 0.05
"""The two-sided level of the sign test at the end of a run; only "worse" is ever reported."""
ALPHA = 0.005
"""The chance of a false alarm at one validation: 2.5% (one side of a 95% interval), divided by five (Bonferroni). So in
a run of five validations the chance of a false alarm is at most 2.5%."""

RULE = "the latest step within one standard error of the highest rate"
"""How `best_step` chooses, in words."""
RULE_IF_LOST = "the best step whose checkpoint is not lost; compare with the highest rate of all steps"
"""How a step is chosen if the checkpoint of the best one is lost."""


def rate(solved: Sequence[bool]) -> float:
    """The share of the problems that are solved."""
    return sum(solved) / len(solved)


def best_step(validations: Validations) -> int:
    """The latest step that solves at most one standard error fewer problems than the step that solves most.

    If several steps are about equally good, chance decides which of them solves most, and the one that was trained
    longest is the better bet. No step is chosen that solves fewer problems than step 0. Source: the one-standard-error
    rule (Breiman et al. 1984, section 3.4.3).
    """
    best = max(validations, key=lambda step: (sum(validations[step]), step))  # the latest of equals
    solved_at_start = sum(validations.get(0, ()))

    def is_as_good(step: int) -> bool:
        """Whether a step solves at most one standard error fewer problems than `best`, and no fewer than step 0."""
        lost, won = changed(validations[best], validations[step])
        # The difference in solved problems is lost - won, and its standard error sqrt(lost + won).
        within_standard_error = (lost - won) ** 2 <= lost + won
        return within_standard_error and sum(validations[step]) >= solved_at_start

    return max(step for step in validations if step >= best and is_as_good(step))


def changed(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int]:
    """(lost, won): how many problems were solved before and are not after, and how many the other way round."""
    pairs = list(zip(before, after, strict=True))
    lost = sum(was_solved and not is_solved for was_solved, is_solved in pairs)
    won = sum(is_solved and not was_solved for was_solved, is_solved in pairs)
    return lost, won


def improvements(validations: Validations) -> Iterator[tuple[int, bool]]:
    """(step, whether it solved more problems than all before it) of each validation, in the order of steps."""
    most = -1
    for step, solved in sorted(validations.items()):
        yield step, sum(solved) > most
        most = max(most, sum(solved))


def warning(validations: Validations) -> str:
    """A warning if the newest validation is worse than that of step 0 by more than chance; "" if it is not.

    The result is also "" if the validation before was worse already. So the warning is not repeated while the run stays
    worse, but comes again if the run recovers and becomes worse once more. Source: the exact sign test (McNemar) on the
    problems whose outcome changed, one-sided at `ALPHA`.
    """
    if 0 not in validations or len(validations) < 2:
        return ""
    start = validations[0]
    step_before, newest_step = sorted(validations)[-2:]
    last = validations[newest_step]
    p_before = sign_test(*changed(start, validations[step_before]))
    p = sign_test(*changed(start, last))
    if p_before <= ALPHA or p > ALPHA:
        return ""
    lost, won = changed(start, last)
    return (
        f"the run is worse than its start: {rate(last):.3f} of {len(last)} validation problems solved at step "
        f"{newest_step}, {rate(start):.3f} at step 0 ({lost} lost, {won} won, p = {p:.1g}). model/ will be "
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
    """What summary.json says of a run's validations; None if there are none. best: the step that was chosen.

    "best" is the solved rate of that step. "highest", the highest rate of any step, may be a little above it
    (`best_step`); "chosen" says so in words.
    """
    if not validations:
        return None
    last = max(validations)
    highest_step = max(validations, key=lambda step: (sum(validations[step]), step))
    problems = len(validations[last])
    best_rate, highest = rate(validations[best]), rate(validations[highest_step])
    rule = RULE if best == best_step(validations) else RULE_IF_LOST
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


def why_ended(summarised: Mapping[str, Any]) -> str:
    """Why --patience ended the run. summarised: what `summary` returned."""
    return f"{summarised['stale']} validations in a row solved no more problems than the best before"
