"""Figures of a masked position beside the log-probability of its token, differentiable: what a masking may measure.

r positions of a chunk, n in all, D hidden size, V vocabulary. A measure is a function of logits (r, V) and of the
tokens that stand there (r,) to (r,); each of its values depends on its own row alone.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def confidence(logits: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of the most probable token, whichever stands there."""
    return logits.log_softmax(-1).amax(-1)


SHARPENING = 0.5
"""The temperature at which `right_entropy` looks at a law: dParallel's."""


def right_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The entropy in nats at temperature 0.5 where the token that stands there is the most probable one; 0 elsewhere.

    Source: dParallel (arXiv 2509.26488), certainty forcing.
    """
    law = (logits / SHARPENING).log_softmax(-1)
    return -(law.exp() * law).sum(-1) * (logits.argmax(-1) == targets)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "confidence": confidence,
    "right_entropy": right_entropy,
}
"""What a masking's `measure` names."""


class Measured(torch.autograd.Function):
    """A measure (n,) at states (n, D), from the output layer's weight (V, D) and the tokens (n,), chunk by chunk.

    As in `HeadLogps`, where the weight does not learn, the forward pass makes the gradients in the states, too.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, name: str, rows: int) -> Tensor:
        ctx.name, ctx.rows = name, rows
        ones = torch.ones(len(states), device=states.device)
        states_learn, weight_learns = ctx.needs_input_grad[:2]
        if states_learn and not weight_learns:
            values, gradient, _ = _values_and_gradients(
                states, weight, targets, name, rows, ones, (True, False)
            )
            ctx.save_for_backward(gradient)
            return values
        ctx.save_for_backward(states, weight, targets)
        return _values_and_gradients(states, weight, targets, name, rows, ones, (False, False))[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, coefficients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if len(ctx.saved_tensors) == 1:
            (gradient,) = ctx.saved_tensors
            return gradient * coefficients[:, None].to(gradient.dtype), None, None, None, None
        _, of_states, of_weight = _values_and_gradients(
            *ctx.saved_tensors, ctx.name, ctx.rows, coefficients, ctx.needs_input_grad[:2]
        )
        return of_states, of_weight, None, None, None


def _values_and_gradients(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    name: str,
    rows: int,
    coefficients: Tensor,
    learns: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The values (n,), and the gradients of sum(coefficients * values) in the states and in the weight.

    rows: how many states are looked at at once. learns: for states and weight, whether the gradient is computed; it is
    None where it is not.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    values = torch.empty(len(states), dtype=dtype, device=states.device)
    of_states = torch.empty_like(states) if learns[0] else None
    of_weight = torch.zeros_like(weight, dtype=dtype) if learns[1] else None
    for start in range(0, len(states), rows):
        chunk = slice(start, start + rows)
        with torch.set_grad_enabled(any(learns)):
            chunk_states = states[chunk].detach().requires_grad_(learns[0])
            head = weight.detach().requires_grad_(learns[1])
            logits = (chunk_states.to(weight.dtype) @ head.T).to(dtype)
            measured = MEASURES[name](logits, targets[chunk])
            weighted_sum = (measured * coefficients[chunk]).sum()
        values[chunk] = measured.detach()
        if any(learns):
            inputs = [x for x, does_learn in zip((chunk_states, head), learns, strict=True) if does_learn]
            gradients = list(torch.autograd.grad(weighted_sum, inputs))
            if learns[0]:
                of_states[chunk] = gradients.pop(0)
            if learns[1]:
                of_weight += gradients.pop()
    return values, of_states, None if of_weight is None else of_weight.to(weight.dtype)
