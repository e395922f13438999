"""BGPO, boundary-guided policy optimization: a bound of the ratio's objective that is a sum over masks.

Source: arXiv 2510.11683. docs/algorithms/bgpo.md has the formulas. No code was at hand, so there is no reproduction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, Loss, Metric
from spg_trainer.algorithms.ratios import sequence_metrics
from spg_trainer.batch import Batch
from spg_trainer.likelihood.masks import LIKELIHOODS, Masking, Masks


@dataclass(frozen=True)
class BGPO(Algorithm):
    """Raises completions above their group's mean and lowers the others, by a bound of the importance-weighted reward.

    loss = -sum_b g_b / completions with g_b the mean over masks of (1 + d) A_b if A_b >= 0, else of exp(d) A_b, where d
    is the difference of one mask's estimate of the ELBO from that under the model that sampled; g_b is at most
    exp(ELBO - ELBO_old) A_b. On policy (d = 0) the gradient is that of -A_b ELBO. Defaults are the paper's. Raises
    ConfigError for values out of range.
    """

    masking: str = "bernoulli"
    """Each token masked with probability t, weighing 1/t (paper); any with a likelihood behind it."""
    num_masks: int = 16
    """M, n_t of the paper, >= 1; 16, on Sudoku 32. Memory does not grow with it."""
    p_mask_prompt: float = 0.0
    """Chance that a prompt token is masked, 0 up to but not 1; 0 in the paper."""
    advantage: Literal["mean", "mean_std", "leave_one_out"] = "mean_std"
    """What a reward is compared with; the paper divides by the group's standard deviation."""
    max_log_ratio: float | None = None
    """Where A < 0, d is cut to at most this, > 0; none = never (paper). Off policy, exp(d) can be any size."""

    needs_old_logps: ClassVar[bool] = True
    separable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = self.max_log_ratio is None or self.max_log_ratio > 0
        self.require("max_log_ratio", fine, "above 0, e.g. 10, or none")

    @classmethod
    def maskings(cls) -> Mapping[str, type[Masking]]:
        """Those with a likelihood: the bound is one of a ratio of probabilities of whole completions."""
        return LIKELIHOODS

    def loss(self, logps: Tensor, masks: Masks, batch: Batch) -> Loss:
        advantages = batch.advantages.to(logps)[:, None]
        current, old = estimates(logps, masks), estimates(batch.old_logps, masks)
        difference = current - old
        # Cut before the exponential, not after: a discarded infinity would still turn the gradient into nan.
        exponent = difference.where(advantages < 0, 0.0)
        exponent = exponent if self.max_log_ratio is None else exponent.clamp(max=self.max_log_ratio)
        terms = torch.where(advantages < 0, exponent.exp(), 1 + difference) * advantages
        loss = -terms.mean(-1).sum() / batch.totals["completions"]
        return Loss(loss, self.metrics(current.detach(), difference.detach(), exponent.detach(), batch))

    def metrics(
        self, current: Tensor, difference: Tensor, exponent: Tensor, batch: Batch
    ) -> dict[str, Metric]:
        """As other algorithms of sequences; the clip fraction is that of a completion's masks."""
        cut = (exponent < difference) & (batch.advantages < 0)[:, None]
        stopped = cut.to(current).mean(-1)
        return sequence_metrics(current.mean(-1), difference.mean(-1), stopped, batch)


def estimates(logps: Tensor, masks: Masks) -> Tensor:
    """(B, M) the ELBO as each mask alone estimates it; their mean over masks is `elbo`."""
    return masks.scale.to(logps)[:, None] * (masks.weight.to(logps) * logps).sum(-1)
