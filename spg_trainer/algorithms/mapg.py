"""MAPG, mask-aware policy gradient: which positions a step unmasks is part of the action, as are the tokens there.

    loss = -1/N sum_b PPO(r_b, A_b),    r_b = exp 1/n_b sum_m w_m (log pi_m - log pi_m of the model that sampled)
    log pi_m = sum_{a = 1..k} [ log p(x_{i_a}) + s_{i_a} - log sum_{j left} exp s_j ],   s_j = 1/tau log max_v p_j(v)

PPO(r, A) is min(r A, clip(r, 1 +- epsilon) A). Copy m shows the state before a segment of the sampler's path. The
segment unmasked the positions i_1 .. i_k in this order. "j left" are the positions of i_a's block that were masked when
the segment began, without i_1 .. i_{a-1}. w_m is one over the chance that the segment has a copy. Source: arXiv
2607.15200, as a third party's notes describe it; docs/algorithms/mapg.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Advantage, Loss, Metric, Need
from spg_trainer.algorithms.ratios import SequenceRatio
from spg_trainer.likelihood.bounds import elbo
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import PositionMasking
from spg_trainer.settings.ranges import Below1, Count, Positive, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class MAPG(SequenceRatio):
    """A clipped ratio for each completion, of the probabilities of its path (tokens and positions).

    Needs --remasking plackett_luce. Raises ConfigError for values out of range.
    """

    masking: str = "step_merge"
    """A copy shows what the sampler saw when a segment of its path began."""
    num_masks: Count = 12
    """K, segments of a completion that are scored (paper)."""
    steps_per_segment: Count = 1
    """Denoising steps of a segment; 1 is exact. The paper has 32 segments, so 4 for 128 steps."""
    segment_draw: Literal["uniform", "all"] = "uniform"
    """Which segments have a copy. `uniform`: num_masks random ones. `all`: all; if these are more than num_masks,
    neighbours merge."""
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""
    advantage: Advantage = "z_score"
    """How a reward becomes an advantage."""
    epsilon: Below1 = 0.2
    """Clip of a completion's ratio."""
    beta: Zero = 0.0
    """0: without a penalty."""
    position_temperature: Positive = 0.5
    """tau; it must equal the rollout's (--position-temperature)."""

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"old", "order", "measured"})

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": PositionMasking()}

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`advantages`, and `path_place` (B, T), each token's number on the path; tokens never unmasked come last."""
        step, order = rows.unmask_step.cpu(), rows.order.cpu()
        step_or_last = torch.where(step < 0, step.max() + 1, step)
        key = step_or_last * (order.max() + 1) + order  # sorts by step, and within a step by order
        return {**super().prepare(rows), "path_place": key.argsort(dim=-1, stable=True).argsort(-1)}

    def log_ratio(self, difference: Tensor, length: Tensor) -> Tensor:
        return difference / length

    def bound(self, logps: Tensor, measured: Tensor | None, masks: Masks, batch: Rows) -> Tensor:
        return elbo(logps + self.position_logps(measured, masks, batch), masks)

    def position_logps(self, measured: Tensor, masks: Masks, batch: Rows) -> Tensor:
        """(B, M, T) log-probability of each scored token's position among the positions left; 0 elsewhere."""
        scores = measured / self.position_temperature

        def by_block(values: Tensor) -> Tensor:
            """(..., T) -> (..., blocks, S) with blocks of S tokens, as positions are drawn within a block."""
            return values.unflatten(-1, (-1, self.block_length))

        place, score = by_block(batch.path_place)[:, None], by_block(scores)
        # `measured` are the places that were masked before the segment (`PositionMasking`).
        scored, masked_before = by_block(masks.scored), by_block(masks.measured)
        # (..., S, S): whether the second position was left when the first one was drawn.
        left = masked_before[..., None, :] & (place[..., None, :] >= place[..., :, None])
        # Places that are not scored are multiplied by 0 below. They still need a position that is left: a sum over none
        # would have no finite gradient.
        left = left | ~scored[..., None]
        total = score[..., None, :].masked_fill(~left, float("-inf")).logsumexp(-1)
        return ((score - total) * scored).flatten(-2)

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        result = super().loss(logps, masks, batch)
        with torch.no_grad():
            positions = self.position_logps(batch.measured, masks, batch).sum()
        return Loss(result.loss, {**result.metrics, "logps/positions": Metric(positions, "scored_tokens")})
