"""GDPO, group diffusion policy optimization: one clipped ratio per completion, from ELBOs by quadrature.

Source: arXiv 2510.08554. docs/algorithms/gdpo.md has the formulas. We have not read the authors' code; `GDPORepro`
follows the public implementation in NVIDIA's NeMo-RL (research/gdpo). Taken over from it, with what the paper says in
brackets:

1. The ratio is length-normalised, exp((ELBO - ELBO_old) / n) [exp(ELBO - ELBO_old)], as in GSPO; on policy the gradient
   is the same, off policy the clip is n times wider.
2. The term of a completion is not divided by n once more [it is divided by n].
3. A node t of weight w masks exactly k = floor(t n) tokens, at least 1, and each weighs w/t [w/t, with masks of the
   forward process]. `gdpo` masks k, too, but each weighs w n/k, which is unbiased given k. This makes a difference for
   short completions.
4. No KL penalty is possible [a weight of 0 in the published runs].

Not reproduced: masks seeded by the token ids, so that equal completions have equal masks; stop tokens that are given
separately.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from spg_trainer.algorithms.base import Advantage
from spg_trainer.algorithms.ratios import SequenceRatio, kl_k3
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import GaussMasking
from spg_trainer.settings.types import Below1, Count, Zero


@dataclass(frozen=True)
class GDPO(SequenceRatio):
    """Makes completions better than their group's mean likelier, the others less likely, by a clipped ratio for each.

    loss = sum_b (-min(r_b A_b, clip(r_b) A_b) / n_b + beta * k3_b) / completions, with r_b = exp(ELBO - ELBO_old) on
    the same masks, n_b tokens, and k3 of GRPO between the ELBOs. Defaults are the paper's. Raises ConfigError for
    values out of range.
    """

    advantage: Advantage = "mean"
    """The reward minus the mean reward of its group, not divided by a deviation (paper)."""
    masking: str = "gauss"
    """Gauss-Legendre quadrature over the masking ratio (paper). Any other masking with a likelihood will do."""
    num_masks: Count = 3
    """M, nodes of the quadrature, one mask each (the paper's N = 3, K = 1)."""
    p_mask_prompt: Below1 = 0.0
    """Chance that a prompt token is masked; 0 in the published runs."""
    epsilon: Below1 = 0.5
    """The ratio is clipped below 1 - epsilon (published runs: 0.5)."""

    def log_ratio(self, difference: Tensor, length: Tensor) -> Tensor:
        return difference

    def penalty(self, bound: Tensor, reference: Tensor, length: Tensor) -> Tensor:
        return kl_k3(bound, reference)

    def divisor(self, length: Tensor) -> Tensor | float:
        return length


@dataclass(frozen=True)
class GDPORepro(GDPO):
    """GDPO as NeMo-RL computes it; docs/experiments/differences.md lists the differences."""

    advantage: Literal["mean"] = "mean"
    beta: Zero = 0.0

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """The recipe's only masking, in which a token weighs w/t."""
        return {"gauss": GaussMasking(by_ratio=True)}

    def log_ratio(self, difference: Tensor, length: Tensor) -> Tensor:
        return difference / length

    def divisor(self, length: Tensor) -> float:
        return 1.0
