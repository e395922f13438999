"""Muon, an optimizer for weight matrices: steps along the gradient's momentum with all singular values brought near 1.

So rare directions of a matrix get steps as large as common ones. torch.optim.Muon (2.9 on) computes them in bfloat16,
which on a CPU takes longer than the gradient.
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
MOMENTUM = 0.95


def orthogonalized(matrix: Tensor) -> Tensor:
    """The matrix (M, N) with all singular values brought near 1, float32.

    It is divided by its Frobenius norm, so that they are at most 1, and then put through the polynomial five times.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).float()
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.AdamW):
    """Muon for the matrices of the layers, AdamW for all else: embedding, head, norms and biases.

    A matrix's step is 0.2 sqrt(max(M, N)) times its orthogonalized Nesterov momentum, about the size of one of AdamW,
    so that both take one learning rate and weight decay (Moonlight, arXiv 2502.16982, section 2.2).
    """

    def __init__(self, parameters: Mapping[str, Tensor], **settings: Any) -> None:
        """parameters: by name; a layer's matrices have two dimensions and the layer's number in their names, such as
        `layers.3.self_attn.q_proj.weight`. settings: of AdamW.
        """
        matrices, others = [], []
        for name, p in parameters.items():
            is_of_layer = any(map(str.isdigit, name.split(".")))
            (matrices if p.ndim == 2 and is_of_layer else others).append(p)
        groups = [{"params": ps, "matrices": ps is matrices} for ps in (matrices, others) if ps]
        super().__init__(groups, **settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of all parameters; it sets the gradients of matrices to None, so that AdamW passes them over."""
        for group in self.param_groups:
            for p in group["params"] if group["matrices"] else ():
                if p.grad is not None:
                    self._step_matrix(p, group["lr"], group["weight_decay"])
                    p.grad = None
        super().step(closure)

    def _step_matrix(self, p: Tensor, rate: float, decay: float) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros(())  # AdamW looks for it when a checkpoint is put back
            state["momentum"] = torch.zeros_like(p)
        momentum = state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
        step = orthogonalized(p.grad.lerp(momentum, MOMENTUM))
        p.mul_(1 - rate * decay)
        p.add_(step.to(p.dtype), alpha=-rate * 0.2 * math.sqrt(max(p.shape)))
