"""StableDRL: SPG whose completions are weighted by capped importance ratios, normalised over the group.

    loss = -1/N sum_b (w_b A_b bound_b + elbo_bonus ELBO_b) / n_b
    w_b  = G * softmax(min(u, log ceiling))_b over the G completions of b's group, detached; its mean is 1
    u_b  = (ELBO_b - ELBO_b under the model that sampled) / n_b

Source: arXiv 2603.06743, formulas as in its code. docs/algorithms/stabledrl.md says where code, paper and this file
differ.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Compares, Loss, Metric, Need
from spg_trainer.algorithms.spg import SPG
from spg_trainer.likelihood.bounds import elbo
from spg_trainer.settings.types import AtLeast1
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class StableDRL(SPG):
    """SPG off policy: a completion that became likelier counts more than the others of its group.

    On policy it is SPG. All completions of a group are compared, also those without an advantage. Defaults are the
    code's. Raises ConfigError as `SPG`.
    """

    normalizer: Literal["tokens", "completions", "length"] = "length"
    """Divisor. `tokens`: all tokens of the update. `completions`: all completions. `length` (code): the completion's
    own tokens, then all completions."""
    ceiling: AtLeast1 = 5.0
    """Cap on a completion's ratio per token, exp(u_b), before the ratios are normalised over the group (code)."""

    needs: ClassVar[frozenset[Need]] = frozenset({"old"})
    compares: ClassVar[Compares] = "group"  # type: ignore[misc]

    def active(self, advantages: Tensor) -> Tensor:
        return torch.ones_like(advantages, dtype=torch.bool)

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        difference = elbo(logps.detach(), masks) - elbo(batch.old_logps, masks)
        # A ratio covers all turns of an episode: (E,), one for each.
        log_ratio = batch.total(difference) / batch.total(batch.length.to(logps))
        group_of_episode = batch.first(batch.group)  # all turns of an episode are in the same group
        weight = self_normalised(log_ratio.clamp(max=math.log(self.ceiling)), group_of_episode)
        # Each turn gets the weight of its episode, and counts in the metrics with the ratio of its episode: (B,).
        weight_of_turn, log_ratio_of_turn = batch.spread(weight), batch.spread(log_ratio)
        advantages = batch.advantages.to(logps) * weight_of_turn
        result = super().loss(logps, masks, batch.with_columns(advantages=advantages))
        result.metrics["ratio/mean"] = Metric(log_ratio_of_turn.exp().sum(), "scored_completions")
        cut = (log_ratio_of_turn > math.log(self.ceiling)).to(log_ratio)
        result.metrics["ratio/cut"] = Metric(cut.sum(), "scored_completions")
        return result


def self_normalised(log_ratio: Tensor, group: Tensor) -> Tensor:
    """(B,) the softmax of log_ratio (B,) over each group, times the size of the group: 1 on average."""
    # The number of each row's group, (B,), and the size of each group.
    _, number, size = group.unique(return_inverse=True, return_counts=True)
    largest = log_ratio.new_full((len(size),), -math.inf).scatter_reduce(0, number, log_ratio, "amax")
    powers = (log_ratio - largest[number]).exp()
    total = powers.new_zeros(len(size)).index_add(0, number, powers)
    return powers * (size / total)[number]
