"""The logps of a step under two other models: the one that sampled (old logps) and the reference.

Both are computed before any weight of the step changes, and with the same rows, padding and masks at once as in the
update itself, so that an equal model gives equal values, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import replace

from spg_trainer.models import Policy
from spg_trainer.training.micro_batches import Update


def add_old_logps(policy: Policy, updates: Sequence[Update]) -> None:
    """Gives the batches of all updates but the first their `old_logps`, and `old_measured` if masks measure something.

    The first update needs none: no weight has changed yet, so that its own logps, detached, are the old ones.
    """
    for update in updates[1:]:
        for micro in update.micro_batches:
            old_logps, old_measured = micro.logps(policy.model, policy.mask_id)
            micro.batch = replace(micro.batch, old_logps=old_logps, old_measured=old_measured)


def add_reference_logps(policy: Policy, updates: Sequence[Update]) -> None:
    """Gives the batches of all updates their `ref_logps`."""
    with policy.reference() as model:
        for update in updates:
            for micro in update.micro_batches:
                ref_logps = micro.reference_logps(model, policy.mask_id)
                micro.batch = replace(micro.batch, ref_logps=ref_logps)
