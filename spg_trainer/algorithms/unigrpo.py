"""UniGRPO (MMaDA): diffu-GRPO on partly masked completions; in each iteration a larger share is masked.

    loss = -1/N sum_b 1/M sum_m 1/k sum_{i masked} [min(r A_b, clip(r, 1 - epsilon, 1 + epsilon) A_b) - beta kl]

kl is the estimator k3 of the KL to the reference. Prompts stay clean; current, old and reference model see the same k
masked tokens. Over the iterations their share of the completion rises to 1. Source: arXiv 2505.15809, section 3 and
Algorithm 1. The mean over the k masked tokens needs no code here: the masking weighs each of them by n/k, and
normalizer=length divides by the completion's n tokens. `unigrpo_repro` (a file of its own) follows the code that the
paper's authors point to.
"""

from __future__ import annotations

from dataclasses import dataclass

from spg_trainer.algorithms.base import Advantage
from spg_trainer.algorithms.diffu_grpo import DiffuGRPO
from spg_trainer.settings.ranges import Below1, Count, NotNegative


@dataclass(frozen=True)
class UniGRPO(DiffuGRPO):
    """Token-level GRPO on tokens seen in the context of others. Raises ConfigError for values out of range."""

    masking: str = "rising"
    """A share of masked tokens that rises over the iterations to all (Algorithm 1)."""
    num_masks: Count = 1
    """M; the paper draws one mask for each iteration."""
    p_mask_prompt: Below1 = 0.0
    """Chance that a prompt token is masked; 0 in the paper (section 3)."""
    advantage: Advantage = "mean_std"
    """How a reward becomes an advantage: as in GRPO, which the paper names, divided by the group's deviation."""
    epsilon: Below1 = 0.2
    """Clip of a token's ratio. We found no value in the paper; this one is from its authors' code."""
    beta: NotNegative = 0.01
    """Weight of the KL to the reference; 0 = no reference. The value is from the authors' code."""
