"""Importance ratios, their clip, and KL penalties: what the algorithms of GRPO's kind share.

All work on tensors of one shape, (B, M, T) for tokens or (B,) for sequences; advantages broadcast.
"""

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Metric
from spg_trainer.batch import Batch


def clipped_surrogate(
    log_ratio: Tensor, advantages: Tensor, epsilon: float, epsilon_high: float | None = None
) -> tuple[Tensor, Tensor]:
    """min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A) of PPO, to be raised, and where the clip stopped the gradient.

    log_ratio: log of the probability under the current weights over that of the model that sampled. epsilon_high:
    `epsilon` unless given. Source: PPO (arXiv 1707.06347), equation 7.
    """
    # float32 overflows at exp(88.8), and 0 * inf is nan. For A > 0 the clip holds such a ratio anyway; for A < 0 it has
    # no gradient beyond exp(80), where none could be used.
    ratio = log_ratio.clamp(max=80).exp()
    high = epsilon if epsilon_high is None else epsilon_high
    free, held = ratio * advantages, ratio.clamp(1 - epsilon, 1 + high) * advantages
    return torch.minimum(free, held), held.detach() < free.detach()


def kl_k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = reference - current: never negative, unbiased for KL(current || reference).

    Source: http://joschu.net/blog/kl-approx.html, estimator k3; GRPO (arXiv 2402.03300), equation 4.
    """
    difference = ref_logps - logps
    return difference.expm1() - difference


def kl_k2(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Half of the squared difference: its gradient is that of the KL. Source: the same, estimator k2."""
    return (logps - ref_logps).square() / 2


@torch.no_grad()
def sequence_metrics(bound: Tensor, log_ratio: Tensor, stopped: Tensor, batch: Batch) -> dict[str, Metric]:
    """What algorithms with one ratio per completion show; bound, log_ratio, stopped: (B,).

    bound/share: of the completions, those that were scored. Of these: bound/elbo in nats per token, ratio/mean, and
    ratio/clip_fraction, the share that the clip took out of the gradient.
    """
    per_token = bound / batch.length.to(bound)
    return {
        "bound/share": Metric(bound.new_tensor(len(bound)), "completions"),
        "bound/elbo": Metric(per_token.sum(), "scored_completions"),
        "ratio/mean": Metric(log_ratio.exp().sum(), "scored_completions"),
        "ratio/clip_fraction": Metric(stopped.to(bound).sum(), "scored_completions"),
    }
