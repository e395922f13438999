"""MAPG, mask-aware policy gradient: where a step writes is part of the action, as are the tokens that it writes.

    loss = -1/N sum_b [PPO(r_b, A_b) + position_weight PPO(q_b, A_b)]
    r_b  = exp mean_i (log p(x_i) - log p_old(x_i)),    q_b = exp mean_i (log c_i - log c_old_i)
    c_i  = exp(z_i / tau) / (exp(z_i / tau) + sum_{j later} exp(max_v z_j(v) / tau))

PPO(r, A) is min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A). i are the scored tokens of b: those that the drawn
segments of the sampler's path wrote, up to the end of the completion. z_i is the raw logit of token i, and z_j(v) that
of the token v at the place j, in the state before i's segment. "j later" are all places of the canvas that later
segments wrote, or that no step wrote. Source: the published code (github.com/Haran71/mask-aware-policy-gradients) of
arXiv 2607.15200; docs/algorithms/mapg.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Advantage, Algorithm, Compares, Loss, Metric, Need
from spg_trainer.algorithms.ratios import clipped_surrogate
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import PositionMasking
from spg_trainer.settings.types import Below1, Count, NotNegative, Positive, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class MAPG(Algorithm):
    """Two clipped ratios for each completion, one of its tokens and one of its positions; their objectives are added.

    Raises ConfigError for values out of range.
    """

    masking: str = "step_merge"
    """A copy shows what the sampler saw when a segment of its path began."""
    num_masks: Count = 12
    """K, segments of a completion that an update scores; others are drawn for the next update."""
    steps_per_segment: Count = 4
    """Denoising steps of a segment: the published code cuts 128 steps into 32 segments."""
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""
    advantage: Advantage = "leave_one_out"
    """How a reward becomes an advantage."""
    epsilon: Below1 = 3e-4
    """Both ratios are clipped below 1 - epsilon."""
    epsilon_high: NotNegative = 4e-4
    """Both ratios are clipped above 1 + epsilon_high."""
    position_weight: NotNegative = 1.0
    """Weight of the objective of positions beside that of tokens."""
    position_temperature: Positive = 1.0
    """tau, by which logits are divided where positions compete."""

    needs: ClassVar[frozenset[Need]] = frozenset({"old", "measured"})
    compares: ClassVar[Compares] = "episode"

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": PositionMasking()}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        positions = self.position_logps(batch.measured, masks)
        old_positions = self.position_logps(batch.old_measured, masks)
        # From here on there is one value for each of E episodes, whose turns count as one text.
        count = batch.total(masks.scored.sum((1, 2)).to(logps)).clamp(min=1)
        advantages = batch.first(batch.advantages).to(logps)

        def objective(difference: Tensor, name: str) -> tuple[Tensor, dict[str, Metric]]:
            log_ratio = batch.total((difference * masks.scored).sum((1, 2))) / count
            surrogate, clipped = clipped_surrogate(log_ratio, advantages, self.epsilon, self.epsilon_high)
            ratio = batch.spread(log_ratio.detach().exp()).sum()
            clipped_turns = batch.spread(clipped.to(logps)).sum()
            return surrogate, {
                f"{name}/mean": Metric(ratio, "scored_completions"),
                f"{name}/clip_fraction": Metric(clipped_turns, "rewarded_completions"),
            }

        tokens, metrics = objective(logps - batch.old_logps, "ratio")
        places, of_positions = objective(positions - old_positions, "position_ratio")
        metrics |= of_positions
        metrics["logps"] = Metric(logps.detach().sum(), "scored_tokens")
        metrics["logps/positions"] = Metric(positions.detach().sum(), "scored_tokens")
        terms = tokens + self.position_weight * places
        return Loss(-terms.sum() / batch.totals["completions"], metrics)

    def position_logps(self, measured: Tensor, masks: Masks) -> Tensor:
        """(B, M, T) log-probability that a scored token's place was written before the later ones; 0 elsewhere.

        measured: (B, M, T) raw logits, of the token where it is scored, else the highest one.
        """
        score = measured / self.position_temperature
        later = masks.measured & ~masks.scored
        competes = later.any(-1, keepdim=True)
        # A sum over no place would have no finite gradient. Such a copy takes all places, and does not use the sum.
        others = score.masked_fill(~later & competes, float("-inf")).logsumexp(-1, keepdim=True)
        return torch.where(masks.scored & competes, score - torch.logaddexp(score, others), 0.0)
