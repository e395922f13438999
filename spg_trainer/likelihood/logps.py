"""Per-token log-probabilities of completions under a model, at scored positions only, a few logits at a time.

A sequence is one masked copy of one completion, named by its row and its mask. Axes: S sequences, B
completions, M masks, L prompt tokens, T completion tokens; n scored positions, D hidden size, V vocabulary.

The logits of at most `chunk_rows` positions exist at once; the gradients have closed forms, so the backward pass
recomputes logits instead of keeping them. Whatever the model's dtype, probabilities are float32, or float64 when
the model is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from spg_trainer.batch import Rollouts
from spg_trainer.likelihood.masks import Masks

CHUNK_LOGITS = 2**25
"""Logits alive at once by default: 128 MB in float32."""


@dataclass(frozen=True)
class Sequences:
    """Some masked copies of some completions, ready for the model."""

    input_ids: Tensor
    """(S, L+T) int64, with the mask id wherever the copy is masked."""
    attention_mask: Tensor
    """(S, L+T) bool, false on prompt padding."""
    scored: Tensor
    """(S, T) bool, the positions whose log-probability is asked for."""
    targets: Tensor
    """(n,) int64, the tokens at the scored positions, in the order of `scored`."""


def sequences(rollouts: Rollouts, masks: Masks, rows: Tensor, samples: Tensor, mask_id: int) -> Sequences:
    """The masked copies `samples` of the completions `rows`; both (S,) int64."""
    ids = torch.cat([rollouts.prompt_ids[rows], rollouts.completion_ids[rows]], dim=1)
    attention = torch.ones_like(ids, dtype=torch.bool)
    attention[:, : rollouts.prompt_mask.shape[1]] = rollouts.prompt_mask[rows]
    scored = masks.scored[rows, samples]
    masked_ids = ids.masked_fill(masks.masked[rows, samples], mask_id)
    return Sequences(masked_ids, attention, scored, rollouts.completion_ids[rows][scored])


def scored_states(model: nn.Module, batch: Sequences) -> Tensor:
    """Last hidden states at the scored positions, (n, D), in the order of `batch.targets`."""
    from spg_trainer.models.load import hidden_states

    count, width = batch.input_ids.shape
    completion = torch.arange(width - batch.scored.shape[1], width, device=batch.scored.device)
    keep = completion.expand(count, -1)
    return hidden_states(model, batch.input_ids, batch.attention_mask, keep=keep)[batch.scored]


def token_logps(
    model: nn.Module,
    rollouts: Rollouts,
    masks: Masks,
    samples: slice,
    mask_id: int,
    chunk_rows: int | None = None,
) -> Tensor:
    """Log-probabilities (B, m, T) of the scored tokens in the masks `samples`; zero where nothing is scored.

    Differentiable; float32, or float64 when the model is. mask_id: the model's [MASK] token. chunk_rows:
    positions whose logits exist at once (None: as many as make 128 MB). For old and reference logps call
    it under `no_grad`.
    """
    from spg_trainer.models.load import head_weight

    weight = head_weight(model)
    chosen = torch.arange(masks.scored.shape[1], device=masks.scored.device)[samples]
    count = len(rollouts)
    rows = torch.arange(count, device=chosen.device).repeat_interleave(len(chosen))
    batch = sequences(rollouts, masks, rows, chosen.repeat(count), mask_id)
    chunk_rows = chunk_rows or default_chunk_rows(weight.shape[0])
    values = TargetLogps.apply(scored_states(model, batch), weight, batch.targets, chunk_rows)
    logps = torch.zeros(batch.scored.shape, dtype=values.dtype, device=values.device)
    return logps.masked_scatter(batch.scored, values).view(count, len(chosen), -1)


class TargetLogps(torch.autograd.Function):
    """`head_logps` with a graph: keeps hidden states and log-normalisers, recomputes the logits."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden_states: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int
    ) -> Tensor:
        logps, normalisers = head_logps(hidden_states, weight, targets, chunk_rows)
        ctx.save_for_backward(hidden_states, weight, targets, normalisers)
        ctx.chunk_rows = chunk_rows
        return logps

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        states, weight, targets, normalisers = ctx.saved_tensors
        buffer = weight_gradient_buffer(weight) if ctx.needs_input_grad[1] else None
        gradient = head_gradient(states, weight, targets, upstream, ctx.chunk_rows, normalisers, buffer)
        return gradient, None if buffer is None else buffer.to(weight.dtype), None, None


def default_chunk_rows(vocabulary: int) -> int:
    """How many positions are scored at once unless the caller says otherwise."""
    return max(16, CHUNK_LOGITS // vocabulary)


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


def weight_gradient_buffer(weight: Tensor) -> Tensor:
    """Zeros (V, D) to sum the weight's gradient in: float32, or float64 when the weight is."""
    return torch.zeros_like(weight, dtype=result_dtype(weight))


def result_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of probabilities: float32, or float64 when the model is."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def _logits(hidden_states: Tensor, weight: Tensor) -> Tensor:
    """(r, V) logits, float32 or float64; the product itself is in the weight's dtype, as in the model."""
    return (hidden_states.to(weight.dtype) @ weight.T).to(result_dtype(weight))


def _chunks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
