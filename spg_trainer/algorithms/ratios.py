"""Importance ratios, their clip, and KL penalties: what the algorithms of GRPO's kind share.

The functions work on tensors of one shape, (B, M, T) for tokens or (B,) for sequences; advantages broadcast.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, Compares, Loss, Metric, Need, with_penalty
from spg_trainer.likelihood.bounds import elbo
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import ElboEpsMasking, comparable
from spg_trainer.settings.types import Below1, NotNegative
from spg_trainer.tensors import Masks, Rows


def clipped_surrogate(
    log_ratio: Tensor, advantages: Tensor, epsilon: float, epsilon_high: float | None = None
) -> tuple[Tensor, Tensor]:
    """PPO's objective min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A), and a bool tensor: where the clip acted.

    A loss is minus this objective. Where the clip acted, the objective has no gradient.

    log_ratio: (B,) or (B, M, T), the log-probability under the current weights minus that under the model that sampled.
    advantages: of the same shape, or broadcast to it; so are both results. epsilon_high: `epsilon` unless given.
    Source: PPO (arXiv 1707.06347), equation 7.
    """
    # float32 overflows at exp(88.8), and 0 * inf is nan. For A > 0 the clip acts on such a ratio anyway. For A < 0 a
    # ratio beyond exp(80) gets no gradient here; a gradient of that size would be of no use.
    ratio = log_ratio.clamp(max=80).exp()
    high = epsilon if epsilon_high is None else epsilon_high
    unclipped, clipped = ratio * advantages, ratio.clamp(1 - epsilon, 1 + high) * advantages
    return torch.minimum(unclipped, clipped), clipped.detach() < unclipped.detach()


def kl_k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = ref_logps - logps: never negative, unbiased for KL(current || reference).

    logps, ref_logps, and the result: (B, M, T), or (B,) for whole sequences.
    Source: http://joschu.net/blog/kl-approx.html, estimator k3; GRPO (arXiv 2402.03300), equation 4.
    """
    difference = ref_logps - logps
    return difference.expm1() - difference


