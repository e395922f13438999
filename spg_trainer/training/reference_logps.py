"""Adds the logps (log-probabilities) of a step under two other models: the one that sampled, and the reference.

Both are computed before any weight of the step changes. A pass has the same rows, the same padding and as many masks as
in the update itself, so that an equal model gives equal values, bit for bit.
"""

from collections.abc import Sequence

from spg_trainer.models import Policy
from spg_trainer.training.micro_batches import Update, logps_without_graph, reference_logps


def add_old_logps(policy: Policy, updates: Sequence[Update]) -> None:
    """Gives the rows of all updates but the first their `old_logps`, under the model that sampled.

    The first update needs none: no weight has changed yet, so that its own logps, detached, are the old ones. If the
    masks name a measure (`likelihood/measures.py`), the rows get `old_measured`, too.
    """
    for update in updates[1:]:
        for number, micro in enumerate(update.micro_batches):
            old_logps, old_measured = logps_without_graph(micro, policy.model, policy.mask_id)
            update.micro_batches[number] = micro.with_columns(old_logps=old_logps, old_measured=old_measured)


def add_reference_logps(policy: Policy, updates: Sequence[Update]) -> None:
    """Gives the rows of all updates their `ref_logps`."""
    with policy.reference() as model:
        for update in updates:
            for number, micro in enumerate(update.micro_batches):
                ref_logps = reference_logps(micro, model, policy.mask_id)
                update.micro_batches[number] = micro.with_columns(ref_logps=ref_logps)
