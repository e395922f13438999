"""AGRPO: GRPO of the tokens that the sampler unmasked at a few of its own steps, each seen as it saw them.

    loss = -1/N sum_b 1/M sum_m w_bm sum_{i unmasked at step t_bm} [min(r A_b, clip(r, 1 +- epsilon) A_b) - beta r k3]

Steps t are drawn from the S_b of a completion, w = 1/(S_b P(t)): the mean over draws is a mean over its steps of what
is summed over the tokens of a step. Source: arXiv 2510.04019, formulas as in its code; docs/algorithms/agrpo.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from spg_trainer.algorithms.ratios import TokenRatio
from spg_trainer.likelihood.bounds import weighted_sum
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.masks import MASKINGS
from spg_trainer.settings.ranges import Below1, Count, NotNegative, Positive, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class AGRPO(TokenRatio):
    """Token-level GRPO on the sampler's own steps, without bias for its path.

    Raises ConfigError for values out of range.
    """

    masking: str = "step_merge"
    """What the sampler saw at a step."""
    num_masks: Count = 24
    """M, steps drawn of each completion; more than it has are drawn again."""
    segment_draw: Literal["uniform", "entropy"] = "uniform"
    """How steps are drawn: alike, or by how surprising their tokens were, which the paper's runs do by entropy."""
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""
    epsilon: Below1 = 0.2
    """Clip; idle with one update of a rollout, as in the paper's runs."""
    beta: NotNegative = 0.0
    """Weight of the KL to the reference, times the ratio; 0 = no reference (the paper's runs)."""
    score_temperature: Positive = 1.0
    """The temperature at which log-probabilities are taken: 1, or the rollout's, at which the tokens were drawn."""

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": MASKINGS["step_merge"]}

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`advantages`, and `steps` (B,), how many denoising steps it took to unmask all scored tokens."""
        last = rows.unmask_step.where(rows.completion_mask, -1).amax(-1)
        return {**super().prepare(rows), "steps": last.cpu().double() + 1}

    def weigh(self, objective: Tensor, masks: Masks, batch: Rows) -> Tensor:
        norm = 1 / (batch.steps * batch.totals["completions"])
        return weighted_sum(objective, masks) * norm.to(objective)

    def penalty(self, kl: Tensor, log_ratio: Tensor) -> Tensor:
        return log_ratio.exp() * kl
