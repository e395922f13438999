"""Measures: differentiable figures of a masked position in addition to the log-probability of its token.

Axes: n positions, r of them in a chunk, D hidden size, V vocabulary. A measure takes logits (r, V) and targets (r,),
the tokens that are scored there (-1 = none is), and returns (r,); each value depends on its own position alone.

The estimators of the KL to a reference model (k2, k3) are in `algorithms/ratios.py`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def raw_logit(logits: Tensor, targets: Tensor) -> Tensor:
    """The logit of the target, or the highest one where there is no target."""
    of_target = logits.gather(-1, targets.clamp(min=0)[:, None]).squeeze(-1)
    return torch.where(targets < 0, logits.amax(-1), of_target)


def entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The entropy of the model's distribution in nats."""
    logps = logits.log_softmax(-1)
    return -(logps.exp() * logps).sum(-1)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"entropy": entropy, "raw_logit": raw_logit}
"""{name, as in `Masking.measure`: the measure}."""


class Measured(torch.autograd.Function):
    """The values (n,) of a measure at hidden states (n, D), from the head's weight (V, D) and targets (n,), in chunks.

    If the weight is frozen, the forward pass also computes the gradient of each value with respect to its hidden state,
    as in `HeadLogps` (logps.py). name: a name of `MEASURES`. chunk_rows: how many positions a chunk has.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, name: str, chunk_rows: int
    ) -> Tensor:
        ctx.name, ctx.chunk_rows = name, chunk_rows
        ones = torch.ones(len(states), device=states.device)
        states_need_gradient, weight_needs_gradient = ctx.needs_input_grad[:2]
        if states_need_gradient and not weight_needs_gradient:
            values, gradient, _ = _values_and_gradients(
                states, weight, targets, name, chunk_rows, coefficients=ones, needed=(True, False)
            )
            ctx.save_for_backward(gradient)
            return values
        ctx.save_for_backward(states, weight, targets)
        values, _, _ = _values_and_gradients(
            states, weight, targets, name, chunk_rows, coefficients=ones, needed=(False, False)
        )
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, coefficients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if len(ctx.saved_tensors) == 1:  # the weight is frozen
            (gradient,) = ctx.saved_tensors
            return gradient * coefficients[:, None].to(gradient.dtype), None, None, None, None
        states, weight, targets = ctx.saved_tensors
        needed = ctx.needs_input_grad[:2]
        _, states_gradient, weight_gradient = _values_and_gradients(
            states, weight, targets, ctx.name, ctx.chunk_rows, coefficients=coefficients, needed=needed
        )
        return states_gradient, weight_gradient, None, None, None


def _values_and_gradients(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    name: str,
    chunk_rows: int,
    coefficients: Tensor,
    needed: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(values (n,), gradient with respect to the states (n, D), gradient with respect to the weight (V, D)).

    Both are gradients of sum(coefficients * values). chunk_rows: how many positions a chunk has. coefficients: (n,).
    needed: whether the gradients with respect to (states, weight) are needed; one that is not is returned as None.
    """
    states_needed, weight_needed = needed
    dtype = torch.promote_types(weight.dtype, torch.float32)
    values = torch.empty(len(states), dtype=dtype, device=states.device)
    states_gradient = torch.empty_like(states) if states_needed else None
    weight_gradient = torch.zeros_like(weight, dtype=dtype) if weight_needed else None
    for start in range(0, len(states), chunk_rows):
        chunk = slice(start, start + chunk_rows)
        with torch.set_grad_enabled(any(needed)):
            chunk_states = states[chunk].detach().requires_grad_(states_needed)
            head = weight.detach().requires_grad_(weight_needed)
            logits = (chunk_states.to(weight.dtype) @ head.T).to(dtype)
            measured = MEASURES[name](logits, targets[chunk])
            weighted_sum = (measured * coefficients[chunk]).sum()
        values[chunk] = measured.detach()
        if any(needed):
            inputs = [tensor for tensor in (chunk_states, head) if tensor.requires_grad]
            gradients = iter(torch.autograd.grad(weighted_sum, inputs))
            if states_needed:
                states_gradient[chunk] = next(gradients)
            if weight_needed:
                weight_gradient += next(gradients)
    if weight_needed:
        weight_gradient = weight_gradient.to(weight.dtype)
    return values, states_gradient, weight_gradient
