"""Log-probabilities of the scored tokens of masked completions, a few rows of logits at a time.

Axes: B completions, M masks, L prompt tokens, T completion tokens; S masked copies of completions, n scored positions,
D hidden size, V vocabulary.

The logits of at most `chunk_rows` positions exist at once; the gradient has a closed form, so that a backward pass
recomputes logits instead of keeping them. Whatever the model's dtype, probabilities are float32, or float64 when it is.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spg_trainer.batch import Rollouts
from spg_trainer.likelihood.masks import Masks

Copies = tuple[Tensor, Tensor]
"""Masked copies by the numbers of their rows (S,) and of their masks (S,)."""


@torch.no_grad()
def token_logps(
    model: nn.Module,
    rollouts: Rollouts,
    masks: Masks,
    mask_id: int,
    masks_at_once: int = 1,
) -> Tensor:
    """Log-probabilities (B, M, T) of the scored tokens, zero where nothing is scored; no graph.

    mask_id, masks_at_once: as for `accumulate`, which with equal ones finds equal values, bit for bit; in
    bfloat16 another shape of the batch may move the log-probability of a sequence by half a nat.
    """
    scorer = Scorer(model, rollouts, masks, mask_id)
    for copies in scorer.passes(masks_at_once):
        scorer.score(copies)
    return scorer.logps


class Forward(NamedTuple):
    """Some masked copies after a pass through the model's body."""

    scored: Tensor
    """(S, T) bool, the positions whose log-probability is asked for."""
    targets: Tensor
    """(n,) int64, the tokens at the scored positions, in the order of `scored`."""
    states: Tensor
    """(n, D) the last hidden states there."""


class Scorer:
    """One model and the masked copies it scores."""

    def __init__(self, model: nn.Module, rollouts: Rollouts, masks: Masks, mask_id: int) -> None:
        from spg_trainer.models.load import head_weight

        self.model, self.rollouts, self.masks, self.mask_id = model, rollouts, masks, mask_id
        self.weight = head_weight(model)
        self.chunk_rows = rows_per_chunk(self.weight.shape[0])
        self.logps = torch.zeros_like(masks.scored, dtype=result_dtype(self.weight))
        """(B, M, T), zero until scored."""

    def copies(self, start: int, stop: int) -> Copies:
        """Those of masks start..stop-1 that score anything, mask by mask."""
        masks, rows = self.masks.scored[:, start:stop].any(-1).T.nonzero(as_tuple=True)
        return rows, start + masks

    def passes(self, masks_at_once: int) -> list[Copies]:
        """All copies that score anything, those of up to `masks_at_once` masks at a time, the last ones in full."""
        num_masks = self.masks.scored.shape[1]
        early = max(num_masks - masks_at_once, 0)
        bounds = [*range(0, early, masks_at_once), early, num_masks]
        passes = [self.copies(start, stop) for start, stop in pairwise(bounds)]
        return [copies for copies in passes if len(copies[0])]

    def forward(self, copies: Copies) -> Forward:
        """Sends copies through the model's body."""
        from spg_trainer.models.load import hidden_states

        rows, rollouts, scored = copies[0], self.rollouts, self.masks.scored[copies]
        completion_ids = rollouts.completion_ids[rows]
        ids = torch.cat([rollouts.prompt_ids[rows], completion_ids], dim=1)
        ids = ids.masked_fill(self.masks.masked[copies], self.mask_id)
        attention = torch.cat([rollouts.prompt_mask[rows], torch.ones_like(scored)], dim=1)
        width = rollouts.prompt_mask.shape[1]
        keep = torch.arange(width, ids.shape[1], device=ids.device).expand(len(rows), -1)
        states = hidden_states(self.model, ids, attention, keep=keep)[scored]
        return Forward(scored, completion_ids[scored], states)

    def score(self, copies: Copies) -> tuple[Forward, Tensor]:
        """Writes the copies' `logps`; returns what a backward pass needs, with the log-normalisers (n,)."""
        out = self.forward(copies)
        values, normalisers = head_logps(out.states, self.weight, out.targets, self.chunk_rows)
        self.logps[copies] = values.new_zeros(out.scored.shape).masked_scatter_(out.scored, values)
        return out, normalisers


@torch.no_grad()
def head_logps(
    hidden_states: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (n,) of the targets (n,) and log-normalisers (n,), from hidden states (n, D), weight (V, D)."""
    logps = torch.empty(len(hidden_states), dtype=result_dtype(weight), device=hidden_states.device)
    normalisers = torch.empty_like(logps)
    for rows in _chunks(len(hidden_states), chunk_rows):
        logits = _logits(hidden_states[rows], weight)
        chosen = logits.gather(-1, targets[rows, None]).squeeze(-1)
        top = logits.amax(-1, keepdim=True)  # logsumexp in place: a second copy would double the peak
        normalisers[rows] = logits.sub_(top).exp_().sum(-1).log_().add_(top.squeeze(-1))
        logps[rows] = chosen - normalisers[rows]
    return logps, normalisers


@torch.no_grad()
def head_gradient(
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    coefficients: Tensor,
    chunk_rows: int,
    normalisers: Tensor | None = None,
    weight_gradient: Tensor | None = None,
) -> Tensor:
    """Gradient (n, D) of `sum(coefficients * logps)` with respect to the hidden states.

    coefficients: (n,). normalisers: (n,) from `head_logps`, else computed here, from the same logits. weight_gradient:
    (V, D), float32 or float64, to which the gradient with respect to the weight is added; None = not computed.
    """
    result = torch.empty_like(hidden_states)
    for rows in _chunks(len(hidden_states), chunk_rows):
        logits = _logits(hidden_states[rows], weight)
        scale = coefficients[rows].to(logits.dtype)
        if normalisers is None:
            total = logits.sub_(logits.amax(-1, keepdim=True)).exp_().sum(-1)
            logits.mul_((-scale / total).unsqueeze(-1))
        else:
            logits.sub_(normalisers[rows, None]).exp_().mul_(-scale.unsqueeze(-1))
        logits.scatter_add_(-1, targets[rows, None], scale.unsqueeze(-1))
        score = logits.to(weight.dtype)
        result[rows] = (score @ weight).to(hidden_states.dtype)
        if weight_gradient is None:
            continue
        if weight_gradient.dtype == weight.dtype:
            weight_gradient.addmm_(score.T, hidden_states[rows].to(weight.dtype))
        else:
            weight_gradient.add_(score.T @ hidden_states[rows].to(weight.dtype))
    return result


def rows_per_chunk(vocabulary: int) -> int:
    """How many positions are scored at once: 128 MB of float32 logits."""
    return max(16, 2**25 // vocabulary)


def result_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of probabilities: float32, or float64 when the model is."""
    return torch.promote_types(weight.dtype, torch.float32)


def _logits(hidden_states: Tensor, weight: Tensor) -> Tensor:
    """(r, V) logits, float32 or float64; the product itself is in the weight's dtype, as in the model."""
    return (hidden_states.to(weight.dtype) @ weight.T).to(result_dtype(weight))


def _chunks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
