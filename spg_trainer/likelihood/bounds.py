"""Lower and upper bounds on the log-likelihood of a completion, from the logps of its masked copies.

Axes: B completions, M masked copies of each, T completion tokens.

logps: (B, M, T) log-probabilities at scored positions, zero elsewhere. Every bound is (B,), in nats, summed over the
tokens of a completion and never normalised by its length; all are differentiable in logps. The masking that draws the
masks decides what a masked token weighs (`Masks.weight`).
"""

import math

import torch
from torch import Tensor

from spg_trainer.tensors import Masks


def weighted_sum(terms: Tensor, masks: Masks) -> Tensor:
    """(B,) masks.scale * mean over masks of the sum over tokens of masks.weight * terms. terms: (B, M, T).

    The factor `scale` is 1 if the masks are about the whole completion. If they are about a part that was drawn, such
    as one block, it makes the result unbiased for the whole completion.
    """
    weight, scale = masks.weight, masks.scale
    if (known := masks.of_bounds) is not None and known["weight"].dtype == terms.dtype:
        weight, scale = known["weight"], known["scale"]
    sums = (weight.to(terms.dtype) * terms).sum(-1)
    return scale.to(terms.dtype) * sums.mean(-1)


def elbo(logps: Tensor, masks: Masks) -> Tensor:
    """(B,) the evidence lower bound: the `weighted_sum` of logps."""
    return weighted_sum(logps, masks)


def eubo(logps: Tensor, masks: Masks, beta: float) -> Tensor:
    """(B,) SPG's evidence upper bound without its constant: for each token, the log of the power mean of p over masks.

        scale * |part| / |seen| * sum over seen tokens of log(mean over masks of weight * p^beta) / beta

    In the mean over masks, a mask in which the token is not scored counts as zero. *seen* are the tokens that any mask
    scores, and *part* are all tokens that the masks could have scored: those of the completion, or of the part of it
    that was drawn for all masks (`Masks.part`). Tokens of the part that no mask scores are missing in the sum; the
    factor |part| / |seen| makes up for them. scale, weight: as in `weighted_sum`.

    beta: exponent, > 0. SPG's proof (arXiv 2510.09541, Corollary 1) asks for >= 1. The result is a certified upper
    bound only if beta is at least the number of tokens. With a smaller beta, it is a penalty that weighs contexts by
    confidence. With one mask the gradient is that of the ELBO.
    """
    known = masks.of_bounds
    if known is None or known["factor"].dtype != logps.dtype:
        known = known_of(masks, logps.dtype)
    unseen = known["unseen"]
    log_powers = known["log_weight"] + (logps if beta == 1 else beta * logps)
    log_means = (log_powers.logsumexp(1) - math.log(logps.shape[1])).masked_fill(unseen, 0.0)
    sums = known["factor"] * log_means.sum(-1)
    return sums if beta == 1 else sums / beta


def known_of(masks: Masks, dtype: torch.dtype) -> dict[str, Tensor]:
    """What the bounds need to know of the masks alone.

    unseen: (B, T) bool, the tokens that no mask scores. factor: (B,) of `dtype`, scale * |part| / |seen|. weight (B, M,
    T), scale (B,): those of the masks in `dtype`. log_weight: (B, M, T), the logarithm of the weight, which is
    log 0 = -inf where a token is not scored; where no mask scores it, any number will do that has a finite gradient.
    """
    seen = masks.scored.any(1)
    weight, scale = masks.weight.to(dtype), masks.scale.to(dtype)
    part_per_seen = masks.part.sum(-1).to(dtype) / seen.sum(-1).clamp(min=1)
    unseen = ~seen
    return {
        "unseen": unseen,
        "factor": scale * part_per_seen,
        "weight": weight,
        "scale": scale,
        "log_weight": weight.log().masked_fill_(unseen.unsqueeze(1), 0.0),
    }


def penalty(logps: Tensor, masks: Masks, beta: float) -> Tensor:
    """(B,) the log of the power mean of p over those copies that hide a token, summed over the tokens; no bound.

        |completion| / |seen| * sum over seen tokens of log(mean over copies that hide the token of p^beta) / beta

    It is for tokens that are hidden by random ones, about which SPG's proof says nothing. Where a token is not hidden,
    its probability is near 1 and would outweigh all others, so these copies are left out. *seen* are the tokens that
    any copy hides.
    """
    hidden = masks.scored & masks.masked[..., -logps.shape[-1] :]
    count = hidden.sum(1).to(logps.dtype)  # (B, T), how many copies hide each token
    powers = torch.where(hidden, beta * logps, -math.inf)
    terms = torch.where(count > 0, powers.logsumexp(1) - count.clamp(min=1).log(), 0.0)
    completion_per_seen = masks.part.sum(-1).to(logps.dtype) / (count > 0).sum(-1).clamp(min=1)
    return completion_per_seen * terms.sum(-1) / beta


def mixture(elbo: Tensor, eubo: Tensor, mix_weight: float) -> Tensor:
    """mix_weight * eubo + (1 - mix_weight) * elbo, with mix_weight in 0..1 (SPG, Proposition 1)."""
    return mix_weight * eubo + (1 - mix_weight) * elbo
