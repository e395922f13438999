"""AGRPO: GRPO of tokens at a few of the sampler's own steps, each predicted from what the sampler saw at that step.

    loss = -1/N sum_b 1/M sum_m w_bm sum_{i unmasked at step t_bm} [min(r A_b, clip(r, 1 +- epsilon) A_b) - beta r k3]

r and k3 are the ratio of token i and its KL to the reference. The M steps t_bm are drawn from the S_b steps of a
completion, and w_bm = 1/(S_b P(t_bm)). So in expectation the mean over m is a mean over all steps of the completion.
Source: arXiv 2510.04019, formulas as in its code; docs/algorithms/agrpo.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from spg_trainer.algorithms.ratios import TokenRatio
from spg_trainer.likelihood.bounds import weighted_sum
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import MASKINGS
from spg_trainer.settings.types import Below1, Count, NotNegative, Positive, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class AGRPO(TokenRatio):
    """Token-level GRPO on a random few of the sampler's steps, unbiased for its whole path.

    Raises ConfigError for values out of range.
    """

    masking: str = "step_merge"
    """A copy shows what the sampler saw at a step."""
    num_masks: Count = 24
    """M, steps drawn of each completion; if it has fewer steps, some are drawn again."""
    segment_draw: Literal["uniform", "entropy"] = "uniform"
    """How steps are drawn. `uniform`: with equal chances. `entropy` (the paper's runs): in proportion to their tokens'
    surprise."""
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""
    epsilon: Below1 = 0.2
    """Clip of a token's ratio; it never acts if a rollout has one update, as in the paper's runs."""
    beta: NotNegative = 0.0
    """Weight of the KL to the reference; the ratio multiplies it, too. 0 = no reference (the paper's runs)."""
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
        """1/N 1/M sum_m w_bm (sum over tokens), as in the formula above.

        `weighted_sum` is the mean over the M copies, in which a token weighs 1/P(t_bm) (`masks.weight`, by the
        masking). The factors 1/S_b and 1/N follow here.
        """
        factor = 1 / (batch.steps * batch.totals["completions"])
        return weighted_sum(objective, masks) * factor.to(objective)

    def penalty(self, kl: Tensor, log_ratio: Tensor) -> Tensor:
        return log_ratio.exp() * kl
