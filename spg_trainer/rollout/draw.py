"""Which token a masked position would take, and how sure the model is of it."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

Generators = Sequence[torch.Generator] | None
"""One per row, on the model's device; None where nothing is random."""

Measure = Callable[[Tensor], Tensor]
"""(c, V) probabilities over the whole vocabulary to (c,), how sure the model is there: the higher, the surer."""

_MAX_LOGITS = 2**26
"""Logits alive at once (256 MB in float32); whole rows only, because a row's noise is one draw."""
_MIN_EXPONENTIAL = torch.finfo(torch.float32).tiny
"""Guards against an exact 0 only, whose infinite logarithm would turn the forbidden mask's score into NaN. Real draws
go down to 2**-24 on CUDA and below 2**-30 on a CPU; a larger bound would change what rare tokens score."""


def sample_tokens(
    hidden_states: Tensor,
    head: Tensor,
    mask_id: int,
    temperature: float,
    generators: Generators,
    counts: Sequence[int],
    measure: Measure | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws a token for every masked position of the active blocks, row by row, in the order of positions.

    A token is the argmax of logits - temperature * log E with E ~ Exp(1), which is a draw from softmax(logits /
    temperature); the additive form needs no exp and cannot overflow. Only the mask id is forbidden: rows of the
    embedding that the tokenizer does not know can be drawn, exactly as the plain LLaDA sampler would. Log-probabilities
    are un-tempered, over the whole vocabulary (mask id included, as in training), and taken relative to the largest
    logit, which keeps them exact to 1e-7 where the model is sure.

    hidden_states: (N, D) at the masked positions of b rows, `counts` (b,) of each, N in all. head: (V, D) output
    embedding. temperature: 0 = greedy. generators: b; the noise of a row is one float32 draw of Exp(1) of shape
    (count, V). Returns tokens (N,) int64, logps (N,) float32, or float64 when the model is, and what `measure` says of
    the positions (N,); without one, the logps again.
    """
    tokens, logps, sure, at = [], [], [], 0
    for rows in _pieces(counts, _MAX_LOGITS // head.shape[0]):
        size = sum(counts[row] for row in rows)
        logits = linear(hidden_states[at : at + size], head)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        noise = None
        if temperature > 0:
            noise = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
            parts = noise.split([counts[row] for row in rows])
            log_exponential(parts, [generators[row] for row in rows])
            noise.mul_(temperature)
        token, logp, powers, mass = _choose(logits, noise, mask_id)
        tokens.append(token)
        logps.append(logp)
        if measure:
            sure.append(measure(powers.div_(mass.unsqueeze(-1))))
        at += size
    joined = torch.cat(logps)
    return torch.cat(tokens), joined, torch.cat(sure) if measure else joined


def log_exponential(parts: Sequence[Tensor], generators: Sequence[torch.Generator]) -> None:
    """Fills each part with log E, E ~ Exp(1), one draw from its generator.

    parts: float32, also for a float64 model, so that it sees the same noise as its float32 twin.
    """
    for part, generator in zip(parts, generators, strict=True):
        part.exponential_(generator=generator).clamp_(min=_MIN_EXPONENTIAL).log_()


def _pieces(counts: Sequence[int], most: int) -> Iterator[list[int]]:
    """Rows in order, together at most `most` positions unless a single row has more."""
    piece: list[int] = []
    size = 0
    for row, count in enumerate(counts):
        if piece and size + count > most:
            yield piece
            piece, size = [], 0
        piece.append(row)
        size += count
    yield piece


def _choose(logits: Tensor, noise: Tensor | None, mask_id: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best token under the noise and its log-probability; all probabilities times their sum, and that sum (c,).

    Overwrites `logits` (c, V).
    """
    mask_logit = logits[..., mask_id].clone()
    logits[..., mask_id] = float("-inf")
    if noise is None:
        best, token = logits.max(-1)
        peak = torch.maximum(best, mask_logit)
    else:
        token = (logits - noise).argmax(-1)
        best = logits.gather(-1, token.unsqueeze(-1)).squeeze(-1)
        peak = torch.maximum(logits.amax(-1), mask_logit)
    powers, mask_power = logits.sub_(peak.unsqueeze(-1)).exp_(), (mask_logit - peak).exp()
    mass = powers.sum(-1) + mask_power
    powers[..., mask_id] = mask_power
    return token, (best - peak) - mass.log(), powers, mass
