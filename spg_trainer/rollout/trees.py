"""Trees of rollouts: completions that share a first half, from two calls of the sampler.

The middle of a completion is the end of a block (`settings.check.check_trees`). When the sampler reaches it, the first
half is written and the second half is all masks. So the sampler can take prompt and first half as a longer prompt, and
write another second half after it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from spg_trainer.models.policy import Policy
from spg_trainer.rollout.tokens import sample
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import NEVER, Record, Rows


def sample_trees(
    policy: Policy,
    encoded: tuple[Tensor, Tensor],
    sampling: Sampling,
    seed: int,
    keys: Sequence[tuple[int | str, ...]],
    rows_per_forward: int | None,
    records: frozenset[Record] = frozenset(),
    *,
    branches: int,
) -> Rows:
    """Like `sample`, but every `branches` neighbouring rows, which must have one prompt, are a tree.

    The first completion of a tree is sampled whole. The others begin with its first half, and their second halves are
    sampled. If the first completion ended in its first half, the others are copies of it.
    """
    prompt_ids, prompt_mask = encoded
    half = sampling.max_completion_length // 2
    first_of_tree = torch.arange(0, len(keys), branches, device=prompt_ids.device)
    firsts = sample(
        policy,
        (prompt_ids[first_of_tree], prompt_mask[first_of_tree]),
        sampling,
        seed,
        [keys[row] for row in first_of_tree.tolist()],
        rows_per_forward,
        records,
    )
    tree = torch.arange(len(keys), device=prompt_ids.device) // branches
    rollouts = firsts.select(tree)  # for now, all completions of a tree are copies of its first one
    # True for all rows but the first of each tree: their first half is copied, even if no second half follows.
    is_copy = torch.ones_like(prompt_mask[:, 0]).index_fill(0, first_of_tree, False)
    has_second_half = rollouts.completion_mask.sum(-1) > half
    resampled = (is_copy & has_second_half).nonzero()[:, 0]  # the rows whose second half is sampled anew
    second_halves = sample(
        policy,
        (
            torch.cat([prompt_ids[resampled], rollouts.completion_ids[resampled, :half]], 1),
            torch.cat([prompt_mask[resampled], rollouts.completion_mask[resampled, :half]], 1),
        ),
        replace(sampling, max_completion_length=half, diffusion_steps=sampling.diffusion_steps // 2),
        seed,
        [keys[row] for row in resampled.tolist()],
        rows_per_forward,
        records,
    )
    # The columns (B, T) of the copies are written in place.
    for name in ("completion_ids", "completion_mask", "unmask_logps", *get_args(Record)):
        if name in rollouts:
            rollouts.get(name)[resampled, half:] = second_halves.get(name)
    # The steps of a second half continue those of its first half. The order of a step's tokens starts from 0 in each
    # step, and needs no shift.
    steps_before = rollouts.unmask_step[resampled, :half].amax(-1, keepdim=True) + 1
    steps = second_halves.unmask_step
    rollouts.unmask_step[resampled, half:] = torch.where(steps < 0, NEVER, steps + steps_before)
    return rollouts.with_columns(branched=is_copy)
