"""SLIM-RL: a clipped ratio for each of three masked copies: the exponential of the mean log-ratio of its masked tokens.

    rho_q = exp( mean over the masked tokens i of copy q of log p_i - log p_old_i )
    loss  = 1/N sum_b sum_q w_q [ -clipped(rho_q, A_b) + beta/T sum_{masked i} k3_i ]

The shares of tokens that the copies mask lie around the nodes of a quadrature with the weights w_q. clipped(rho, A) is
min(rho A, clip(rho, 1 +- epsilon) A). k3_i is the KL of token i to the model that sampled, and T the number of places.
Source: arXiv 2607.00208, formulas as in its code (github.com/laolaorkkkkk/SLIM-RL); docs/algorithms/slim_rl.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, Compares, Loss, Metric, Need
from spg_trainer.algorithms.ratios import clipped_surrogate, kl_k3
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import MASKINGS
from spg_trainer.settings.types import Below1, Count, NotNegative, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class SlimRL(Algorithm):
    """Makes the masked tokens of good completions likelier, those of bad ones less likely, by a ratio for each copy.

    Raises ConfigError for values out of range.
    """

    masking: str = "gauss_blocks"
    """Random tokens, about the share that a node of the quadrature says, and more of them in early blocks."""
    num_masks: Count = 3
    """M, nodes of the quadrature (paper)."""
    spread: Below1 = 0.2
    """How much higher the chance of being masked is in the first block than in the last (paper)."""
    p_mask_prompt: Zero = 0.0
    """0: the prompt is shown as it is."""
    epsilon: Below1 = 0.1
    """Clip of a copy's ratio (paper)."""
    beta: NotNegative = 0.01
    """Weight of the KL to the model that sampled, which is 0 in a rollout's first update."""

    needs: ClassVar[frozenset[Need]] = frozenset({"old"})
    compares: ClassVar[Compares] = "copy"  # each copy has a term of its own

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"gauss_blocks": MASKINGS["gauss_blocks"]}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        num_masks, num_places = logps.shape[1:]
        scored = masks.scored
        node_weight = (masks.weight.sum(-1) / num_masks).to(logps)  # (B, M), 0 for a copy that masks nothing
        log_ratio = ((logps - batch.old_logps) * scored).sum(-1) / scored.sum(-1).clamp(min=1)
        surrogate, clipped = clipped_surrogate(log_ratio, batch.advantages.to(logps)[:, None], self.epsilon)
        kl = kl_k3(logps, batch.old_logps) * scored
        terms = node_weight * (surrogate - self.beta / num_places * kl.sum(-1))
        with torch.no_grad():
            # The ratio is averaged over the copies that mask anything. A completion of few tokens may have no such
            # copy; its ratio is then 1.
            any_masked = node_weight.any(-1, keepdim=True)
            share = node_weight / node_weight.sum(-1, keepdim=True).where(any_masked, 1)
            ratio = 1 + (share * (log_ratio.exp() - 1)).sum(-1)
            metrics = {
                "logps": Metric(logps.sum(), "scored_tokens"),
                "ratio/mean": Metric(ratio.sum(), "scored_completions"),
                "ratio/clip_fraction": Metric((share * clipped).sum(), "rewarded_completions"),
                "kl": Metric(kl.sum(), "scored_tokens"),
            }
        return Loss(-terms.sum() / batch.totals["completions"], metrics)
