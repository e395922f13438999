"""Log-probabilities under the model that sampled (old) and under the reference model, for the updates of a step.

Both are computed before any weight of the step changes, on the rows, padding and groups of masks of the update itself,
so that an equal model gives equal values, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import replace

from spg_trainer.models import Policy
from spg_trainer.training.micro_batches import Update


def add_old_logps(policy: Policy, updates: Sequence[Update]) -> None:
    """Gives all updates but the first their `old_logps`.

    The first update needs none: no weight has changed yet, so that its own logps, detached, are the old ones.
    """
    for micro in (micro for update in updates[1:] for micro in update.micro_batches):
        old, measured = micro.logps(policy.model, policy.mask_id)
        micro.batch = replace(micro.batch, old_logps=old, old_measured=measured)


def add_reference_logps(policy: Policy, updates: Sequence[Update]) -> None:
    """Gives all updates their `ref_logps`."""
    with policy.reference() as model:
        for micro in (micro for update in updates for micro in update.micro_batches):
            ref_logps = micro.reference_logps(model, policy.mask_id)
            micro.batch = replace(micro.batch, ref_logps=ref_logps)
