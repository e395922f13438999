"""Log-probabilities of the scored tokens of masked completions, a few rows of logits at a time.

Axes: B completions, M masks, L prompt tokens, T completion tokens; S masked copies of completions, n scored
positions, D hidden size, V vocabulary.

The logits of at most `chunk_rows` positions exist at once; the gradient has a closed form, so that a backward pass
recomputes logits instead of keeping them. Whatever the model's dtype, probabilities are float32, or float64 when
the model is.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spg_trainer.batch import Rollouts
from spg_trainer.likelihood.masks import Masks

CHUNK_LOGITS = 2**25
"""Logits alive at once by default: 128 MB in float32."""


@torch.no_grad()
def token_logps(
    model: nn.Module, rollouts: Rollouts, masks: Masks, mask_id: int, chunk_rows: int | None = None
) -> Tensor:
    """Log-probabilities (B, M, T) of the scored tokens, zero where nothing is scored; one mask at a time, no graph.

    mask_id: the model's [MASK] token. chunk_rows: positions whose logits exist at once (None: as many as make
    128 MB).
    """
    scorer = Scorer(model, rollouts, masks, mask_id, chunk_rows)
    logps = scorer.empty_logps()
    for mask in range(masks.scored.shape[1]):
        scorer.score(scorer.copies(mask, mask + 1), logps)
    return logps


class Forward(NamedTuple):
    """Some masked copies after a pass through the model's body."""

    scored: Tensor
    """(S, T) bool, the positions whose log-probability is asked for."""
    targets: Tensor
    """(n,) int64, the tokens at the scored positions, in the order of `scored`."""
    states: Tensor
    """(n, D) the last hidden states there."""


class Scorer:
    """One model and the masked copies it scores, numbered mask by mask: row + B * mask."""

    def __init__(
        self, model: nn.Module, rollouts: Rollouts, masks: Masks, mask_id: int, chunk_rows: int | None
    ) -> None:
        from spg_trainer.models.load import head_weight

        self.model, self.rollouts, self.masks, self.mask_id = model, rollouts, masks, mask_id
        self.weight = head_weight(model)
        self.chunk_rows = chunk_rows or default_chunk_rows(self.weight.shape[0])

    def empty_logps(self) -> Tensor:
        """Zeros (B, M, T)."""
        scored = self.masks.scored
        return torch.zeros(scored.shape, dtype=result_dtype(self.weight), device=scored.device)

    def copies(self, start: int, stop: int) -> Tensor:
        """The copies of masks start..stop-1."""
        count = len(self.rollouts)
        return torch.arange(start * count, stop * count, device=self.masks.scored.device)

    def index(self, copies: Tensor) -> tuple[Tensor, Tensor]:
        """Row and mask of each copy."""
        return copies % len(self.rollouts), copies // len(self.rollouts)

    def forward(self, copies: Tensor) -> Forward:
        """Sends copies (S,) through the model's body."""
        from spg_trainer.models.load import hidden_states

        rows, samples = self.index(copies)
        rollouts, scored = self.rollouts, self.masks.scored[rows, samples]
        completion_ids = rollouts.completion_ids[rows]
        ids = torch.cat([rollouts.prompt_ids[rows], completion_ids], dim=1)
        attention = torch.ones_like(ids, dtype=torch.bool)
        width = rollouts.prompt_mask.shape[1]
        attention[:, :width] = rollouts.prompt_mask[rows]
        ids = ids.masked_fill(self.masks.masked[rows, samples], self.mask_id)
        keep = torch.arange(width, ids.shape[1], device=ids.device).expand(len(copies), -1)
        states = hidden_states(self.model, ids, attention, keep=keep)[scored]
        return Forward(scored, completion_ids[scored], states)

    def score(self, copies: Tensor, logps: Tensor) -> tuple[Forward, Tensor]:
        """Writes the copies' logps; returns what a backward pass needs, with the log-normalisers (n,)."""
        out = self.forward(copies)
        values, normalisers = head_logps(out.states, self.weight, out.targets, self.chunk_rows)
        scattered = logps.new_zeros(out.scored.shape).masked_scatter_(out.scored, values)
        logps[self.index(copies)] = scattered
        return out, normalisers


@torch.no_grad()
def head_logps(
    hidden_states: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the targets and the log-normalisers, without a graph.

    hidden_states: (n, D). weight: (V, D). targets: (n,) int64. Both results are (n,) float32 or float64.
    """
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

    coefficients: (n,). normalisers: (n,) from `head_logps`; without them they are computed here, from the
    same logits. weight_gradient: (V, D), float32 or float64; the gradient with respect to the weight is
    added to it. Without it that gradient is not computed.
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


def default_chunk_rows(vocabulary: int) -> int:
    """How many positions are scored at once unless the caller says otherwise."""
    return max(16, CHUNK_LOGITS // vocabulary)


def result_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of probabilities: float32, or float64 when the model is."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def _logits(hidden_states: Tensor, weight: Tensor) -> Tensor:
    """(r, V) logits, float32 or float64; the product itself is in the weight's dtype, as in the model."""
    return (hidden_states.to(weight.dtype) @ weight.T).to(result_dtype(weight))


def _chunks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
