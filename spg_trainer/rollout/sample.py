"""What one denoising step draws at the hidden positions of a block: token, log-probability and priority.

Tokens: argmax of logits - temperature * log E with E ~ Exp(1), a draw from softmax(logits / temperature); the
additive form needs no exp and cannot overflow. Only the mask id is forbidden: rows of the embedding that the
tokenizer does not know can be drawn, exactly as the plain LLaDA sampler would. Log-probabilities are
un-tempered, over the whole vocabulary (mask id included, as in training), and taken relative to the largest
logit, which keeps them exact to 1e-7 where the model is sure.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from spg_trainer.config import Sampling

_MAX_LOGITS = 2**26
"""Logits alive at once (256 MB in float32); whole rows only, because a row's noise is one draw."""

_MIN_EXPONENTIAL = torch.finfo(torch.float32).tiny
"""Guards against an exact 0 only, whose infinite logarithm would turn the forbidden mask's score into NaN. Real
draws go down to 2**-24 on CUDA and below 2**-30 on a CPU; a larger bound would change what rare tokens score."""


def sample_tokens(
    hidden: Tensor,
    head: Tensor,
    mask_id: int,
    sampling: Sampling,
    generators: Sequence[torch.Generator] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws a token for every hidden position.

    Args:
        hidden: (b, n, D) last hidden states at the n hidden positions of the active block.
        head: (V, D) output embedding.
        mask_id: the one token that is never drawn.
        sampling: temperature and remasking.
        generators: b generators, one per row; unused (may be None) where nothing is random.

    Returns:
        tokens (b, n) int64; logps (b, n) float32, or float64 when the model is; priority (b, n): the higher,
        the earlier the token is revealed.
    """
    rows, hidden_count, vocabulary = hidden.shape[0], hidden.shape[1], head.shape[0]
    chunk = max(1, _MAX_LOGITS // max(1, hidden_count * vocabulary))
    tokens, logps = [], []
    for start in range(0, rows, chunk):
        part = slice(start, min(start + chunk, rows))
        logits = linear(hidden[part], head)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        noise = None
        if sampling.temperature > 0:
            noise = log_exponential(logits.shape[1:], generators[part], logits.device)
            noise.mul_(sampling.temperature)
        token, logp = _choose(logits, noise, mask_id)
        tokens.append(token)
        logps.append(logp)
    tokens, logps = torch.cat(tokens), torch.cat(logps)
    if sampling.remasking == "random":
        priority = torch.empty(tokens.shape, dtype=torch.float32, device=tokens.device)
        for row, generator in zip(priority, generators, strict=True):
            row.uniform_(generator=generator)
        return tokens, logps, priority
    return tokens, logps, logps


def log_exponential(
    shape: Sequence[int], generators: Sequence[torch.Generator], device: torch.device
) -> Tensor:
    """log E with E ~ Exp(1), one draw of `shape` from each generator: (len(generators), *shape) float32.

    Always float32, so that a float64 model sees the same noise as its float32 twin.
    """
    noise = torch.empty((len(generators), *shape), dtype=torch.float32, device=device)
    for row, generator in zip(noise, generators, strict=True):
        row.exponential_(generator=generator)
    return noise.clamp_(min=_MIN_EXPONENTIAL).log_()


def _choose(logits: Tensor, noise: Tensor | None, mask_id: int) -> tuple[Tensor, Tensor]:
    """The best token under the noise and its log-probability. Overwrites `logits` (c, n, V)."""
    mask_logit = logits[..., mask_id].clone()
    logits[..., mask_id] = float("-inf")
    if noise is None:
        best, token = logits.max(-1)
        peak = torch.maximum(best, mask_logit)
    else:
        token = (logits - noise).argmax(-1)
        best = logits.gather(-1, token.unsqueeze(-1)).squeeze(-1)
        peak = torch.maximum(logits.amax(-1), mask_logit)
    mass = logits.sub_(peak.unsqueeze(-1)).exp_().sum(-1) + (mask_logit - peak).exp()
    return token, (best - peak) - mass.log()


def earliest_first(priority: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Splits hidden positions into the `count` to reveal now and the rest; equal priorities go by position.

    priority: (b, n). Returns indices (b, count) and, ascending, (b, n - count).
    """
    order = priority.argsort(dim=-1, descending=True, stable=True)
    return order[:, :count], order[:, count:].sort(-1).values
