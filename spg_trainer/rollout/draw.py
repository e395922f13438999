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
    *,
    top_k: int = 0,
    top_p: float = 1.0,
    ends: Sequence[int] = (),
    penalty: Tensor | None = None,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Draws a token for every masked position of the active blocks, row by row, in the order of positions.

    A token is the argmax of logits - temperature * log E with E ~ Exp(1), which is a draw from softmax(logits /
    temperature); the additive form needs no exp and cannot overflow. Only the mask id is forbidden: rows of the
    embedding that the tokenizer does not know can be drawn, exactly as the plain LLaDA sampler would. Log-probabilities
    are un-tempered, over the whole vocabulary (mask id included, as in training), and taken relative to the largest
    logit, which keeps them exact to 1e-7 where the model is sure. With top_k or top_p they are of the law that drew:
    tempered, without the mask id and the tokens that `cut_law` leaves out.

    Args:
        hidden_states: (N, D) at the masked positions of b rows, one row after the other.
        head: (V, D) output embedding.
        temperature: 0 = greedy.
        generators: b; the noise of a row is one float32 draw of Exp(1) of shape (count, V).
        counts: (b,) how many of the N positions are of each row.
        measures: each sees the model's probabilities, un-tempered and uncut.
        top_k, top_p: as in `cut_law`; the best token is always left, so that temperature 0 needs no cut.
        ends, penalty: penalty (N,) is subtracted at each position from the logits of the tokens `ends` before anything
            else, infinity = forbidden; all that is returned is of the law that is left.

    Returns tokens (N,) int64, logps (N,) float32, or float64 when the model is, and for each of `measures` its values
    at the positions (N,).
    """
    tokens, logps, measured, start = [], [], [], 0
    cut = temperature > 0 and (top_k > 0 or top_p < 1)
    width = head.shape[0] if measures or cut else columns_at_once(head)
    for rows in _pieces(counts, _MAX_LOGITS // head.shape[0]):
        size = sum(counts[row] for row in rows)
        piece = slice(start, start + size)
        noise = None
        if temperature > 0:
            noise = torch.empty(size, head.shape[0], dtype=torch.float32, device=head.device)
            noise_of_rows = noise.split([counts[row] for row in rows])
            log_exponential(noise_of_rows, [generators[row] for row in rows])
        held = None if penalty is None else (ends, penalty[piece])
        if cut:
            law = temperature, top_k, top_p
            token, logp, powers, mass = _choose_from_cut(
                hidden_states[piece], head, noise, mask_id, law, held
            )
        else:
            noise = noise if noise is None else noise.mul_(temperature)
            token, logp, powers, mass = _choose(hidden_states[piece], head, noise, mask_id, width, held)
        tokens.append(token)
        logps.append(logp)
        if measures:
            probabilities = powers.div_(mass.unsqueeze(-1))
            measured.append([measure(probabilities) for measure in measures])
        start += size
    return torch.cat(tokens), torch.cat(logps), [torch.cat(pieces) for pieces in zip(*measured, strict=True)]


def cut_law(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Log-probabilities (c, V) of the tokens that are left, -inf of the others.

    logits: (c, V), tempered, -inf where a token is forbidden. top_p: what is left are the fewest of the most probable
    tokens whose probabilities add up to this; 1 = all. top_k: of these, at most so many are left; 0 = all. Tokens
    exactly as probable as the last one left are left too. Source: Dream (arXiv 2508.15487), `sample_tokens`, which cuts
    by both in this order.
    """
    least = logits.amin(-1, keepdim=True)
    if top_k:
        least = logits.topk(min(top_k, logits.shape[-1]), -1).values[:, -1:]
    if top_p < 1:
        falling = logits.sort(-1, descending=True).values
        before = falling.softmax(-1).cumsum(-1).roll(1, -1)
        before[:, 0] = 0
        left = (before < top_p).sum(-1, keepdim=True)
        least = least.maximum(falling.gather(-1, left - 1))
    return logits.masked_fill(logits < least, float("-inf")).log_softmax(-1)


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


Held = tuple[Sequence[int], Tensor] | None
"""End tokens, and what is subtracted from their logits at each of c positions (c,); None = nothing."""


def hold_back(logits: Tensor, held: Held, start: int) -> None:
    """Subtracts in place what `held` says; logits: (c, columns), of the vocabulary from `start` on."""
    for token in held[0] if held else ():
        if start <= token < start + logits.shape[1]:
            logits[:, token - start] -= held[1]


def _choose_from_cut(
    hidden_states: Tensor,
    head: Tensor,
    noise: Tensor,
    mask_id: int,
    law: tuple[float, int, float],
    held: Held,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `_choose`, all columns at a time, from what temperature, top_k and top_p leave.

    noise: (c, V) log E; the token is the one that the same noise draws without cuts, if that one is left.
    """
    temperature, top_k, top_p = law
    logits = linear(hidden_states, head)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    hold_back(logits, held, 0)
    plain = logits.softmax(-1)
    logits[:, mask_id] = float("-inf")
    kept = cut_law(logits / temperature, top_k, top_p)
    token = (kept - noise).argmax(-1)
    return token, kept.gather(-1, token.unsqueeze(-1)).squeeze(-1), plain, torch.ones_like(plain[:, 0])


def _choose(
    hidden_states: Tensor, head: Tensor, noise: Tensor | None, mask_id: int, width: int, held: Held
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best token under the noise and its log-probability, from `width` columns of the vocabulary at a time.

    Returns both, (c,) each, and of the softmax the powers exp(logit - largest logit) of the last columns (c, width) and
    their sum over all columns (c,). So probabilities are powers / sum where `width` is the whole vocabulary.
    """
    token = torch.zeros(len(hidden_states), dtype=torch.int64, device=head.device)
    for start in range(0, head.shape[0], width):
        logits = linear(hidden_states, head[start : start + width])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        hold_back(logits, held, start)
        if start == 0:
            best_logit, best_score, peak = logits.new_full((3, len(logits)), float("-inf"))
            mass = torch.zeros_like(peak)
        scores = logits if noise is None else logits - noise[:, start : start + width]
        if holds_mask := start <= mask_id < start + width:
            mask_logit = logits[:, mask_id - start].clone()
            scores[:, mask_id - start] = float("-inf")
        highest = scores.amax(-1)
        # To find where the highest is takes ten times as long, and after some columns few rows find a better one.
        better = slice(None)
        if width < head.shape[0]:
            better = (~(highest <= best_score)).nonzero().squeeze(-1)  # or NaN
        where = scores[better].argmax(-1)
        token[better], best_score[better] = start + where, highest[better]
        best_logit[better] = logits[better].gather(-1, where.unsqueeze(-1)).squeeze(-1)
        if holds_mask:
            logits[:, mask_id - start] = mask_logit
        peak_before, peak = peak, torch.maximum(peak, logits.amax(-1))
        powers = logits.sub_(peak.unsqueeze(-1)).exp_()
        mass = mass * (peak_before - peak).exp() + powers.sum(-1)
    return token, (best_logit - peak) - mass.log(), powers, mass
