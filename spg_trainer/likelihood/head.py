"""The output layer at scored positions only, a few rows of logits at a time.

Axes: n scored positions, D hidden size, V vocabulary. The logits of at most `chunk_rows` positions exist
at once; the gradients have closed forms, so the backward pass recomputes logits instead of keeping them.
Whatever the model's dtype, probabilities are float32, or float64 when the model is.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

CHUNK_LOGITS = 2**25
"""Logits alive at once by default: 128 MB in float32."""


def default_chunk_rows(vocabulary: int) -> int:
    """How many positions are scored at once unless the caller says otherwise."""
    return max(16, CHUNK_LOGITS // vocabulary)


def head_logps(hidden: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the targets and the log-normalisers, without a graph.

    hidden: (n, D). weight: (V, D). targets: (n,) int64. Both results are (n,) float32 or float64.
    """
    with torch.no_grad():
        logps = torch.empty(len(hidden), dtype=_result_dtype(weight), device=hidden.device)
        normalisers = torch.empty_like(logps)
        for rows in _chunks(len(hidden), chunk_rows):
            logits = _logits(hidden[rows], weight)
            chosen = logits.gather(-1, targets[rows, None]).squeeze(-1)
            normalisers[rows] = _log_normaliser_(logits)
            logps[rows] = chosen - normalisers[rows]
        return logps, normalisers


def head_gradient(
    hidden: Tensor,
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
    with torch.no_grad():
        result = torch.empty_like(hidden)
        for rows in _chunks(len(hidden), chunk_rows):
            logits = _logits(hidden[rows], weight)
            scale = coefficients[rows].to(logits.dtype)
            if normalisers is None:
                total = logits.sub_(logits.amax(-1, keepdim=True)).exp_().sum(-1)
                logits.mul_((-scale / total).unsqueeze(-1))
            else:
                logits.sub_(normalisers[rows, None]).exp_().mul_(-scale.unsqueeze(-1))
            logits.scatter_add_(-1, targets[rows, None], scale.unsqueeze(-1))
            score = logits.to(weight.dtype)
            result[rows] = (score @ weight).to(hidden.dtype)
            if weight_gradient is None:
                continue
            if weight_gradient.dtype == weight.dtype:
                weight_gradient.addmm_(score.T, hidden[rows].to(weight.dtype))
            else:
                weight_gradient.add_(score.T @ hidden[rows].to(weight.dtype))
        return result


def weight_gradient_buffer(weight: Tensor) -> Tensor:
    """Zeros (V, D) to sum the weight's gradient in: float32, or float64 when the weight is."""
    return torch.zeros_like(weight, dtype=_result_dtype(weight))


class TargetLogps(torch.autograd.Function):
    """`head_logps` with a graph: keeps hidden states and log-normalisers, recomputes the logits."""

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int) -> Tensor:
        logps, normalisers = head_logps(hidden, weight, targets, chunk_rows)
        ctx.save_for_backward(hidden, weight, targets, normalisers)
        ctx.chunk_rows = chunk_rows
        return logps

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, targets, normalisers = ctx.saved_tensors
        buffer = weight_gradient_buffer(weight) if ctx.needs_input_grad[1] else None
        gradient = head_gradient(hidden, weight, targets, upstream, ctx.chunk_rows, normalisers, buffer)
        return gradient, None if buffer is None else buffer.to(weight.dtype), None, None


def _result_dtype(weight: Tensor) -> torch.dtype:
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """(r, V) logits, float32 or float64; the product itself is in the weight's dtype, as in the model."""
    return (hidden.to(weight.dtype) @ weight.T).to(_result_dtype(weight))


def _log_normaliser_(logits: Tensor) -> Tensor:
    """(r,) logsumexp over the vocabulary, using up the logits: a second copy would double the peak."""
    top = logits.amax(-1, keepdim=True)
    return logits.sub_(top).exp_().sum(-1).log_().add_(top.squeeze(-1))


def _chunks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
