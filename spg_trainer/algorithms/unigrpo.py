"""UniGRPO (MMaDA): diffu-GRPO on partly masked completions; in each iteration a larger share is masked.

    loss = -1/N sum_b 1/M sum_m 1/k sum_{i masked} [min(r A_b, clip(r, 1 - epsilon, 1 + epsilon) A_b) - beta kl]

kl is the estimator k3 of the KL to the reference. Prompts stay clean; current, old and reference model see the same k
masked tokens. Over the iterations their share of the completion rises to 1. Source: arXiv 2505.15809, section 3 and
Algorithm 1. The mean over the k masked tokens needs no code here: the masking weighs each of them by n/k, and
normalizer=length divides by the completion's n tokens. `UniGRPORepro` follows the code that the
paper's authors point to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from spg_trainer.algorithms.base import Advantage, Loss, Metric, Need, divide_by_normalizer
from spg_trainer.algorithms.diffu_grpo import DiffuGRPO
from spg_trainer.algorithms.ratios import clipped_surrogate, kl_k3, token_metrics
from spg_trainer.likelihood.bounds import weighted_sum
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import RatioMasking
from spg_trainer.settings.types import Below1, Count, NotNegative, Share
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class UniGRPO(DiffuGRPO):
    """Token-level GRPO on tokens seen in the context of others. Raises ConfigError for values out of range."""

    masking: str = "rising"
    """A share of masked tokens that rises over the iterations to all (Algorithm 1)."""
    num_masks: Count = 1
    """M; the paper draws one mask for each iteration."""
    p_mask_prompt: Below1 = 0.0
    """Chance that a prompt token is masked; 0 in the paper (section 3)."""
    advantage: Advantage = "mean_std"
    """How a reward becomes an advantage: as in GRPO, which the paper names, divided by the group's deviation."""
    epsilon: Below1 = 0.2
    """Clip of a token's ratio. We found no value in the paper; this one is from its authors' code."""
    beta: NotNegative = 0.01
    """Weight of the KL to the reference; 0 = no reference. The value is from the authors' code."""


@dataclass(frozen=True)
class UniGRPORepro(UniGRPO):
    """UniGRPO with the semantics of dLLM-RL's code; docs/experiments/differences.md lists the differences.

    Raises ConfigError for values out of range.
    """

    masking: str = "bernoulli"
    num_masks: Count = 35
    advantage: Literal["z_score"] = "z_score"
    normalizer: Literal["length"] = "length"
    beta: NotNegative = 0.01
    """Weight of the KL to the model that sampled; it acts from the second update of a rollout on."""
    min_ratio: Share = 0.1
    """Least probability with which a token of a copy is masked (lower_p)."""
    max_ratio: Share = 0.9
    """Greatest such probability, at least `min_ratio` (upper_p)."""

    end_tokens: ClassVar[Literal["any", "eos"]] = "eos"
    needs: ClassVar[frozenset[Need]] = frozenset({"old"})

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = self.min_ratio <= self.max_ratio and self.max_ratio > 0
        self.require("max_ratio", fine, "above 0 and at least min_ratio, e.g. 0.9")

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"bernoulli": RatioMasking()}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        log_ratio = logps - batch.old_logps
        advantages = batch.advantages.to(logps)[:, None, None]
        surrogate, clipped = clipped_surrogate(log_ratio, advantages, self.epsilon)
        kl = kl_k3(logps, batch.old_logps)
        penalty = kl.sum(-1).mean(-1) / batch.totals["completions"]
        terms = (
            divide_by_normalizer(weighted_sum(surrogate, masks), batch, self.normalizer) - self.beta * penalty
        )
        metrics = token_metrics(logps, log_ratio, clipped, masks)
        return Loss(-terms.sum(), {**metrics, "kl": Metric(kl.detach().sum(), "scored_tokens")})
