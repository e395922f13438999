"""SPG as its public code computes it, where that differs from the paper: for reproducing published numbers.

Taken over from the code, with what the paper says in brackets; docs/algorithms/spg.md compares the two in full:

1. Mask m takes block perm[m] modulo the number of blocks in use, where perm is a random permutation of all blocks of
   the window [a block in use, drawn uniformly].
2. Every masked token up to the end is scored, also in other blocks than the active one [the block's].
3. The ELBO is n times a mean over masked tokens, and the EUBO n times a mean over positions masked at least once [sums
   over tokens]; in the mixture the two therefore weigh tokens differently.
4. The masking ratio of a copy is K/n. K also counts the masked tokens of later blocks, and those of earlier blocks that
   p_mask_prompt masks [the t that was drawn].
5. Only A > 0 takes the ELBO [A >= 0]; A = 0 contributes nothing either way.
6. The sum is divided by the number of tokens [of completions]; this file counts those of the whole update.
7. Only the tokenizer's eos ends a completion (LLaDA: endoftext), in rollout, masks and text.

Not reproduced: a divisor and mask seeds per micro-batch, reseeding of the global generators, powers that underflow in
bfloat16, rollouts with dropout and bfloat16 noise, prompts cut at 200 or 1500 tokens, steps rounded down silently, LoRA
dropout 0.05, NF4 weights, and the reward quirks, which belong to the environments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Loss
from spg_trainer.algorithms.spg import SPG
from spg_trainer.likelihood.block_masks import BlockMasking
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.masks import MASKINGS
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class SPGRepro(SPG):
    """SPG with the semantics of its reference code; the differences are numbered at the top of the module."""

    advantage: Literal["mean"] = "mean"
    normalizer: Literal["tokens"] = "tokens"

    elbo_bonus: ClassVar[float] = 0.0  # type: ignore[misc]
    """Fixed here, as the code has no such term."""
    end_tokens: ClassVar[Literal["any", "eos"]] = "eos"

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """`block` draws blocks as the code does (its `block_random`)."""
        return {"random": MASKINGS["random"], "block": BlockMasking(modulo=True)}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        advantages = batch.advantages.to(logps)
        length = batch.length.to(logps)
        lower, upper = length * mean_elbo(logps, masks), None
        if self.make_masking().has_eubo:
            upper = length * mean_eubo(logps, masks, length, self.eubo_beta)
        bound = torch.where(advantages > 0, lower, self.negative(lower, upper))
        terms = -advantages * bound / batch.totals["tokens"]
        return Loss(terms.sum(), self.metrics(terms, lower, upper, batch))


def mean_elbo(logps: Tensor, masks: Masks) -> Tensor:
    """(B,) mean logp over the masked tokens of each mask, then over masks."""
    return ((logps * masks.scored).sum(-1) / masks.scored.sum(-1).clamp(min=1)).mean(-1)


def mean_eubo(logps: Tensor, masks: Masks, length: Tensor, beta: float) -> Tensor:
    """(B,) mean over positions masked at least once of log(mean_m p^beta / t_hat) / beta, with t_hat = K/n.

    length: (B,) n. K counts the masked tokens of each mask.
    """
    ratio = masks.scored.sum(-1).to(logps) / length[:, None]
    powers = torch.where(masks.scored, beta * logps - ratio.log()[:, :, None], -math.inf)
    seen = masks.scored.any(1)
    means = torch.where(seen, powers.logsumexp(1) - math.log(logps.shape[1]), 0.0)
    return means.sum(-1) / (beta * seen.sum(-1))
