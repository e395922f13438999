"""Advantages by which each problem of a step has one weight, and equal completions that are scored once.

Source of the first: MaxRL (arXiv 2602.02710), but for its control variate. docs/algorithms/shares.md has the formulas,
what of them is ours, and what they are worth.
"""

import torch
from torch import Tensor

from spg_trainer.batch import Rollouts


def shares(rewards: Tensor) -> Tensor:
    """(P*G,) advantages of rewards (P, G): each problem has the weight of its best completion, and that of its worst.

    What a reward has above the mean of the whole step, divided by the group's sum of these and multiplied by the
    largest; the same below the mean. With rewards of 0 and 1 a solved problem weighs the same whether one of its
    completions is right or all, and groups that are all right teach, too. Exactly zero where all rewards are equal.
    """
    if (rewards == rewards[0, 0]).all():  # their mean is rounded
        return torch.zeros_like(rewards).reshape(-1)
    centred = rewards - rewards.mean()
    above, below = (
        part
        / part.sum(1, keepdim=True).clamp(min=torch.finfo(rewards.dtype).tiny)
        * part.amax(1, keepdim=True)
        for part in (centred.clamp(min=0), (-centred).clamp(min=0))
    )
    return (above - below).reshape(-1)


def merge_equal(advantages: Tensor, rollouts: Rollouts, size: int) -> Tensor:
    """(B,) advantages in which the first of equal completions of a group of `size` has their sum, the others 0.

    In the mean over masks the gradient is the same, for fewer passes through the model. Copies paid differently,
    above and below the mean, stay apart: they take different bounds.
    """
    ids = rollouts.completion_ids.masked_fill(~rollouts.completion_mask, -1).cpu()
    group = torch.arange(len(ids)) // size
    sign = advantages.sign().long().cpu()
    distinct, which = torch.cat([torch.stack([group, sign], 1), ids], 1).unique(dim=0, return_inverse=True)
    first = torch.full((len(distinct),), len(ids)).scatter_reduce(0, which, torch.arange(len(ids)), "amin")
    total = advantages.new_zeros(len(distinct)).index_add(0, which, advantages)
    return torch.zeros_like(advantages).index_copy(0, first, total)
