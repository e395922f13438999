"""The base of algorithms that learn from the model's own right completions alone, whatever else the reward says.

A problem weighs the same however many of its G completions are right: if k are right, each has the weight 1/k.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, Compares, Loss, Need
from spg_trainer.settings.ranges import Count, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class OwnRight(Algorithm):
    """Learns from right completions alone; each of their masked copies has a term in the loss.

    loss = 1/N sum_b A_b mean_m l_bm, where l_bm is the term of copy m (`copy_terms`), and the mean is over the copies
    that score anything.
    """

    masking: str = "step_merge"
    """A copy shows what the sampler saw before a step."""
    num_masks: Count = 32
    """M, states of a completion in an update."""
    segment_draw: Literal["uniform", "all"] = "uniform"
    """Which states. `uniform`: num_masks random ones. `all`: all, or num_masks evenly spaced ones if there are more."""
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""

    compares: ClassVar[Compares] = "copy"  # each copy has a term of its own
    right_groups_teach: ClassVar[bool] = True
    advantage: ClassVar[str] = "share"  # type: ignore[misc]
    """No choice: right completions of a problem share one weight."""

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"correct"})

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        return {
            "advantages": rows.spread(self.compute_advantages(rows.cut_into_groups(rows.correct.double())))
        }

    def compute_advantages(self, rewards: Tensor) -> Tensor:
        """(P*G,) weights, 1/k for each of the k right completions of a group. rewards: (P, G), 1 = right, 0 = wrong."""
        right = (rewards > 0).double()
        return (right / right.sum(1, keepdim=True).clamp(min=1)).reshape(-1)

    def active(self, advantages: Tensor) -> Tensor:
        return advantages != 0  # wrong completions are not scored, even if the loss reads the reference

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        num_copies = masks.scored.any(-1).sum(-1).clamp(min=1)  # (B,), those that score anything
        weights = batch.advantages.to(logps) / num_copies / batch.totals["completions"]
        result = self.copy_terms(logps, masks, batch)
        return Loss((weights[:, None] * result.loss).sum(), result.metrics)

    @abstractmethod
    def copy_terms(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        """A `Loss` whose `loss` is (B, M), the term l_bm of each copy, 0 for copies that score nothing."""


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """(B, M) the mean of values (B, M, T) over chosen places (B, M, T) bool; 0 where none is chosen."""
    return (values * chosen).sum(-1) / chosen.sum(-1).clamp(min=1).to(values)


@torch.no_grad()
def detached_sum(values: Tensor, chosen: Tensor) -> Tensor:
    """The sum of values (B, M, T) over chosen places (B, M, T) bool, without a graph, for a metric."""
    return (values * chosen).sum()
