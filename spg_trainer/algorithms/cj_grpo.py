"""CJ-GRPO: GRPO of single tokens over the whole trajectory of the sampler, step by step.

    loss = -1/S sum_s [ sum_{b, i unmasked at step s} (min(r A_b, clip(r, 1 +- epsilon) A_b) - beta k3) / tokens of s ]

Every denoising step weighs the same, and tokens share it among all completions. Source: arXiv 2509.23924, formulas as
in its code; docs/algorithms/cj_grpo.md. Its decoding (few tokens in early steps, late end tokens) is no part of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from spg_trainer.algorithms.ratios import TokenRatio
from spg_trainer.likelihood.bounds import elbo
from spg_trainer.likelihood.masks import MASKINGS, Masking
from spg_trainer.settings.ranges import Count, Nothing
from spg_trainer.tensors import Batch, Masks, Rollouts


@dataclass(frozen=True)
class CJGRPO(TokenRatio):
    """Token-level GRPO on every step of the sampler's path. Raises ConfigError for values out of range."""

    masking: str = "step_merge"
    """What the sampler saw at a step."""
    num_masks: Count = 256
    """At most so many passes of a completion: one for each step, or neighbouring steps together if there are more."""
    p_mask_prompt: Nothing = 0.0
    """0: the sampler saw the whole prompt."""

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": MASKINGS["step_merge"]}

    def prepare(self, rewards: Tensor, rollouts: Rollouts) -> dict[str, Tensor]:
        """Besides the advantages `share` (P*G, T): completions over steps and the tokens unmasked at a token's step."""
        step = rollouts.unmask_step.where(rollouts.completion_mask, -1).cpu()
        scored = step >= 0
        tokens = step[scored].bincount()
        share = (len(step) / (len(tokens) * tokens.double()))[step.clamp(min=0)] * scored
        return {**super().prepare(rewards, rollouts), "share": share}

    def weigh(self, objective: Tensor, masks: Masks, batch: Batch) -> Tensor:
        share = batch.prepared["share"].to(objective)[:, None]
        return elbo(objective * share, masks) / batch.totals["completions"]
