"""DiSPO on SPG: besides whole completions, it compares one-pass fills of one half-written state of each completion.

    loss = SPG + alpha / N sum_b step_b
    step = -1/Z sum_z sum_{i masked} [min(r A_z, clip(r, 1 +- epsilon) A_z) - beta k3],   A_z = R(fill z) - mean_z R

For each completion one denoising step t is drawn, with probability in proportion to t^4. All masks of the state before
this step are filled in one pass, Z times, and the fills are judged. r and k3 are the ratio of a filled token and its KL
to the reference. So a completion can teach even if its group has equal rewards. Source: arXiv 2602.06462;
docs/algorithms/dispo.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Loss, Metric, Need, with_penalty
from spg_trainer.algorithms.ratios import clipped_surrogate, kl_k3
from spg_trainer.algorithms.spg import SPG
from spg_trainer.settings.ranges import Below1, Fills, NotNegative
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class DiSPO(SPG):
    """SPG, and a clipped ratio for each token that a fill wrote. Raises ConfigError as `SPG`."""

    num_fills: Fills = 2
    """Z, fills of a state, at least 2."""
    step_weight: NotNegative = 0.5
    """alpha, how much the fills count."""
    epsilon: Below1 = 0.5
    """Clip of a filled token's ratio. The paper prints no value; this is d1's."""
    beta: NotNegative = 0.04
    """Weight of the KL of filled tokens to the reference, also d1's; 0 = no reference."""

    @property
    def needs(self) -> frozenset[Need]:
        return with_penalty(self.beta, "old", "fills")

    def probe_steps(
        self, rows: Rows, num_iterations: int, streams: Callable[[int], torch.Generator]
    ) -> Tensor:
        """(B, Z), the drawn step of each completion, once for each fill."""
        last = rows.unmask_step.masked_fill(~rows.completion_mask, -1).amax(-1).tolist()
        chosen = []
        for row, last_step in enumerate(last):
            odds = torch.arange(1.0, last_step + 2) ** 4  # t^4 of t = 1, 2, ...; steps count from 0
            chosen.append(int(torch.multinomial(odds, 1, generator=streams(row))))
        return torch.tensor(chosen)[:, None].expand(-1, self.num_fills)

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`advantages`, and `fill_advantages` (B, Z): a fill's reward minus the mean over the fills of its state."""
        rewards = rows.probe_rewards.cpu()
        # If all rewards are equal, all differences are exactly 0, in spite of rounding.
        shifted = rewards - rewards[:, :1]
        return {**super().prepare(rows), "fill_advantages": shifted - shifted.mean(1, keepdim=True)}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        is_fill = batch.is_fill
        spg = super().loss(logps[~is_fill], masks.select(~is_fill), batch.select(~is_fill))
        # From here on, the rows are the fills alone.
        logps, masks, batch = logps[is_fill], masks.select(is_fill), batch.select(is_fill)
        # The trainer puts `fill_advantages` in the place of `advantages` in rows that are fills (training/fills.py).
        log_ratio, advantages = logps - batch.old_logps, batch.advantages.to(logps)[:, None, None]
        objective, _ = clipped_surrogate(log_ratio, advantages, self.epsilon)
        if self.beta > 0:
            objective = objective - self.beta * kl_k3(logps, batch.ref_logps)
        loss_of_steps = -(objective * masks.scored).sum() / self.num_fills / batch.totals["completions"]
        fills = Metric(loss_of_steps.new_tensor(float(len(logps))), "completions")
        return Loss(spg.loss + self.step_weight * loss_of_steps, spg.metrics | {"fills": fills})
