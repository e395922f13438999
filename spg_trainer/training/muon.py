"""Muon, an optimizer for weight matrices: a step is the gradient's momentum with all singular values brought near 1.

So rare directions of a matrix get steps as large as common ones. This file does not use torch.optim.Muon (since 2.9),
which computes in bfloat16: on a CPU that takes longer than the gradient itself.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of the polynomial a s + b s^3 + c s^5. Five iterations of it turn singular values s between 0.002 and 1 into
values between 0.68 and 1.21 (Jordan, Muon, 2024)."""
ITERATIONS = 5
"""How often the polynomial is applied."""
MOMENTUM = 0.95
"""Share of the old momentum in the new one; the gradient has the rest."""


def orthogonalized(matrix: Tensor) -> Tensor:
    """The matrix (M, N) with all singular values brought near 1, float32.

    The matrix is divided by its Frobenius norm, so that no singular value is above 1, and then put through the
    polynomial `ITERATIONS` times.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    # The shorter side comes first, so that `square` is as small as can be.
    x = (matrix.T if tall else matrix).float()
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        # x becomes a x + (b S + c S S) x with S = x x^T, and so its singular values s become a s + b s^3 + c s^5.
        square = x @ x.T
        square = torch.addmm(square, square, square, beta=b, alpha=c)
        x = torch.addmm(x, square, x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.AdamW):
    """Muon for the matrices of the layers, AdamW for all else: embedding, head, norms and biases.

    A matrix's step is 0.2 sqrt(max(M, N)) times its orthogonalized Nesterov momentum. This is about the size of a step
    of AdamW, so that both use one learning rate and weight decay (Moonlight, arXiv 2502.16982, section 2.2).
    """

    def __init__(self, parameters: Mapping[str, Tensor], **settings: Any) -> None:
        """parameters: {name: tensor}; the names of a layer's parameters hold its number, e.g.
        `layers.3.self_attn.q_proj.weight`. settings: what `torch.optim.AdamW` takes.
        """
        matrices, others = [], []
        for name, p in parameters.items():
            is_of_layer = any(part.isdigit() for part in name.split("."))
            if p.ndim == 2 and is_of_layer:
                matrices.append(p)
            else:
                others.append(p)
        groups = []
        if matrices:
            groups.append({"params": matrices, "matrices": True})
        if others:
            groups.append({"params": others, "matrices": False})
        super().__init__(groups, **settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of all parameters; it sets the gradients of matrices to None, so that AdamW passes them over."""
        for group in self.param_groups:
            if not group["matrices"]:
                continue
            for p in group["params"]:
                if p.grad is not None:
                    self._step_matrix(p, group["lr"], group["weight_decay"])
                    p.grad = None
        super().step(closure)

    def _step_matrix(self, p: Tensor, rate: float, decay: float) -> None:
        """Muon's step of one matrix: weight decay, then its orthogonalized Nesterov momentum."""
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros(())  # AdamW expects it when a checkpoint is loaded
            state["momentum"] = torch.zeros_like(p)
        momentum = state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
        step = orthogonalized(p.grad.lerp(momentum, MOMENTUM))
        p.mul_(1 - rate * decay)
        p.add_(step.to(p.dtype), alpha=-rate * 0.2 * math.sqrt(max(p.shape)))
