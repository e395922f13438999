"""Computes how many steps a run makes, and how its learning rate rises and falls, from settings and validations.

Under warmup_stable_decay the rate is constant after its warm-up, until validations bring nothing more (--patience), or
until only `lr_decay_share` of `max_steps` is left. From there it falls, for as many steps as make that share of the
whole run. The checkpoint at which the fall begins is kept, so that a longer run goes on from there as if the rate had
never fallen (MiniCPM, arXiv 2404.06395, section 4).
"""

import math
from numbers import Real

from spg_trainer.errors import ConfigError
from spg_trainer.settings.configs import OptimizerConfig
from spg_trainer.settings.own_functions import load_function

DECAYS_LATE = "warmup_stable_decay"


def steps_and_decay_start(
    max_steps: int, lr_schedule: str, lr_decay_share: float, stalled: int | None
) -> tuple[int, int]:
    """(how many steps the run makes, the step from which its rate falls under warmup_stable_decay).

    If the run stalls before the planned fall, the rate falls at once, and the fall makes up `lr_decay_share` of all
    steps. E.g. with a share of 0.2, a run of 100 steps falls from step 80 on: (100, 80); if it stalls at step 40, it
    ends at step 50: (50, 40). With any other schedule, both numbers are `max_steps`.

    stalled: the step after which --patience was out; None = it is not.
    """
    if lr_schedule != DECAYS_LATE:
        return max_steps, max_steps
    planned = max_steps - max(1, int(lr_decay_share * max_steps))
    if stalled is None or stalled >= planned:
        return max_steps, planned
    steps_of_fall = max(1, int(lr_decay_share / (1 - lr_decay_share) * stalled))
    return stalled + steps_of_fall, stalled


def learning_rate(
    settings: OptimizerConfig, *, updates: int, step: int, total: int, decay_start: int, per_step: int = 1
) -> float:
    """The learning rate of the next update.

    The rate rises linearly over the first `warmup_steps` updates (optimizer steps). Depending on `lr_schedule`, it
    falls with the steps of the run towards its floor, the share `lr_floor` of the highest rate:

    linear               over all steps, also during the warm-up
    cosine               over the steps after the warm-up
    warmup_stable_decay  from the step `decay_start` on; the last step has the rate of the floor
    ./mine.py:NAME       as the user's function says (`own_share`)

    updates: how many were made so far. step: how many of `total` steps are finished. per_step: the updates of a step.
    """
    peak, floor, warmup = settings.learning_rate, settings.lr_floor, settings.warmup_steps
    warmed_up = peak * min(1.0, (updates + 1) / max(1, warmup))
    # The order of the operations decides the last bit of a rate, and so whether the embedded models, which were trained
    # by a cosine, can be made again.
    if settings.lr_schedule == "cosine":
        if updates < warmup:
            return peak * (updates + 1) / warmup
        share_done = max(0, step - warmup) / max(1, total - warmup)
        above_floor = 0.5 * (1 + math.cos(math.pi * share_done))
        return (floor + (1 - floor) * above_floor) * warmed_up
    if settings.lr_schedule == DECAYS_LATE and step >= decay_start:
        return peak * (1 - (1 - floor) * (step + 1 - decay_start) / (total - decay_start))
    if ":" in settings.lr_schedule:
        return own_share(settings.lr_schedule, updates, total * per_step) * warmed_up
    if settings.lr_schedule == "linear":
        return (floor + (1 - floor) * (1 - step / total)) * warmed_up
    return warmed_up


def own_share(name: str, update: int, total: int) -> float:
    """What the user's function behind `./mine.py:NAME` returns for an update: the share of --learning-rate.

    update: how many updates were made before. total: how many the run makes, if it skips none. Raises ConfigError if
    the function cannot be loaded or raises, and for what is no finite number of 0 or more.
    """
    function = load_function("lr_schedule", name)
    try:
        share = function(update, total)
    except (Exception, SystemExit) as error:
        text = (
            f"$lr_schedule={name}: for update {update} of {total} it raised {type(error).__name__}: {error}"
        )
        raise ConfigError(text) from error
    if not isinstance(share, Real) or not 0 <= share < math.inf:
        raise ConfigError(
            f"$lr_schedule={name}: for update {update} of {total} it returned {share!r:.60}. A schedule is a function "
            "schedule(update, total) that returns the share of $learning_rate, 0 or more: 1 for all of it."
        )
    return float(share)
