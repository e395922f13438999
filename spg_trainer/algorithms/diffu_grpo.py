"""diffu-GRPO (d1): GRPO of single tokens, each predicted from the prompt alone, with all of the completion masked.

    loss = -1/N sum_b 1/n_b sum_i [min(r A_b, clip(r, 1 - epsilon, 1 + epsilon) A_b) - beta k3],   r = p_bi / old p_bi

Source: arXiv 2504.12216, equation 3. `diffu_grpo_repro` is its public code; taken over, the paper in brackets:

1. The sum is divided by the tokens of all completions, here those of the whole update [by each one's own, then by N].
2. Only the tokenizer's eos ends a completion (LLaDA: endoftext), in rollout, masks and text [not said].

Not reproduced: a divisor per micro-batch and process; mask seeds counted by micro-batch, so that with 12 iterations and
2 accumulation steps 6 seeds are never used; reseeding of the global generators; the old and reference passes of all
iterations in one batch; rollouts with dropout and bfloat16 noise; LoRA dropout 0.05; NF4 weights; prompts cut at 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, Loss, Metric
from spg_trainer.algorithms.ratios import clipped_surrogate, kl_k3
from spg_trainer.likelihood.bounds import elbo
from spg_trainer.likelihood.masks import AllMasking, Masking, Masks
from spg_trainer.settings.ranges import Below1, Count, NotNegative
from spg_trainer.tensors import Batch


@dataclass(frozen=True)
class DiffuGRPO(Algorithm):
    """Raises the tokens of good completions, and lowers those of bad ones, by a clipped ratio for each token.

    Tokens weigh as in the ELBO of their masking; at a ratio of 1 the gradient is that of the advantage times the bound.
    Raises ConfigError for values out of range.
    """

    masking: str = "all"
    """What the model is shown: nothing of the completion (section 3.2)."""
    num_masks: Count = 1
    """M; copies differ in the prompt's noise only, of which the paper draws one for each iteration."""
    advantage: Literal["mean", "mean_std", "leave_one_out"] = "mean"
    """What a reward is compared with; d1 does not divide by the deviation."""
    epsilon: Below1 = 0.5
    """Clip: a token's gradient stops once its ratio is so far from 1 on the side it was to move to (d1)."""
    beta: NotNegative = 0.04
    """Weight of the KL to the model that training started from; 0 = no reference (d1)."""
    normalizer: Literal["length", "tokens"] = "length"
    """Divisor: own length and then all completions (equation 3), or all tokens of the update (d1's code)."""

    needs_old_logps: ClassVar[bool] = True
    separable: ClassVar[bool] = True

    @property
    def needs_ref_logps(self) -> bool:
        return self.beta > 0

    def linear(self, batch: Batch, on_policy: bool) -> Tensor:
        return torch.full_like(batch.advantages, on_policy and not self.needs_ref_logps, dtype=torch.bool)

    def loss(self, logps: Tensor, masks: Masks, batch: Batch) -> Loss:
        log_ratio = logps - batch.old_logps
        objective, clipped = clipped_surrogate(
            log_ratio, batch.advantages.to(logps)[:, None, None], self.epsilon
        )
        metrics = token_metrics(logps, log_ratio, clipped, masks)
        if self.needs_ref_logps:
            kl = self.penalty(kl_k3(logps, batch.ref_logps), log_ratio)
            objective = objective - self.beta * kl
            metrics["kl"] = Metric(kl.detach().sum(), "scored_tokens")
        return Loss(-self.weigh(objective, masks, batch).sum(), metrics)

    def penalty(self, kl: Tensor, log_ratio: Tensor) -> Tensor:
        """(B, M, T) what `beta` weighs, from the estimates of the KL and the log-ratios of single tokens."""
        return kl

    def weigh(self, objective: Tensor, masks: Masks, batch: Batch) -> Tensor:
        """(B,) of the objectives of single tokens (B, M, T)."""
        return elbo(objective, masks) * self.norm(batch).to(objective)


@torch.no_grad()
def token_metrics(logps: Tensor, log_ratio: Tensor, clipped: Tensor, masks: Masks) -> dict[str, Metric]:
    """Means over scored tokens: log-probability and ratio; over those with an advantage, what the clip stopped."""
    return {
        "logps": Metric(logps.sum(), "scored_tokens"),
        "ratio/mean": Metric((log_ratio.exp() * masks.scored).sum(), "scored_tokens"),
        "ratio/clip_fraction": Metric(clipped.sum(), "rewarded_tokens"),
    }


@dataclass(frozen=True)
class DiffuGRPORepro(DiffuGRPO):
    """diffu-GRPO with the semantics of d1's code; the differences are numbered at the top of the module."""

    advantage: Literal["mean"] = "mean"
    normalizer: Literal["tokens"] = "tokens"

    end_tokens: ClassVar[Literal["any", "eos"]] = "eos"

    @classmethod
    def maskings(cls) -> Mapping[str, type[Masking]]:
        return {"all": AllMasking}
