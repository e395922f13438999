"""Makes an optimizer step: sums, clips and checks the gradients, sets the learning rate and changes the weights.

With `--shard` each process keeps a part of every weight, and inside `models.shard.unsharded` it has the whole weights
for a while.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spg_trainer.distributed import all_reduce_gradients, is_part, mesh_of, whole
from spg_trainer.models.shard import reduce_gradients
from spg_trainer.settings.check import check_torchao
from spg_trainer.settings.configs import OptimizerConfig


def make_optimizer(settings: OptimizerConfig, parameters: Mapping[str, Tensor]) -> torch.optim.Optimizer:
    """The optimizer that the settings ask for: Muon, torch's AdamW, or torchao's AdamW with moments of 8 bits.

    parameters: {name: tensor of any shape} of those that are trained. Raises ConfigError if torchao is needed and
    cannot run, or is not installed.
    """
    trained = list(parameters.values())
    options: dict[str, Any] = {
        "lr": settings.learning_rate,
        "betas": (0.9, settings.adam_beta2),
        "weight_decay": settings.weight_decay,
    }
    if settings.optimizer == "muon":
        return Muon(parameters, **options)
    if settings.adam_moments == "float32":
        return torch.optim.AdamW(trained, **options)
    check_torchao(trained[0].device)
    from torchao.optim import AdamW8bit

    return AdamW8bit(trained, **options)


def sum_gradients(model: nn.Module) -> None:
    """Sums the gradients over all processes; of a weight that is divided, each process gets the sum of its own part.

    Call it inside `models.shard.unsharded`.
    """
    reduce_gradients(model)
    # `reduce_gradients` leaves whole tensors alone: adapters, and all weights of a model that is not divided.
    whole_tensors = [p for p in model.parameters() if p.requires_grad and not is_part(p)]
    if whole_tensors:
        all_reduce_gradients(whole_tensors)


def clip_gradients(parameters: Sequence[Tensor], limit: float) -> float:
    """Scales the gradients so that the norm of all of them together is at most `limit`; returns the norm before.

    The norm is over the parts of all processes; each process scales its own part of a divided gradient. parameters: of
    any shapes.
    """
    # Torch takes together only what is divided among the same processes.
    by_mesh: dict[Any, list[Tensor]] = {}
    for p in parameters:
        by_mesh.setdefault(mesh_of(p), []).append(p)
    norms = [
        whole(torch.nn.utils.get_total_norm([p.grad for p in alike if p.grad is not None]))
        for alike in by_mesh.values()
    ]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    for alike in by_mesh.values():
        torch.nn.utils.clip_grads_with_norm_(alike, limit, norm)
    return float(norm)


def optimizer_step(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    *,
    loss: float,
    learning_rate: float,
    max_grad_norm: float,
    before_change: Callable[[], None] = lambda: None,
) -> tuple[float, bool]:
    """Clips the summed gradients, changes the weights if loss and gradients are finite, and drops the gradients.

    Returns the norm of the gradient before it was clipped, and whether the weights changed. parameters: of any shapes.
    loss: summed over all processes, as the gradients are, so that all decide alike. before_change: called just before
    the weights change.
    """
    norm = clip_gradients(parameters, max_grad_norm)
    finite = math.isfinite(loss) and math.isfinite(norm)
    if finite:
        before_change()
        set_rate(optimizer, learning_rate)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm, finite


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate. A compiled optimizer keeps it in a tensor, so that it is not compiled for each rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


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
