"""UniGRPO as Gen-Verse/dLLM-RL computes it (`method: random_masking`), the code that MMaDA's page points to.

Taken over from the code, with what the paper says in brackets:

1. Each token is masked with a probability drawn for each copy, uniform on 0.1..0.9 (lower_p, upper_p) [an exact share
   that rises over the iterations].
2. Each completion has 35 copies; one update, or its minibatches, uses them all [one copy for each iteration].
3. The KL is measured from the model that sampled [from the one that training started from], with the estimator k3, and
   is 0 in the first update.
4. The KL is a sum over the masked tokens of a copy, the clipped surrogate their mean [both are means].
5. Advantages are divided by the deviation of the population, without a floor [not said].
6. Only the tokenizer's eos ends a completion, in rollout, masks and text [not said].

Where this file differs from the code:

- Copies in which nothing was masked count as zero in the mean; the code leaves them out of it.
- Minibatches are made of whole groups; in the code they are made of single copies.

Not taken over from the code: a divisor for each micro-batch; the KL of completions whose advantage is exactly 0;
training of the first padding after the end (`post_num`); answers encoded again from text; the value model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from spg_trainer.algorithms.base import Loss, Metric, Need, normalise
from spg_trainer.algorithms.ratios import clipped_surrogate, kl_k3, token_metrics
from spg_trainer.algorithms.unigrpo import UniGRPO
from spg_trainer.likelihood.bounds import weighted_sum
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.subset_masks import RatioMasking
from spg_trainer.settings.ranges import Count, NotNegative, Share
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class UniGRPORepro(UniGRPO):
    """UniGRPO with the semantics of dLLM-RL's code; the differences are numbered at the top of the module.

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
        terms = normalise(weighted_sum(surrogate, masks), batch, self.normalizer) - self.beta * penalty
        metrics = token_metrics(logps, log_ratio, clipped, masks)
        return Loss(-terms.sum(), {**metrics, "kl": Metric(kl.detach().sum(), "scored_tokens")})
