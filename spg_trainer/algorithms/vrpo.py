"""VRPO, how LLaDA-1.5 learns preferences: DPO on ELBOs in place of log-likelihoods, estimated with little noise.

Source: arXiv 2505.19223; docs/algorithms/vrpo.md has the formulas. There is no vrpo_repro, as its training code is not
public.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from spg_trainer.algorithms.base import Algorithm, Compares, Loss, Metric, Need
from spg_trainer.likelihood.bounds import elbo
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import BlockStepsMasking, StepMergeMasking
from spg_trainer.likelihood.random_masks import comparable
from spg_trainer.settings.types import Count, NotNegative, Positive
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class VRPO(Algorithm):
    """Makes the chosen completion of a pair likelier, against the reference, than the rejected one.

    loss = sum over pairs of [-log sigmoid(margin) - sft_weight * ELBO(chosen) / its tokens] / number of pairs,
    margin = beta * [(ELBO - reference's ELBO)(chosen) - (ELBO - reference's ELBO)(rejected)]. Pairs come from a file
    (--pairs) or from groups. The pair of a group is its best and its worst completion; a group of equal rewards has
    none. Defaults are those of LLaDA-1.5. Raises ConfigError for values out of range, and for a masking under
    which the mean ELBO is no likelihood.
    """

    masking: str = "bernoulli"
    num_masks: Count = 8
    """M; each mask draws a ratio of its own, which has the least variance for a given budget (the paper's n_t = n)."""
    advantage: Literal["best_worst"] = "best_worst"
    """1 for a group's best completion, -1 for its worst, else 0; among equals, the first one counts."""
    beta: Positive = 0.2
    """Weight of the KL to the reference; a larger weight keeps the model nearer to it. We quote 0.2, and 8 masks, from
    memory."""
    sft_weight: NotNegative = 0.05
    """Weight of the supervised loss of chosen completions, per token; we quote 0.05 from memory, too."""

    needs: ClassVar[frozenset[Need]] = frozenset({"reference", "pairs"})
    compares: ClassVar[Compares] = "group"

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """The maskings with a likelihood, and dTRPO's. Pairs of a file lack the sampler's path, which others need."""
        maskings = {
            name: masking
            for name, masking in comparable().items()
            if not isinstance(masking, StepMergeMasking)
        }
        return {**maskings, "block_steps": BlockStepsMasking()}

    def compute_advantages(self, rewards: Tensor) -> Tensor:
        advantages = torch.zeros_like(rewards)
        with_pair = (rewards.amax(1) > rewards.amin(1)).nonzero().squeeze(-1)  # the groups of unequal rewards
        # `argmax` and `argmin` both take the first of equals.
        advantages[with_pair, rewards[with_pair].argmax(1)] = 1.0
        advantages[with_pair, rewards[with_pair].argmin(1)] = -1.0
        return advantages.reshape(-1)

    def active(self, advantages: Tensor) -> Tensor:
        return advantages != 0  # only pairs are compared with the reference

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        bound, length = elbo(logps, masks), batch.length
        per_token = (bound / length).detach().sum()
        gain = batch.total(bound - elbo(batch.ref_logps.to(logps), masks))
        episode_bound, episode_length = batch.total(bound), batch.total(length)
        advantages = batch.first(batch.advantages)
        # Episodes are in the order of groups, and both episodes of a pair are in the batch. So the i-th of the chosen
        # episodes and the i-th of the rejected ones are a pair.
        chosen, rejected = advantages > 0, advantages < 0
        margin = self.beta * (gain[chosen] - gain[rejected])
        num_pairs = batch.totals["scored_completions"] / 2  # of the whole update; a pair has two completions
        preference = -logsigmoid(margin).sum() / num_pairs
        supervised = -self.sft_weight * (episode_bound / episode_length)[chosen].sum() / num_pairs
        metrics = {
            "pairs/accuracy": per_pair(margin > 0, num_pairs),
            "pairs/margin": per_pair(margin, num_pairs),
            "pairs/chosen": per_pair(gain[chosen], num_pairs),
            "pairs/rejected": per_pair(gain[rejected], num_pairs),
            "bound/share": Metric(episode_bound.new_tensor(len(logps)), "completions"),  # of all completions
            "bound/elbo": Metric(per_token, "scored_completions"),
            "loss/preference": Metric(preference.detach(), "update"),
            "loss/supervised": Metric(supervised.detach(), "update"),
        }
        return Loss(preference + supervised, metrics)


def per_pair(values: Tensor, num_pairs: float) -> Metric:
    """The metric that is the mean of values (pairs at hand,) over the `num_pairs` pairs of the update."""
    return Metric(values.detach().sum().double() / num_pairs, "update")
