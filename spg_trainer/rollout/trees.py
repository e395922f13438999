"""Trees of rollouts: completions that share a first half, from two calls of the sampler.

At the end of a block a state is a longer prompt: what follows is sampled behind prompt and first half.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spg_trainer.models.policy import Policy
from spg_trainer.rollout.tokens import sample
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import Rollouts


def sample_trees(
    policy: Policy,
    encoded: tuple[Tensor, Tensor],
    sampling: Sampling,
    seed: int,
    keys: Sequence[tuple[int | str, ...]],
    rows_per_forward: int | None,
    record_entropy: bool = False,
    *,
    branches: int,
) -> Rollouts:
    """As `sample`, but of every `branches` rows, which have one prompt, the others begin with the first half of the
    first.

    One that ended there has no other leaves: they are copies of it. The middle of a completion is the end of a block,
    so the state there has all of the first half and nothing of the second.
    """
    (prompt_ids, prompt_mask), half = encoded, sampling.max_completion_length // 2
    first = torch.arange(0, len(keys), branches, device=prompt_ids.device)
    nodes = sample(
        policy,
        (prompt_ids[first], prompt_mask[first]),
        sampling,
        seed,
        [keys[row] for row in first.tolist()],
        rows_per_forward,
        record_entropy,
    )
    rollouts = nodes.select(torch.arange(len(keys), device=first.device) // branches)
    branched = torch.ones_like(prompt_mask[:, 0]).index_fill(0, first, False)
    going = (branched & (rollouts.completion_mask.sum(-1) > half)).nonzero()[:, 0]
    rest = sample(
        policy,
        (
            torch.cat([prompt_ids[going], rollouts.completion_ids[going, :half]], 1),
            torch.cat([prompt_mask[going], rollouts.completion_mask[going, :half]], 1),
        ),
        replace(sampling, max_completion_length=half, diffusion_steps=sampling.diffusion_steps // 2),
        seed,
        [keys[row] for row in going.tolist()],
        rows_per_forward,
        record_entropy,
    )
    passed = rollouts.unmask_step[going, :half].amax(-1, keepdim=True) + 1
    later = torch.where(rest.unmask_step < 0, -1, rest.unmask_step + passed)
    for name in ("completion_ids", "completion_mask", "unmask_logps", "unmask_entropy", "unmask_order"):
        if (column := getattr(rollouts, name)) is not None:
            column[going, half:] = getattr(rest, name)
    rollouts.unmask_step[going, half:] = later
    return replace(rollouts, branched=branched)
