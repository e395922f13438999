"""Logits of the output layer (the head), alike for rollouts and updates."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WEIGHTS_AT_ONCE = 2**24
"""How many weights of the head are copied to float32 at once where no kernel does without a copy; they take 64 MB."""


def head_logits(hidden_states: Tensor, weight: Tensor, in_float32: bool = False) -> Tensor:
    """Logits (..., V) of hidden states (..., D) and the head's weight (V, D), of `result_dtype`.

    The product is in the weight's dtype, as in the model. in_float32: whether it leaves the product in float32 where
    the weight has 16 bits, without being rounded to them before; weights of other types give the same logits.
    """
    states = hidden_states.to(weight.dtype)
    if in_float32 and weight.dtype.itemsize == 2:
        return _Float32Product.apply(states.flatten(0, -2), weight).unflatten(0, states.shape[:-1])
    return (states @ weight.T).to(result_dtype(weight))


def result_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of probabilities from a head's weight (V, D): float32, or float64 when the model is."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


class _Float32Product(torch.autograd.Function):
    """`states @ weight.T` in float32, from states (n, D) and weight (V, D) of 16 bits.

    The gradients are products of 16 bits, as they are without it.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(states, weight)
        if _has_kernel(weight):
            return torch.mm(states, weight.T, out_dtype=torch.float32)
        logits = torch.empty(len(states), len(weight), dtype=torch.float32, device=weight.device)
        wide = states.float()
        rows = max(1, WEIGHTS_AT_ONCE // weight.shape[1])
        for part, some in zip(logits.split(rows, 1), weight.split(rows), strict=True):
            part.copy_(wide @ some.float().T)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        states, weight = ctx.saved_tensors
        states_needed, weight_needed = ctx.needs_input_grad
        narrow = gradient.to(weight.dtype)
        return narrow @ weight if states_needed else None, narrow.T @ states if weight_needed else None


def _has_kernel(weight: Tensor) -> bool:
    """Whether torch multiplies 16 bits into float32 where the weight lies: on CUDA, since torch 2.8."""
    return weight.is_cuda and "dtype" in torch.ops.aten.mm.overloads()
