"""Which token a masked position would take, and how sure the model is of it."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from spg_trainer.likelihood.logps import columns_at_once

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
    measures: Sequence[Measure] = (),
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Draws a token for every masked position of the active blocks, row by row, in the order of positions.

    A token is the argmax of logits - temperature * log E with E ~ Exp(1), which is a draw from softmax(logits /
    temperature); the additive form needs no exp and cannot overflow. Only the mask id is forbidden: rows of the
    embedding that the tokenizer does not know can be drawn, exactly as the plain LLaDA sampler would. Log-probabilities
    are un-tempered, over the whole vocabulary (mask id included, as in training), and taken relative to the largest
    logit, which keeps them exact to 1e-7 where the model is sure.

    hidden_states: (N, D) at the masked positions of b rows, `counts` (b,) of each, N in all. head: (V, D) output
    embedding. temperature: 0 = greedy. generators: b; the noise of a row is one float32 draw of Exp(1) of shape
    (count, V). Returns tokens (N,) int64, logps (N,) float32, or float64 when the model is, and what each of `measures`
    says of the positions (N,).
    """
    tokens, logps, measured, at = [], [], [], 0
    width = head.shape[0] if measures else columns_at_once(head)
    for rows in _pieces(counts, _MAX_LOGITS // head.shape[0]):
        size = sum(counts[row] for row in rows)
        noise = None
        if temperature > 0:
            noise = torch.empty(size, head.shape[0], dtype=torch.float32, device=head.device)
            parts = noise.split([counts[row] for row in rows])
            log_exponential(parts, [generators[row] for row in rows])
            noise.mul_(temperature)
        token, logp, powers, mass = _choose(hidden_states[at : at + size], head, noise, mask_id, width)
        tokens.append(token)
        logps.append(logp)
        if measures:
            probabilities = powers.div_(mass.unsqueeze(-1))
            measured.append([measure(probabilities) for measure in measures])
        at += size
    return torch.cat(tokens), torch.cat(logps), [torch.cat(parts) for parts in zip(*measured, strict=True)]


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


def _choose(
    hidden_states: Tensor, head: Tensor, noise: Tensor | None, mask_id: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best token under the noise and its log-probability, from `width` columns of the vocabulary at a time.

    Returns them, all probabilities of the last such columns times their sum (c, width), and that sum over all (c,).
    """
    token = torch.zeros(len(hidden_states), dtype=torch.int64, device=head.device)
    for start in range(0, head.shape[0], width):
        logits = linear(hidden_states, head[start : start + width])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if start == 0:
            best, score, peak = logits.new_full((3, len(logits)), float("-inf"))
            mass = torch.zeros_like(peak)
        scores = logits if noise is None else logits - noise[:, start : start + width]
        if holds_mask := start <= mask_id < start + width:
            mask_logit = logits[:, mask_id - start].clone()
            scores[:, mask_id - start] = float("-inf")
        highest = scores.amax(-1)
        # To find where the highest is takes ten times as long, and after some columns few rows find a better one.
        better = slice(None)
        if width < head.shape[0]:
            better = (~(highest <= score)).nonzero().squeeze(-1)  # or NaN
        where = scores[better].argmax(-1)
        token[better], score[better] = start + where, highest[better]
        best[better] = logits[better].gather(-1, where.unsqueeze(-1)).squeeze(-1)
        if holds_mask:
            logits[:, mask_id - start] = mask_logit
        before, peak = peak, torch.maximum(peak, logits.amax(-1))
        powers = logits.sub_(peak.unsqueeze(-1)).exp_()
        mass = mass * (before - peak).exp() + powers.sum(-1)
    return token, (best - peak) - mass.log(), powers, mass
