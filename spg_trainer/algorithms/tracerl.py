"""TraceRL, without its value model: GRPO on the sampler's trajectory; each segment of a few steps is one sample.

    loss = 1/segments sum_segments [ -1/k sum_i min(r A, clip(r, 1 +- epsilon) A) + beta sum_i k3 ]

i is one of the k tokens of a segment, r its ratio, and k3 its KL to the model that sampled. Source: arXiv 2509.06949,
formulas as in its code (Gen-Verse/dLLM-RL, rl_llada.py); docs/algorithms/tracerl.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spg_trainer.algorithms.base import Advantage, Algorithm, Compares, Loss, Metric, Need
from spg_trainer.algorithms.ratios import clipped_surrogate, kl_k3, token_metrics
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import TraceMasking
from spg_trainer.likelihood.random_masks import MASKINGS
from spg_trainer.settings.types import Below1, Count, NotNegative, Positive, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class TraceRL(Algorithm):
    """Makes the tokens of good completions likelier in the states in which the sampler wrote them.

    A completion with more segments weighs more. Defaults are the paper's. Raises ConfigError for values out of range.
    """

    masking: str = "step_merge"
    """A copy shows what the sampler saw when a segment's first step began."""
    num_masks: Count = 64
    """The most segments of a completion; if there would be more, they become longer."""
    steps_per_segment: Count = 8
    """Denoising steps of a segment; called `shrink` in the code."""
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""
    advantage: Advantage = "z_score"
    """How a reward becomes an advantage; the code divides by the population's deviation, without a floor."""
    epsilon: Below1 = 0.2
    """Clip: a token has no gradient once its ratio is further than this from 1 in the direction of its advantage."""
    beta: NotNegative = 0.01
    """Weight of the KL to the model that sampled, summed over tokens; this KL is 0 in a rollout's first update."""
    score_temperature: Positive = 1.0
    """The temperature at which log-probabilities are taken: 1, or the rollout's, at which the tokens were drawn."""

    needs: ClassVar[frozenset[Need]] = frozenset({"old"})
    compares: ClassVar[Compares] = "copy"  # each copy has a term of its own

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": MASKINGS["step_merge"], "trace": TraceMasking()}

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`advantages`, and `segments`, the mean number of segments of an episode of the step."""
        num_segments = self.make_masking().num_segments(rows)
        return {**super().prepare(rows), "segments": num_segments / len(rows.last_turns)}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        log_ratio, advantages = logps - batch.old_logps, batch.advantages.to(logps)[:, None, None]
        surrogate, clipped = clipped_surrogate(log_ratio, advantages, self.epsilon)
        kl, scored = kl_k3(logps, batch.old_logps), masks.scored
        means = (surrogate * scored).sum(-1) / scored.sum(-1).clamp(min=1)
        # An update may have only a part of the step's episodes. Their number times the mean stands for their segments.
        num_segments = batch.segments * batch.totals["completions"]
        terms = (means - self.beta * kl.sum(-1)).sum(-1) / num_segments
        metrics = token_metrics(logps, log_ratio, clipped, masks)
        return Loss(-terms.sum(), {**metrics, "kl": Metric(kl.detach().sum(), "scored_tokens")})
