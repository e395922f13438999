"""Draws a token for each masked position, and measures how sure the model is of it."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from spg_trainer.architecture.head import head_logits
from spg_trainer.likelihood.logps import columns_at_once, joined

Generators = Sequence[torch.Generator] | None
"""A generator for each row, on the model's device; None if nothing is random."""

Measure = Callable[[Tensor], Tensor]
"""From probabilities over the whole vocabulary (c, V), how sure the model is at each position (c,): higher = surer."""


Drawn = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]
"""What `Sampler.draw` in sampler.py returns, and explains: (tokens, logps, compared_logps, order, highest), each
(b, n) for n places of b rows. The type stands here, because graphs.py needs it and sampler.py imports
graphs.py."""


MAX_LOGITS = 2**26
"""How many logits are in memory at once (256 MB in float32), unless a single row has more: a row is not split, because
its noise is one draw."""
_MIN_EXPONENTIAL = torch.finfo(torch.float32).tiny
"""The lower bound for a draw E of Exp(1), the noise of `sample_tokens`. It only guards against E = 0, whose logarithm
is -inf: the score of the forbidden mask, which has the logit -inf, would become NaN. Draws go down to 2**-24 on CUDA
and below 2**-30 on a CPU. A small E is a high score, by which a rare token may win, so no larger bound will do."""


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
    noise: Tensor | None = None,
    in_float32: bool = False,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Draws a token for each of N positions, row by row, in the order of positions.

    A token is the argmax of logits - temperature * log E with E ~ Exp(1), which is a draw from softmax(logits /
    temperature); the additive form needs no exp and cannot overflow. Only the mask id is forbidden: ids of the
    embedding that the tokenizer does not know can be drawn, as in the plain LLaDA sampler.

    Log-probabilities are taken at temperature 1 over the whole vocabulary (mask id included, as in training). They are
    computed relative to the largest logit, so they stay exact to 1e-7 where the model is sure. With top_k or top_p they
    are taken in the distribution drawn from: tempered, and without the mask id and the tokens that `cut_distribution`
    leaves out.

    Args:
        hidden_states: (N, D) at positions of b rows, one row after the other.
        head: (V, D) output embedding.
        mask_id: the only token that is never drawn.
        temperature: 0 = greedy.
        generators: b; the noise of a row is one float32 draw of Exp(1) of shape (count, V), with `count` from `counts`.
        counts: b numbers, how many of the N positions belong to each row.
        measures: functions of the model's probabilities at each position, at temperature 1 and uncut.
        top_k, top_p: as in `cut_distribution`. At temperature 0 they change nothing, since the best token always stays.
        ends, penalty: penalty (N,) is subtracted at each position from the logits of the tokens `ends`; infinity
            forbids them. This is done first, so tokens, log-probabilities and measures all see it.
        noise: None = the noise is drawn here, if temperature > 0. Else (N, V), filled by `fill_noise`. All N positions
            are then computed at once, so N * V must be at most MAX_LOGITS, which nothing checks.
        in_float32: as for `head_logits`.

    Returns tokens (N,) int64, logps (N,) float32 (float64 if the model is), and the values (N,) of each of `measures`.
    """
    cuts = is_cut(temperature, top_k, top_p)
    # How many columns of the vocabulary are computed at a time: all of them if every probability is needed.
    width = head.shape[0] if measures or cuts else columns_at_once(head)
    tokens, logps, measured = [], [], []
    for row_numbers, piece in _pieces(counts, most=MAX_LOGITS // head.shape[0]):
        states = hidden_states[piece]
        end_penalty = None if penalty is None else (ends, penalty[piece])
        noise_of_piece = noise
        if temperature > 0 and noise is None:
            noise_of_piece = torch.empty(len(states), head.shape[0], dtype=torch.float32, device=head.device)
            counts_of_piece = [counts[row] for row in row_numbers]
            generators_of_piece = [generators[row] for row in row_numbers]
            fill_noise(
                noise_of_piece,
                counts_of_piece,
                generators_of_piece,
                factor=1.0 if cuts else temperature,
            )
        if cuts:
            drawn, logps_of_drawn, powers, sum_of_powers = _choose_from_cut(
                states,
                head,
                noise_of_piece,
                mask_id,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                end_penalty=end_penalty,
                in_float32=in_float32,
            )
        else:
            drawn, logps_of_drawn, powers, sum_of_powers = _choose(
                states, head, noise_of_piece, mask_id, width, end_penalty, in_float32
            )
        tokens.append(drawn)
        logps.append(logps_of_drawn)
        if measures:
            probabilities = powers.div_(sum_of_powers.unsqueeze(-1))
            measured.append([measure(probabilities) for measure in measures])
    # `measured` has a list for each piece, with a value of each measure. The result has one tensor for each measure.
    values_of_measures = [joined(values) for values in zip(*measured, strict=True)]
    return joined(tokens), joined(logps), values_of_measures


def cut_distribution(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Log-probabilities (c, V) after a cut by top_p and top_k; -inf for the tokens that are left out.

    A token stays if neither cut leaves it out. logits: (c, V), tempered, -inf for forbidden tokens. top_p: only the
    fewest most probable tokens stay whose probabilities, before any cut, sum to at least top_p; 1 = all. top_k: at most
    so many tokens stay; 0 = all. Tokens exactly as probable as the last that stays also stay. Source: Dream
    (arXiv 2508.15487), `sample_tokens`, which cuts by top_p, then by top_k.
    """
    threshold = logits.amin(-1, keepdim=True)  # the smallest logit that stays, (c, 1)
    if top_k:
        threshold = logits.topk(min(top_k, logits.shape[-1]), -1).values[:, -1:]
    if top_p < 1:
        descending = logits.sort(-1, descending=True).values
        mass_before = descending.softmax(-1).cumsum(-1).roll(1, -1)  # the sum over all more probable tokens
        mass_before[:, 0] = 0  # nothing is before the most probable token, which therefore stays
        number_staying = (mass_before < top_p).sum(-1, keepdim=True)
        threshold = threshold.maximum(descending.gather(-1, number_staying - 1))
    return logits.masked_fill(logits < threshold, float("-inf")).log_softmax(-1)


