"""SPG as its public code computes it, where that differs from the paper: for reproducing published numbers.

Taken over from the code (what the paper says in brackets):

1. The block of each mask comes from a permutation of all blocks of the completion window, modulo the
   blocks in use [one block, uniformly]: not uniform for short completions, and two masks may get the same
   block.
2. Every masked token up to the end is scored, later blocks and noised earlier ones included [the block-wise
   likelihood]; `spg` with masking=block does the same and says that it is biased.
3. The ELBO is a mean over masked tokens and the EUBO a mean over the positions masked at least once, each
   then multiplied by the length n [sums over tokens]; in the mixture the two therefore weigh tokens
   differently.
4. The masking ratio is the empirical K/n of each copy, later blocks and noise included [the t that was
   drawn].
5. Only A > 0 takes the ELBO [A >= 0]; A = 0 contributes nothing either way.
6. The sum is divided by the number of tokens [by the number of completions].
7. Only the tokenizer's eos ends a completion (LLaDA: endoftext), in rollout, masks and text; the end-of-turn
   token is a token like any other.

Deliberately not reproduced:

- The code's divisor counts the tokens of one micro-batch on one process; here it is that of the whole
  update, so that neither the micro-batch nor the number of processes changes the gradient.
- The seed counter that advances per micro-batch, so that inner updates repeat each other's masks, and the
  reseeding of every global generator in each loss call: masks are fresh and come from private streams.
- Probabilities from a second softmax in bfloat16, whose powers underflow to zero and drop the token: here
  in log space.
- Rollouts in train mode with dropout, with noise drawn in bfloat16: here in evaluation mode and float32.
- A silent floor where steps do not divide by blocks, and prompts cut on the left at 200 or 1500 tokens: here
  errors, and nothing is cut.
- LoRA dropout 0.05 (here 0 unless asked for) and NF4-quantised base weights.
- Reward quirks, which belong to the environments.
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
from spg_trainer.batch import Batch
from spg_trainer.likelihood.masks import BlockModuloMasking, Masking, Masks, RandomMasking


@dataclass(frozen=True)
class SPGRepro(SPG):
    """SPG with the semantics of its reference code; the differences are numbered at the top of the module."""

    advantage: Literal["mean"] = "mean"
    normalizer: Literal["tokens"] = "tokens"

    end_tokens: ClassVar[Literal["any", "eos"]] = "eos"

    @classmethod
    def maskings(cls) -> Mapping[str, type[Masking]]:
        """`block` draws blocks as the code does (its `block_random`)."""
        return {"random": RandomMasking, "block": BlockModuloMasking}

    def loss(self, logps: Tensor, masks: Masks, batch: Batch) -> Loss:
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
    return ((logps * masks.scored).sum(-1) / masks.scored.sum(-1)).mean(-1)


def mean_eubo(logps: Tensor, masks: Masks, length: Tensor, beta: float) -> Tensor:
    """(B,) mean over positions masked at least once of log(mean_m p^beta / t_hat) / beta, with t_hat = K/n.

    length: (B,) n. K counts the masked tokens of each mask.
    """
    ratio = masks.scored.sum(-1).to(logps) / length[:, None]
    powers = torch.where(masks.scored, beta * logps - ratio.log()[:, :, None], -math.inf)
    seen = masks.scored.any(1)
    means = torch.where(seen, powers.logsumexp(1) - math.log(logps.shape[1]), 0.0)
    return means.sum(-1) / (beta * seen.sum(-1))
