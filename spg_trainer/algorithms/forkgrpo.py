"""ForkGRPO: GRPO on the steps at which threshold decoding was unsure and fell back on the leftmost masked token.

    loss = -1/N sum_b 1/|F_b| sum_{t in F_b} clipped(r_t, A_b)

F_b are the fallback steps of a completion, r_t is the ratio of the one token that such a step wrote, and clipped(r, A)
is min(r A, clip(r, 1 +- epsilon) A). The other steps wrote many tokens each, of which the model was sure; these are not
scored. Source: Fork-dLLM (University of Amsterdam, 2026), whose code is not public; docs/algorithms/forkgrpo.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from spg_trainer.algorithms.base import Advantage
from spg_trainer.algorithms.ratios import TokenRatio
from spg_trainer.likelihood.bounds import weighted_sum
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import StepMergeMasking
from spg_trainer.settings.types import Below1, Count, NotNegative, Positive, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class ForkGRPO(TokenRatio):
    """Token-level GRPO on the fallback steps of the sampler alone.

    Needs --unmasking threshold with --fallback leftmost. Raises ConfigError for values out of range.
    """

    masking: str = "step_merge"
    """A copy shows what the sampler saw at a step at which it fell back."""
    num_masks: Count = 32
    """The most fallback steps of a completion that are scored; if it has more, they are drawn at random."""
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""
    advantage: Advantage = "mean_std"
    """How a reward becomes an advantage; the paper divides by the group's standard deviation (GRPO)."""
    epsilon: Below1 = 0.2
    """Clip of a token's ratio; it never acts if a rollout has one update, as in the paper's runs."""
    beta: NotNegative = 0.0
    """Weight of the KL to the reference; 0 = no reference (the paper's runs)."""
    score_temperature: Positive = 1.0
    """The temperature at which log-probabilities are taken: 1, or the rollout's, at which the tokens were drawn."""

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": StepMergeMasking(segment_draw="fallback")}

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`advantages`, and `fallbacks` (B,), |F_b|: if tasks have several turns, summed over the episode."""
        fallbacks_of_turn = (rows.fallback & rows.completion_mask).sum(-1).cpu()
        # `total` sums over the turns of an episode, `spread` gives the sum to each of them.
        return {**super().prepare(rows), "fallbacks": rows.spread(rows.total(fallbacks_of_turn)).double()}

    def weigh(self, objective: Tensor, masks: Masks, batch: Rows) -> Tensor:
        factor = 1 / (batch.fallbacks.clamp(min=1) * batch.totals["completions"])
        return weighted_sum(objective, masks) * factor.to(objective)
