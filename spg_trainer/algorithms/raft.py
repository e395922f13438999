"""RAFT, reward-ranked fine-tuning: raises the likelihood of right completions alone.

With graded rewards, right completions are those above the mean reward of the step.

Source: arXiv 2304.06767; arXiv 2504.11343 compares it with GRPO. Our own choices: the ELBO as likelihood; one weight
for each solved problem, however many of its completions are right; equal completions are scored once. `maxrl` (arXiv
2602.02710) weighs right completions in the same way, but its control variate pushes wrong ones down, and it learns
nothing from a problem that is always solved. docs/algorithms/raft.md has the formulas.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, Compares, Loss, Metric, divide_by_normalizer
from spg_trainer.likelihood.bounds import elbo
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import StepMergeMasking
from spg_trainer.likelihood.random_masks import comparable
from spg_trainer.settings.types import Count
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class RAFT(Algorithm):
    """Raises the ELBO of completions better than the mean of the step; the others are not scored.

    loss = -sum_b A_b * ELBO_b * norm_b with the weights A_b of `shares` and norm_b as `normalizer` says. Raises
    ConfigError for values out of range.
    """

    masking: str = "random"
    """What the model is shown when a completion is scored: any masking with a likelihood behind it."""
    num_masks: Count = 4
    normalizer: Literal["length", "completions", "tokens"] = "length"
    """Divisor. `length`: the completion's own tokens, then all completions. `completions`: all completions. `tokens`:
    all tokens of the update."""

    compares: ClassVar[Compares] = "copy"  # each copy has a term of its own
    right_groups_teach: ClassVar[bool] = True
    advantage: ClassVar[str] = "share"  # type: ignore[misc]
    """No choice: a problem's completions above the mean of the whole step share one weight."""

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """The maskings with a likelihood, but not those of the sampler's path: equal completions are scored once, and
        may have been written in different orders."""
        return {
            name: masking
            for name, masking in comparable().items()
            if not isinstance(masking, StepMergeMasking)
        }

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        rewards = rows.cut_into_groups(rows.rewards)
        advantages = rows.spread(shares(rewards))
        return {"advantages": merge_equal(advantages, rows)}

    def compute_advantages(self, rewards: Tensor) -> Tensor:
        return shares(rewards)

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        bound, length = elbo(logps, masks), batch.length.to(logps)
        terms = divide_by_normalizer(-batch.advantages.to(logps) * bound, batch, self.normalizer)
        metrics = {
            "bound/share": Metric(bound.new_tensor(len(bound)), "completions"),
            "bound/elbo": Metric((bound.detach() / length).sum(), "scored_completions"),
        }
        return Loss(terms.sum(), metrics)


def shares(rewards: Tensor) -> Tensor:
    """(P*G,) weights of completions with rewards (P, G), by how far a reward is above the mean of the step.

    This excess is divided by its sum over the group, and multiplied by the largest excess of the group. So with rewards
    of 0 and 1 a solved problem weighs the same whether one of its completions is right or all. The weights are exactly
    zero if all rewards of the step are equal.
    """
    if (rewards == rewards.flatten()[0]).all():  # rounding may put the mean of equal rewards below them
        return torch.zeros_like(rewards).reshape(-1)
    excess = (rewards - rewards.mean()).clamp(min=0)
    total = excess.sum(1, keepdim=True).clamp(min=torch.finfo(rewards.dtype).tiny)
    return (excess / total * excess.amax(1, keepdim=True)).reshape(-1)


def merge_equal(advantages: Tensor, rows: Rows) -> Tensor:
    """(B,) advantages: of a group's equal completions, the first gets the sum of their advantages, the others get 0.

    In the mean over masks the gradient is the same, for fewer passes through the model.
    """
    ids = rows.completion_ids.masked_fill(~rows.completion_mask, -1).cpu()
    if rows.has_turns:  # turns are equal only if the chats before them are equal, too
        ids = torch.cat([rows.prompt_ids.masked_fill(~rows.prompt_mask, -1).cpu(), ids], 1)
    # `number` (B,) says for each completion which of the distinct ones of its group it is.
    distinct, number = torch.cat([rows.group[:, None], ids], 1).unique(dim=0, return_inverse=True)
    first = torch.full((len(distinct),), len(ids)).scatter_reduce(0, number, torch.arange(len(ids)), "amin")
    total = advantages.new_zeros(len(distinct)).index_add(0, number, advantages)
    return torch.zeros_like(advantages).index_copy(0, first, total)