def is_cut(temperature: float, top_k: int, top_p: float) -> bool:
    """Whether tokens are drawn from a cut distribution (`cut_distribution`)."""
    return temperature > 0 and (top_k > 0 or top_p < 1)


def fill_noise(
    noise: Tensor, counts: Sequence[int], generators: Sequence[torch.Generator], factor: float
) -> None:
    """Fills the noise (N, V) of b rows in place with factor * log E.

    counts, generators: b; the noise of a row is one draw of (count, V) from the row's generator. factor: the
    temperature; 1 if `is_cut`, since the cut distribution is tempered itself.
    """
    log_exponential(noise, noise.split(list(counts)), generators)
    if factor != 1:
        noise.mul_(factor)


def log_exponential(noise: Tensor, parts: Sequence[Tensor], generators: Sequence[torch.Generator]) -> None:
    """Fills each of `parts` of `noise` in place with log E, E ~ Exp(1), one draw from its generator.

    noise: of any shape, in float32, also for a float64 model, so that the model has the same noise in both types.
    Elements outside of all parts hold garbage afterwards.
    """
    for part, generator in zip(parts, generators, strict=True):
        part.exponential_(generator=generator)
    # This is done for all rows at once, since each kernel takes Python time to start.
    noise.clamp_(min=_MIN_EXPONENTIAL).log_()


def _pieces(counts: Sequence[int], most: int) -> Iterator[tuple[list[int], slice]]:
    """Cuts rows into pieces of at most `most` positions; yields the numbers of a piece's rows, and their positions.

    counts: how many positions each row has. A row with more than `most` is a piece of its own. E.g. counts 2, 3, 9 and
    `most` 6 give ([0, 1], slice(0, 5)) and ([2], slice(5, 14)).
    """
    row_numbers: list[int] = []
    start = stop = 0
    for row, count in enumerate(counts):
        if row_numbers and stop + count - start > most:
            yield row_numbers, slice(start, stop)
            row_numbers, start = [], stop
        row_numbers.append(row)
        stop += count
    yield row_numbers, slice(start, stop)


EndPenalty = tuple[Sequence[int], Tensor] | None
"""(end tokens, (c,) the number that is subtracted from their logits at each of c positions); None = nothing is."""


