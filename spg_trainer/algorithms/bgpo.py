"""BGPO, boundary-guided policy optimization: a lower bound of the objective with a ratio, as a mean over masks.

Source: arXiv 2510.11683, the paper alone; we have not read its code. docs/algorithms/bgpo.md has the formulas.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Advantage, Algorithm, Compares, Loss, Need
from spg_trainer.algorithms.ratios import sequence_metrics
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import comparable
from spg_trainer.settings.types import Below1, Count
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class BGPO(Algorithm):
    """Makes completions better than their group's mean likelier, the others less likely.

    loss = -sum_b g_b / completions, where g_b is the mean over masks of (1 + d) A_b if A_b >= 0, else of exp(d) A_b. d
    is the ELBO as one mask estimates it, minus this estimate under the model that sampled. g_b is at most
    exp(ELBO - ELBO_old) A_b. On policy (d = 0) the gradient is that of -A_b ELBO. Defaults are the paper's. Raises
    ConfigError for values out of range.
    """

    masking: str = "bernoulli"
    """Each token is masked with probability t and weighs 1/t (paper). Any other masking with a likelihood will do."""
    num_masks: Count = 16
    """M, the paper's n_t: 16, on Sudoku 32. Memory does not grow with M."""
    p_mask_prompt: Below1 = 0.0
    """Chance that a prompt token is masked; 0 in the paper."""
    advantage: Advantage = "mean_std"
    """How a reward becomes an advantage; the paper divides by the group's standard deviation."""

    needs: ClassVar[frozenset[Need]] = frozenset({"old"})
    compares: ClassVar[Compares] = "copy"  # each copy has a term of its own

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """The maskings with a likelihood, since the objective compares probabilities of whole completions."""
        return comparable()

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        advantages = batch.advantages.to(logps)[:, None]
        current, old = estimates(logps, masks), estimates(batch.old_logps, masks)
        difference = current - old
        # Rows that do not use the exponent get 0: an infinity would make the gradient nan, even where `torch.where`
        # discards it.
        exponent = difference.where(advantages < 0, 0.0)
        terms = torch.where(advantages < 0, exponent.exp(), 1 + difference) * advantages
        loss = -terms.mean(-1).sum() / batch.totals["completions"]
        return Loss(loss, sequence_metrics(current.mean(-1), difference.mean(-1), batch))


def estimates(logps: Tensor, masks: Masks) -> Tensor:
    """(B, M) the ELBO as each mask alone estimates it; their mean over masks is `elbo`."""
    return masks.scale.to(logps)[:, None] * (masks.weight.to(logps) * logps).sum(-1)
