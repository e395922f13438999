"""How far decoding with a cache or by confidence is from exact decoding, on a few completions of a step.

Such decoding is faster, but the model then learns from completions that it would not have written by exact decoding;
these figures say how different they are.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spg_trainer.likelihood import Masks, token_logps
from spg_trainer.models import Policy
from spg_trainer.rollout.tokens import sample
from spg_trainer.settings.decoding import Decoding, Sampling
from spg_trainer.tensors import NEVER, Rollouts

if TYPE_CHECKING:
    from spg_trainer.rollout.scored import Scored

LAW = ("remasking", "position_temperature", "top_p", "top_k", "eos_penalty", "min_completion_length")
"""The settings of `Decoding` that say how tokens and their positions are drawn. Exact decoding keeps them, and has the
defaults of the others, which only save time."""
COMPLETIONS = 8
"""How many completions are looked at: the first of a step, even if several processes share them."""


def fidelity_sums(
    policy: Policy, scored: "Scored", sampling: Sampling, seed: int, step: int, rows_per_forward: int | None
) -> list[float]:
    """Four sums over the tokens of the completions that this process has, which `fidelity_means` makes means of.

    They are: the log-probabilities that were recorded, the exact ones, how many tokens exact decoding writes too, and
    how many tokens there are. Call it before an update: the policy must have the weights that sampled.
    """
    row_indices = (scored.place.episode < COMPLETIONS).nonzero()[:, 0]
    if not len(row_indices):
        return [0.0] * 4
    rollouts = scored.rollouts.select(row_indices.to(policy.device)).trim()
    written = rollouts.completion_mask
    law = {name: getattr(sampling, name) for name in LAW}
    exact = replace(sampling, **asdict(Decoding(**law)))
    noise_keys = [
        ("rollout", step, *key) for key in scored.place.select(row_indices).keys()
    ]  # as in the rollout
    decoded_exactly = sample(
        policy,
        (rollouts.prompt_ids, rollouts.prompt_mask),
        exact,
        seed,
        noise_keys,
        rows_per_forward,
        canvas=rollouts.canvas(policy.mask_id),
    )
    is_equal = decoded_exactly.completion_ids == rollouts.completion_ids
    is_equal &= decoded_exactly.completion_mask & written
    sums = (rollouts.unmask_logps * written, exact_logps(policy, rollouts) * written, is_equal, written)
    return [float(values.sum()) for values in sums]


def fidelity_means(sums: Sequence[Sequence[float]]) -> dict[str, float]:
    """Means over the tokens of all processes. sums: what `fidelity_sums` returned in each process.

    `decoding/logp`: the log-probability that was recorded when a token was unmasked. `decoding/logp_exact`: the one
    that the model gives the token at that step when no cache is used. `decoding/equal_tokens`: the share of tokens that
    exact decoding, with the same prompts and the same noise, writes at the same place.
    """
    logp, logp_exact, equal, written = (sum(of_processes) for of_processes in zip(*sums, strict=True))
    means = {"logp": logp / written, "logp_exact": logp_exact / written, "equal_tokens": equal / written}
    return {f"decoding/{name}": mean for name, mean in means.items()}


def exact_logps(policy: Policy, rollouts: Rollouts) -> Tensor:
    """(B, T) log-probability of each token given all that had been unmasked before its step, computed without a cache.

    There is one masked copy of a completion for each of S denoising steps: it shows what the sampler saw before that
    step, and scores the tokens which that step unmasked.
    """
    unmask_step = rollouts.unmask_step[:, None]  # (B, 1, T)
    step = torch.arange(int(unmask_step.max()) + 1, device=unmask_step.device)[:, None]  # (S, 1)
    scored = (unmask_step == step) & rollouts.completion_mask[:, None]  # (B, S, T)
    masked = (unmask_step >= step) | (unmask_step == NEVER)
    no_prompt_token = masked.new_zeros(*masked.shape[:2], rollouts.prompt_ids.shape[1])
    masks = Masks(
        masked=torch.cat([no_prompt_token, masked], -1),
        scored=scored,
        weight=scored.double(),
        scale=torch.ones(len(rollouts), dtype=torch.float64, device=step.device),
        part=rollouts.completion_mask,
    )
    return token_logps(policy.model, rollouts, masks, policy.mask_id).sum(1)
