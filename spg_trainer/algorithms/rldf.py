"""RLDF: GRPO at a few surprising steps of the sampler, on the tokens of which the model is already sure there.

    loss = -1/N sum_b 1/K sum_{its K steps v} 1/k sum_{i kept} [min(r A_b, clip(r, 1 +- epsilon) A_b) - beta k3]

A copy shows what the sampler saw at step v. It keeps k of the tokens that were still masked: those that v unmasked, and
those whose probability under the model that sampled was at least `threshold`. r and k3 are the ratio of token i and its
KL to the reference. Source: arXiv 2605.25638, formulas as in its code (ant-research/Drift); docs/algorithms/rldf.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from spg_trainer.algorithms.base import Advantage, Loss, Metric
from spg_trainer.algorithms.ratios import TokenRatio
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import StepMergeMasking
from spg_trainer.settings.ranges import Below1, Count, NotNegative, Share, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class RLDF(TokenRatio):
    """Token-level GRPO on tokens of which the model is already sure. Raises ConfigError for values out of range."""

    masking: str = "step_merge"
    """A copy shows what the sampler saw at a step."""
    num_masks: Count = 4
    """K, steps drawn of each completion; steps with surprising tokens are likelier."""
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""
    advantage: Advantage = "mean_std"
    """How a reward becomes an advantage; the code divides by the group's deviation."""
    epsilon: Below1 = 0.2
    """Clip of a token's ratio; it never acts if a rollout has one update, as in the code's run."""
    beta: NotNegative = 0.01
    """Weight of the KL to the reference; 0 = no reference."""
    threshold: Share = 0.6
    """The least probability at which a token that the step did not unmask is kept (tau)."""

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": StepMergeMasking(segment_draw="surprise", score_rest=True)}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        """The loss. It is not linear in logps, not even on policy: the logps also decide which tokens are kept."""
        result = super().loss(logps, masks, batch)
        result.metrics["kept"] = Metric(self.kept(masks, batch).sum(), "scored_tokens")
        return result

    def weigh(self, objective: Tensor, masks: Masks, batch: Rows) -> Tensor:
        kept = self.kept(masks, batch)
        means = (objective * kept).sum(-1) / kept.sum(-1).clamp(min=1)
        return means.mean(-1) / batch.totals["completions"]

    def kept(self, masks: Masks, batch: Rows) -> Tensor:
        """(B, M, T) bool, the scored tokens that count."""
        step = batch.unmask_step[:, None].expand_as(masks.scored)
        # A copy's own step is the earliest of the steps whose tokens it scores.
        own_step = step.masked_fill(~masks.scored, step.max()).amin(-1, keepdim=True)
        return masks.scored & ((step == own_step) | (batch.old_logps.exp() >= self.threshold))
