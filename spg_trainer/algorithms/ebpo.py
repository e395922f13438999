"""EBPO: one clipped ratio per completion, of block ELBOs, for models that attend to blocks from left to right.

Source: LLaDA2.1, whose code is closed; formulas as in its public reimplementation (yjyddq/DARE);
docs/algorithms/ebpo.md. On a block-causal model `masking=all_blocks` scores every block in one pass; on one that
attends to everything, as LLaDA does, `block_active` estimates the same bound with one block a draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from spg_trainer.algorithms.base import Advantage
from spg_trainer.algorithms.ratios import SequenceRatio
from spg_trainer.settings.ranges import Below1, Count


@dataclass(frozen=True)
class EBPO(SequenceRatio):
    """Raises completions above their group's mean, lowers the others, within a trust region of whole sequences.

    loss = sum_b (-min(r_b A_b, clip(r_b) A_b) + beta * k2_b) / completions, with r_b = exp(ELBO - ELBO_old) on the same
    masks, not divided by the length, and k2_b = (ELBO - ELBO_ref)^2 / 2. Raises ConfigError for values out of range.
    """

    masking: str = "block_active"
    """`all_blocks` for block-causal models, `block_active` for others; any with a likelihood behind it."""
    num_masks: Count = 16
    """M (N in the code): how many timesteps are drawn, each of which masks its share of a block."""
    p_mask_prompt: Below1 = 0.0
    """Chance that a prompt token is masked; 0 in the code."""
    advantage: Advantage = "mean_std"
    """What a reward is compared with; the code divides by the group's standard deviation."""
    block_origin: Literal["completion", "sequence"] = "sequence"
    """`all_blocks`: where the model's blocks begin, at the completion, or at the prompt's first token, as in all
    published models."""

    def log_ratio(self, difference: Tensor, length: Tensor) -> Tensor:
        return difference