def kl_k2(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Half of the squared difference: its gradient is that of the KL. Source: as for `kl_k3`, estimator k2.

    logps, ref_logps, and the result: (B, M, T), or (B,) for whole sequences.
    """
    return (logps - ref_logps).square() / 2


@torch.no_grad()
def sequence_metrics(bound: Tensor, log_ratio: Tensor, batch: Rows) -> dict[str, Metric]:
    """The metrics of algorithms with one ratio per completion. bound, log_ratio: (B,).

    `bound/share` is the share of completions that are scored; the batch holds only these. `bound/elbo`, in nats per
    token, and `ratio/mean` are means over the scored completions.
    """
    per_token = bound / batch.length.to(bound)
    return {
        "bound/share": Metric(bound.new_tensor(len(bound)), "completions"),
        "bound/elbo": Metric(per_token.sum(), "scored_completions"),
        "ratio/mean": Metric(log_ratio.exp().sum(), "scored_completions"),
    }


@torch.no_grad()
def token_metrics(logps: Tensor, log_ratio: Tensor, clipped: Tensor, masks: Masks) -> dict[str, Metric]:
    """The metrics of algorithms with one ratio per token. logps, log_ratio: (B, M, T). clipped: (B, M, T) bool.

    `logps` and `ratio/mean` are means over scored tokens. `ratio/clip_fraction`: of the tokens with an
    advantage, the share for which the clip acted.
    """
    return {
        "logps": Metric(logps.sum(), "scored_tokens"),
        "ratio/mean": Metric((log_ratio.exp() * masks.scored).sum(), "scored_tokens"),
        "ratio/clip_fraction": Metric(clipped.sum(), "rewarded_tokens"),
    }


@dataclass(frozen=True)
class TokenRatio(Algorithm):
    """A clipped ratio for each token, weighted by the subclass (`weigh`), and a KL penalty to the reference."""

    epsilon: Below1 = 0.5
    """Clip: a token has no gradient once its ratio is further than this from 1 in the direction of its advantage. The
    default is d1's."""
    beta: NotNegative = 0.04
    """Weight of the KL to the model that training started from; 0 = no reference (d1)."""

    compares: ClassVar[Compares] = "copy"  # each copy has a term of its own

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """Those that give each token a log-probability, of which a ratio can be made."""
        return {name: m for name, m in super().maskings().items() if not isinstance(m, ElboEpsMasking)}

    @property
    def needs(self) -> frozenset[Need]:
        return with_penalty(self.beta, "old")

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        log_ratio = logps - batch.old_logps
        objective, clipped = clipped_surrogate(
            log_ratio, self.token_advantages(batch).to(logps), self.epsilon
        )
        metrics = token_metrics(logps, log_ratio, clipped, masks)
        if self.beta > 0:
            kl = self.penalty(kl_k3(logps, batch.ref_logps), log_ratio)
            objective = objective - self.beta * kl
            metrics["kl"] = Metric(kl.detach().sum(), "scored_tokens")
        return Loss(-self.weigh(objective, masks, batch).sum(), metrics)

    def token_advantages(self, batch: Rows) -> Tensor:
        """The advantage of each token of each copy, to be broadcast to (B, M, T); here, its completion's advantage."""
        return batch.advantages[:, None, None]

    def penalty(self, kl: Tensor, log_ratio: Tensor) -> Tensor:
        """(B, M, T) the penalty of each token, which `beta` multiplies, from its estimated KL and its log-ratio."""
        return kl

    @abstractmethod
    def weigh(self, objective: Tensor, masks: Masks, batch: Rows) -> Tensor:
        """(B,) the objective of each completion, from the objectives (B, M, T) of its tokens in all copies."""


@dataclass(frozen=True)
class SequenceRatio(Algorithm):
    """A clipped ratio for each episode, from the sum of its turns' ELBOs under the same masks, and a KL penalty."""

    epsilon: Below1 = 0.2
    """The ratio is clipped below 1 - epsilon."""
    epsilon_high: NotNegative | None = None
    """The ratio is clipped above 1 + epsilon_high; none = epsilon."""
    beta: NotNegative = 0.0
    """Weight of the KL penalty; 0 needs no reference model."""

    compares: ClassVar[Compares] = "episode"

    @property
    def needs(self) -> frozenset[Need]:
        return with_penalty(self.beta, "old")

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """The maskings with a likelihood, since the ratio compares probabilities of whole completions."""
        return comparable()

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        # The measured figures are None unless `needs` names them.
        figure, old_figure = batch.get("measured"), batch.get("old_measured")
        bound = self.bound(logps, figure, masks, batch)
        old = self.bound(batch.old_logps, old_figure, masks, batch)
        # From here on there is one value for each of E episodes, the sum over its turns; metrics are of turns again.
        length, advantages = batch.total(batch.length.to(logps)), batch.first(batch.advantages).to(logps)
        log_ratio = self.log_ratio(batch.total(bound - old), length)
        surrogate, clipped = clipped_surrogate(log_ratio, advantages, self.epsilon, self.epsilon_high)
        metrics = sequence_metrics(bound, batch.spread(log_ratio), batch)
        clipped_turns = batch.spread(clipped.to(bound)).sum()
        metrics["ratio/clip_fraction"] = Metric(clipped_turns, "rewarded_completions")
        terms = -surrogate / self.divisor(length)
        if self.beta > 0:
            reference = batch.total(elbo(batch.ref_logps, masks))
            kl = self.penalty(batch.total(bound), reference, length)
            metrics["kl"] = Metric(batch.spread(kl.detach()).sum(), "scored_completions")
            terms = terms + self.beta * kl
        num_episodes = batch.totals["completions"]  # in `totals`, an episode counts as one completion
        return Loss(terms.sum() / num_episodes, metrics)

    def bound(self, logps: Tensor, measured: Tensor | None, masks: Masks, batch: Rows) -> Tensor:
        """(B,) what stands for the log-probability of a completion; here, its ELBO.

        measured: (B, M, T), `batch.measured` or `batch.old_measured`, by the same model as `logps`; None unless the
        algorithm needs `measured` (`Algorithm.needs`).
        """
        return elbo(logps, masks)

    @abstractmethod
    def log_ratio(self, difference: Tensor, length: Tensor) -> Tensor:
        """(E,) the log-ratio of episodes, from the difference of their bounds and their numbers of tokens."""

    def penalty(self, bound: Tensor, reference: Tensor, length: Tensor) -> Tensor:
        """(E,) the penalty of each episode, which `beta` multiplies, from its ELBOs under model and reference."""
        return kl_k2(bound, reference)

    def divisor(self, length: Tensor) -> Tensor | float:
        """What the surrogates of episodes are divided by: (E,), or one number for all."""
        return 1.0
