"""Judges a run by validations that measure a loss: which step is the best, and whether the run got worse.

The loss is that of held-out completions. `solved_validation` has the same functions for validations that solve
problems.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from spg_trainer.training.schedule import stale

Losses = Mapping[int, float]
"""Validated step -> the loss of the held-out completions, in nats a token, always under the same masks."""

BETTER = 0.01
"""A loss counts as falling if it is more than this share (1%) below the last loss that counted. E.g. of 2.00, 1.985 and
1.975 the first and the third count: 1.985 is not below 0.99 * 2.00 = 1.98, and 1.975 is."""


def best_step(losses: Losses) -> int:
    """The latest step whose loss is at most 1% (`BETTER`) above the lowest."""
    limit = (1 + BETTER) * min(losses.values())
    return max(step for step, loss in losses.items() if loss <= limit)


def has_risen(losses: Losses) -> bool:
    """Whether the newest loss is more than 1% (`BETTER`) above the lowest: more steps then make the model worse."""
    if not losses:
        return False
    newest_step = max(losses)
    return best_step(losses) < newest_step


def improvements(losses: Losses) -> Iterator[tuple[int, bool]]:
    """(step, whether its loss counts as falling, see `BETTER`) of each validation, in the order of steps."""
    last_counted = float("inf")
    for step, loss in sorted(losses.items()):
        falling = loss < (1 - BETTER) * last_counted
        if falling:
            last_counted = loss
        yield step, falling


def warning(losses: Losses) -> str:
    """A warning if the newest loss is above that of step 0, and the one before it was not; "" otherwise."""
    if 0 not in losses or len(losses) < 2:
        return ""
    step_before, newest_step = sorted(losses)[-2:]
    if losses[newest_step] <= losses[0] or losses[step_before] > losses[0]:
        return ""
    return (
        f"the run is worse than its start: validation loss {losses[newest_step]:.4f} at step {newest_step}, "
        f"{losses[0]:.4f} at step 0. model/ will be step {best_step(losses)}."
    )


def summary(losses: Losses, best: int) -> dict[str, Any] | None:
    """What summary.json says of validations by a loss; None if there are none. best: the step that became model/."""
    if not losses:
        return None
    newest_step = max(losses)
    lowest_step = min(losses, key=lambda step: (losses[step], step))  # of equal losses, the earliest step
    return {
        "start": losses.get(0),
        "best_step": best,
        "best": losses[best],
        "lowest": losses[lowest_step],
        "chosen": (
            f"step {best}, with a validation loss of {losses[best]:.4f} nats a token: the latest at most {BETTER:.0%} "
            f"above the lowest ({losses[lowest_step]:.4f} at step {lowest_step})"
        ),
        "last_step": newest_step,
        "last": losses[newest_step],
        "has_risen": has_risen(losses),
        "stale": stale(improvements(losses)),
    }


def why_ended(summarised: Mapping[str, Any]) -> str:
    """Why --patience ended the run. summarised: what `summary` returned."""
    return f"the validation loss, {summarised['lowest']:.4f} nats a token, no longer fell"
