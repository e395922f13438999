"""The criteria by which validations choose a step, and the checkpoints that this choice needs.

A validation measures solved problems, or the loss of completions that are held out.
"""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from spg_trainer.training import loss_validation, solved_validation

CRITERIA: dict[str, ModuleType] = {"solved": solved_validation, "loss": loss_validation}
"""{what a validation measures (`Config.validates`): the module that judges it}. Both modules have the same functions:
`best_step`, `improvements`, `warning` and `summary` of {validated step: what was measured}, and `why_ended`."""


def needed_steps(
    validations: Mapping[int, Any],
    kept: Sequence[int],
    choose: Callable[[Mapping[int, Any]], int],
) -> set[int]:
    """The steps whose checkpoints are needed as long as the checkpoints of the steps `kept` are there.

    For each step in `kept`, the best step up to it is needed: a run that continues from the kept checkpoint may still
    end with the weights of that best step. choose: which of some validated steps is the best.
    """
    needed = set()
    for last in kept:
        up_to_last = {step: measured for step, measured in validations.items() if step <= last}
        if up_to_last:
            needed.add(choose(up_to_last))
    return needed
