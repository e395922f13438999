"""d2-StepMerge: GRPO of single tokens on the sampler's trajectory, cut into K segments that are scored at once.

    loss = -1/groups sum_g sum_{b in g, i} [min(r A_b, clip(r, 1 +- epsilon) A_b) - beta k3] / tokens of g

r and k3 are the ratio of token i and its KL to the reference. Token i is predicted from what the sampler saw when the
segment of i began, after a prompt in which some tokens are masked. With K = 1 this is d1's single pass; with as many
segments as steps it is the sampler's path. Source: arXiv 2509.21474, formulas as in its code;
docs/algorithms/d2_stepmerge.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spg_trainer.algorithms.ratios import TokenRatio
from spg_trainer.likelihood.bounds import weighted_sum
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import TraceMasking
from spg_trainer.likelihood.random_masks import MASKINGS
from spg_trainer.settings.types import Below1, Count, Positive
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class D2StepMerge(TokenRatio):
    """diffu-GRPO on segments of the sampler's trajectory. Raises ConfigError for values out of range."""

    masking: str = "step_merge"
    """A copy shows what the sampler saw when a segment of its steps began."""
    num_masks: Count = 16
    """K, the number of segments: 16, on GSM8K 8 (paper)."""
    p_mask_prompt: Below1 = 0.15
    """Chance that a prompt token is masked (as in d1, from which the code starts)."""
    score_temperature: Positive = 1.0
    """The temperature at which log-probabilities are taken: 1, or the rollout's, at which the tokens were drawn."""

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": MASKINGS["step_merge"], "trace": TraceMasking()}

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`advantages`, and `mean_length` (B,), the mean number of tokens of a turn in the completion's group.

        The mean is over turns, not over episodes. Otherwise a group would count less the longer its episodes last, and
        the model would learn to avoid choices that need luck to go on.
        """
        rewards = rows.cut_into_groups(rows.rewards)
        lengths = rows.completion_mask.sum(-1).cpu().double()
        # `rows.total` sums over the turns of an episode.
        tokens = rows.total(lengths).view_as(rewards)
        turns = rows.total(torch.ones_like(lengths)).view_as(rewards)
        mean_length = (tokens.mean(1, keepdim=True) / turns.mean(1, keepdim=True)).expand_as(rewards)
        return {**super().prepare(rows), "mean_length": rows.spread(mean_length.reshape(-1))}

    def weigh(self, objective: Tensor, masks: Masks, batch: Rows) -> Tensor:
        factor = 1 / (batch.mean_length * batch.totals["completions"])
        return weighted_sum(objective, masks) * factor.to(objective)
