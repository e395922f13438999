"""Judges a run by its validations: which step is the best, whether it got worse, and whether it still improves.

A validation measures which problems are solved (`SolvedProblems`), or the loss of completions that are held out
(`HeldOutLoss`). Both are a `Criterion`, and each of its methods reads {validated step: what was measured}.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spg_trainer.evaluation.statistics import sign_test


class Criterion(ABC):
    """How the validations of a run are judged; `validations` is {validated step: what was measured}."""

    @abstractmethod
    def best_step(self, validations: Mapping[int, Any]) -> int:
        """The step whose weights become model/."""

    @abstractmethod
    def improvements(self, validations: Mapping[int, Any]) -> Iterator[tuple[int, bool]]:
        """(step, whether it is better than all before it) of each validation, in the order of steps."""

    @abstractmethod
    def below_start(self, validations: Mapping[int, Any], step: int) -> str:
        """How the validation of a step is worse than that of step 0, in words; "" if it is not."""

    @abstractmethod
    def summary(self, validations: Mapping[int, Any], best: int) -> dict[str, Any] | None:
        """What summary.json says of the validations; None if there are none. best: the step that became model/."""

    @abstractmethod
    def live_figures(
        self, validations: Mapping[int, Any], history: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """What the live line shows of the validations so far. history: rows of metrics.jsonl, oldest first."""

    @abstractmethod
    def why_ended(self, summarised: Mapping[str, Any]) -> str:
        """Why --patience ended the run. summarised: what `summary` returned."""

    def warning(self, validations: Mapping[int, Any]) -> str:
        """A warning if the newest validation is worse than that of step 0; "" if it is not.

        The result is also "" if the validation before was worse already. So the warning is not repeated while the run
        stays worse, but comes again if the run recovers and becomes worse once more.
        """
        if 0 not in validations or len(validations) < 2:
            return ""
        step_before, newest_step = sorted(validations)[-2:]
        how = self.below_start(validations, newest_step)
        if not how or self.below_start(validations, step_before):
            return ""
        return f"the run is worse than its start: {how}. model/ will be step {self.best_step(validations)}."

    def stale(self, validations: Mapping[int, Any]) -> int:
        """How many validations in a row, up to the newest, brought no improvement."""
        count = 0
        for _, better in self.improvements(validations):
            count = 0 if better else count + 1
        return count

    def stalled_at(self, validations: Mapping[int, Any], patience: int) -> int | None:
        """The first step at which `patience` validations in a row had brought no improvement; None if there is none."""
        count = 0
        for step, better in self.improvements(validations):
            count = 0 if better else count + 1
            if 0 < patience <= count:
                return step
        return None

    def needed_steps(self, validations: Mapping[int, Any], kept: Sequence[int]) -> set[int]:
        """The steps whose checkpoints are needed as long as the checkpoints of the steps `kept` are there.

        For each step in `kept`, the best step up to it is needed: a run that continues from the kept checkpoint may
        still end with the weights of that best step.
        """
        needed = set()
        for last in kept:
            up_to_last = {step: measured for step, measured in validations.items() if step <= last}
            if up_to_last:
                needed.add(self.best_step(up_to_last))
        return needed


Validations = Mapping[int, Sequence[bool]]
"""Validated step -> whether each validation problem was solved, always in the same order."""

END_ALPHA = 0.05
"""The two-sided level of the sign test at the end of a run; only "worse" is ever reported."""
ALPHA = 0.005
"""The chance of a false alarm at one validation: 2.5% (one side of a 95% interval), divided by five (Bonferroni). So in
a run of five validations the chance of a false alarm is at most 2.5%."""

RULE = "the latest step within one standard error of the highest rate"
"""How `SolvedProblems.best_step` chooses, in words."""
RULE_IF_LOST = "the best step whose checkpoint is not lost; compare with the highest rate of all steps"
"""How a step is chosen if the checkpoint of the best one is lost."""


def rate(solved: Sequence[bool]) -> float:
    """The share of the problems that are solved."""
    return sum(solved) / len(solved)


def changed(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int]:
    """(lost, won): how many problems were solved before and are not after, and how many the other way round."""
    pairs = list(zip(before, after, strict=True))
    lost = sum(was_solved and not is_solved for was_solved, is_solved in pairs)
    won = sum(is_solved and not was_solved for was_solved, is_solved in pairs)
    return lost, won


def end_below_start(before: Sequence[bool], after: Sequence[bool]) -> dict[str, float] | None:
    """How much worse the trained model is than the start, if by more than chance; None if it is not.

    before, after: whether each problem was solved by the start and by the trained model. The result has the problems
    that were `lost` and `won`, and `p` of the exact sign test on them, two-sided: at most 0.05, as for a rate that is
    outside of a 95% interval.
    """
    lost, won = changed(before, after)
    p = min(1.0, 2 * sign_test(lost, won))
    return {"lost": lost, "won": won, "p": p} if lost > won and p <= END_ALPHA else None


class SolvedProblems(Criterion):
    """Of each validation, whether each problem was solved. All ask the same problems and are compared one by one."""

    def best_step(self, validations: Validations) -> int:
        """The latest step that solves at most one standard error fewer problems than the step that solves most.

        If several steps are about equally good, chance decides which of them solves most, and the one that was trained
        longest is the better bet. No step is chosen that solves fewer problems than step 0. Source: the
        one-standard-error rule (Breiman et al. 1984, section 3.4.3).
        """
        best = max(validations, key=lambda step: (sum(validations[step]), step))  # the latest of equals
        solved_at_start = sum(validations.get(0, ()))

        def is_as_good(step: int) -> bool:
            """Whether a step solves at most one standard error fewer problems than `best`, no fewer than step 0."""
            lost, won = changed(validations[best], validations[step])
            # The difference in solved problems is lost - won, and its standard error sqrt(lost + won).
            within_standard_error = (lost - won) ** 2 <= lost + won
            return within_standard_error and sum(validations[step]) >= solved_at_start

        return max(step for step in validations if step >= best and is_as_good(step))

    def improvements(self, validations: Validations) -> Iterator[tuple[int, bool]]:
        most = -1
        for step, solved in sorted(validations.items()):
            yield step, sum(solved) > most
            most = max(most, sum(solved))

    def below_start(self, validations: Validations, step: int) -> str:
        """Worse by more than chance: the exact sign test (McNemar) on the changed outcomes, one-sided at `ALPHA`."""
        start, later = validations[0], validations[step]
        lost, won = changed(start, later)
        p = sign_test(lost, won)
        if p > ALPHA:
            return ""
        return (
            f"{rate(later):.3f} of {len(later)} validation problems solved at step {step}, {rate(start):.3f} at step 0 "
            f"({lost} lost, {won} won, p = {p:.1g})"
        )

    def summary(self, validations: Validations, best: int) -> dict[str, Any] | None:
        """As of any criterion. "best" is the solved rate of the step that became model/.

        "highest", the highest rate of any step, may be a little above it (`best_step`); "chosen" says so in words.
        """
        if not validations:
            return None
        last = max(validations)
        highest_step = max(validations, key=lambda step: (sum(validations[step]), step))
        problems = len(validations[last])
        best_rate, highest = rate(validations[best]), rate(validations[highest_step])
        rule = RULE if best == self.best_step(validations) else RULE_IF_LOST
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
            "stale": self.stale(validations),
        }

    def live_figures(self, validations: Validations, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The solved rate of the newest validation; nothing before the first one."""
        return {"validation": rate(validations[max(validations)])} if validations else {}

    def why_ended(self, summarised: Mapping[str, Any]) -> str:
        return f"{summarised['stale']} validations in a row solved no more problems than the best before"