def _subtract_penalty(logits: Tensor, ends: Sequence[int], penalty: Tensor, start: int) -> None:
    """Subtracts the penalty from the logits in place. logits: (c, n), of the n tokens from id `start` on."""
    for token in ends:
        if start <= token < start + logits.shape[1]:
            logits[:, token - start] -= penalty


Choice = tuple[Tensor, Tensor, Tensor, Tensor]
"""(tokens, logps, powers, sum_of_powers) at c positions.

tokens: (c,) int64, the drawn ones. logps: (c,), their log-probabilities. powers: (c, V), proportional to the model's
uncut probabilities, which are powers / sum_of_powers; if not all columns of the vocabulary were computed at once,
`powers` has the last columns alone and is not used. sum_of_powers: (c,), over the whole vocabulary."""


def _choose_from_cut(
    hidden_states: Tensor,
    head: Tensor,
    noise: Tensor,
    mask_id: int,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    end_penalty: EndPenalty,
    in_float32: bool,
) -> Choice:
    """Draws as `_choose` does, with all V columns at once, from the tokens that top_k and top_p leave.

    noise: (c, V) log E, without the factor temperature that it has in `_choose`: here the logits are divided by the
    temperature instead. From the same E, both functions draw the same token, unless the cut leaves that token out.
    """
    logits = head_logits(hidden_states, head, in_float32)
    if end_penalty is not None:
        _subtract_penalty(logits, *end_penalty, start=0)
    probabilities = logits.softmax(-1)
    logits[:, mask_id] = float("-inf")
    cut_logps = cut_distribution(logits / temperature, top_k, top_p)
    tokens = (cut_logps - noise).argmax(-1)
    logps = cut_logps.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    sum_of_probabilities = torch.ones_like(probabilities[:, 0])  # a softmax sums to 1
    return tokens, logps, probabilities, sum_of_probabilities


def _choose(
    hidden_states: Tensor,
    head: Tensor,
    noise: Tensor | None,
    mask_id: int,
    width: int,
    end_penalty: EndPenalty,
    in_float32: bool,
) -> Choice:
    """The tokens with the highest score, logit - noise, computed for `width` columns of the vocabulary at a time.

    noise: (c, V) temperature * log E; None = a token's score is its logit. The locals, (c,) each, are over the columns
    so far: `best_score` and `best_logit` of the best token, `peak` the largest logit, and `sum_of_powers` the sum of
    exp(logit - peak). The returned powers are exp(logit - peak).
    """
    peak = sum_of_powers = None
    for start in range(0, head.shape[0], width):
        logits = head_logits(hidden_states, head[start : start + width], in_float32)
        if end_penalty is not None:
            _subtract_penalty(logits, *end_penalty, start=start)
        scores = logits if noise is None else logits - noise[:, start : start + width]
        # The mask cannot be drawn, but it has a probability. Without noise, `scores` and the logits are one tensor, so
        # the mask's logit is put aside here and put back below.
        mask_logit = None
        if start <= mask_id < start + width:
            if noise is None:
                mask_logit = logits[:, mask_id - start].clone()
            scores[:, mask_id - start] = float("-inf")
        if start == 0:
            best_column = scores.argmax(-1, keepdim=True)
            tokens, best_logit = best_column.squeeze(-1), logits.gather(-1, best_column).squeeze(-1)
            if width < head.shape[0]:
                best_score = scores.gather(-1, best_column).squeeze(-1)
        else:
            highest = scores.amax(-1)
            # argmax takes ten times as long as amax. So argmax runs only for the positions whose best score these
            # columns raise, which soon are few. NaN counts as raised, so that it is not lost.
            raised = (~(highest <= best_score)).nonzero().squeeze(-1)
            best_column = scores[raised].argmax(-1)
            tokens[raised], best_score[raised] = start + best_column, highest[raised]
            best_logit[raised] = logits[raised].gather(-1, best_column.unsqueeze(-1)).squeeze(-1)
        if mask_logit is not None:
            logits[:, mask_id - start] = mask_logit
        before, peak = peak, logits.amax(-1)
        if before is not None:
            peak = torch.maximum(before, peak)
        powers = logits.sub_(peak.unsqueeze(-1)).exp_()
        total = powers.sum(-1)
        sum_of_powers = total if before is None else sum_of_powers * (before - peak).exp() + total
    logps = (best_logit - peak) - sum_of_powers.log()
    return tokens, logps, powers, sum_of_powers
