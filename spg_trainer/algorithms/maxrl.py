"""MaxRL: a policy gradient of the log of the solve rate p, by the first terms of its power series in 1 - p.

    loss = -1/N sum_b A_b log p_b,   A_b = (R_b - Rm) / Rm with Rm the mean R of the group, 0 if Rm is 0

With rewards of 0 and 1 and groups of G, the expected gradient of -loss is that of sum_{k<G} -(1-p)^k/k: the gradient of
p for G = 2, and of log p as G grows. We take the ELBO for log p_b, the log-probability of completion b. Source: arXiv
2602.02710, with the control variate of its code (the -1 of wrong completions); docs/algorithms/maxrl.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from spg_trainer.algorithms.base import Algorithm
from spg_trainer.algorithms.raft import RAFT
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import likelihoods


@dataclass(frozen=True)
class MaxRL(RAFT):
    """Raises the ELBO of completions better than their group's mean, and lowers that of the others.

    Both are stronger where success is rare. Raises ConfigError for negative rewards, and for values out of range.
    """

    normalizer: Literal["length", "completions", "tokens"] = "completions"
    """Divisor. `length`: the completion's own tokens, then all completions. `completions` (paper): all completions.
    `tokens`: all tokens of the update."""

    advantage: ClassVar[str] = "over_mean"  # type: ignore[misc]
    """No choice: the distance from the group's mean, divided by that mean."""

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return likelihoods()

    # RAFT overrides these two, as it learns from right completions alone; MaxRL does not.
    prepare = Algorithm.prepare
    right_groups_teach: ClassVar[bool] = False

    def compute_advantages(self, rewards: Tensor) -> Tensor:
        """(P*G,) of rewards (P, G); exactly zero where all rewards of a group are equal."""
        if (rewards < 0).any():
            least = float(rewards.min())
            raise ConfigError(
                f"$algorithm=maxrl divides by a group's mean reward, and a reward is {least:g}. Use rewards of 0 or "
                "more ($reward_weights correct=1), or $algorithm=spg."
            )
        mean = rewards.mean(1, keepdim=True)
        centred = Algorithm.compute_advantages(self, rewards).view_as(rewards)
        return (centred / mean.where(mean > 0, 1.0)).view(-1)