Losses = Mapping[int, float]
"""Validated step -> the loss of the held-out completions, in nats a token, always under the same masks."""

BETTER = 0.01
"""A loss counts as falling if it is more than this share (1%) below the last loss that counted. E.g. of 2.00, 1.985 and
1.975 the first and the third count: 1.985 is not below 0.99 * 2.00 = 1.98, and 1.975 is."""


class HeldOutLoss(Criterion):
    """Of each validation, the loss of held-out completions."""

    def best_step(self, validations: Losses) -> int:
        """The latest step whose loss is at most 1% (`BETTER`) above the lowest."""
        limit = (1 + BETTER) * min(validations.values())
        return max(step for step, loss in validations.items() if loss <= limit)

    def has_risen(self, validations: Losses) -> bool:
        """Whether the newest loss is more than 1% (`BETTER`) above the lowest: more steps make the model worse."""
        return bool(validations) and self.best_step(validations) < max(validations)

    def improvements(self, validations: Losses) -> Iterator[tuple[int, bool]]:
        """(step, whether its loss counts as falling, see `BETTER`) of each validation, in the order of steps."""
        last_counted = float("inf")
        for step, loss in sorted(validations.items()):
            falling = loss < (1 - BETTER) * last_counted
            if falling:
                last_counted = loss
            yield step, falling

    def below_start(self, validations: Losses, step: int) -> str:
        if validations[step] <= validations[0]:
            return ""
        return f"validation loss {validations[step]:.4f} at step {step}, {validations[0]:.4f} at step 0"

    def summary(self, validations: Losses, best: int) -> dict[str, Any] | None:
        if not validations:
            return None
        newest_step = max(validations)
        lowest_step = min(
            validations, key=lambda step: (validations[step], step)
        )  # of equal losses, the earliest step
        return {
            "start": validations.get(0),
            "best_step": best,
            "best": validations[best],
            "lowest": validations[lowest_step],
            "chosen": (
                f"step {best}, with a validation loss of {validations[best]:.4f} nats a token: the latest at most "
                f"{BETTER:.0%} above the lowest ({validations[lowest_step]:.4f} at step {lowest_step})"
            ),
            "last_step": newest_step,
            "last": validations[newest_step],
            "has_risen": self.has_risen(validations),
            "stale": self.stale(validations),
        }

    def live_figures(self, validations: Losses, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The lowest loss so far, and the mean training loss of the last hundred steps whose loss is finite."""
        losses = [row["loss"] for row in history[-100:]]
        finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
        mean = sum(finite) / len(finite) if finite else math.nan
        return {"mean_loss": mean, "best_loss": min(validations.values(), default=None)}

    def why_ended(self, summarised: Mapping[str, Any]) -> str:
        return f"the validation loss, {summarised['lowest']:.4f} nats a token, no longer fell"


SOLVED = SolvedProblems()
LOSS = HeldOutLoss()
CRITERIA: dict[str, Criterion] = {"solved": SOLVED, "loss": LOSS}
"""{what a validation measures (`Config.validates`): how it is judged}."""
