"""Muon: the orthogonalized matrix by a singular value decomposition, its step by hand, and AdamW for all else."""

import math

import pytest
import torch

from spg_trainer.models import new_tiny
from spg_trainer.models.lora import add_lora
from spg_trainer.training.optimize import COEFFICIENTS, ITERATIONS, MOMENTUM, Muon, orthogonalized


def by_decomposition(matrix: torch.Tensor) -> torch.Tensor:
    """The polynomial applied to the singular values, in float64."""
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s, (a, b, c) = s / s.square().sum().sqrt(), COEFFICIENTS
    for _ in range(ITERATIONS):
        s = a * s + b * s**3 + c * s**5
    return u * s @ v


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (16, 16), (1, 4)])
def test_only_the_singular_values_change_and_they_come_near_1(shape) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalized(matrix)
    torch.testing.assert_close(found.double(), by_decomposition(matrix), atol=1e-5, rtol=0)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6 and values.max() < 1.25
    torch.testing.assert_close(orthogonalized(1e4 * matrix), found, atol=1e-5, rtol=0)
    assert not orthogonalized(torch.zeros(shape)).any()


def test_three_steps_of_a_matrix_by_hand_and_of_the_rest_by_adamw() -> None:
    stream = torch.Generator().manual_seed(2)
    shapes = {"layers.0.w": (4, 6), "layers.0.norm": (4,), "embedding": (5, 4)}
    start = {name: torch.randn(shape, generator=stream) for name, shape in shapes.items()}
    held = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    others = {name: torch.nn.Parameter(start[name].clone()) for name in ("layers.0.norm", "embedding")}
    rate, decay = 0.03, 0.2
    optimizer = Muon(held, lr=rate, betas=(0.9, 0.99), weight_decay=decay)
    adamw = torch.optim.AdamW(others.values(), lr=rate, betas=(0.9, 0.99), weight_decay=decay)
    matrix, momentum = start["layers.0.w"].double(), torch.zeros(4, 6, dtype=torch.float64)
    for _ in range(3):
        for name, p in held.items():
            p.grad = torch.randn(shapes[name], generator=stream)
            if name in others:
                others[name].grad = p.grad.clone()
        gradient = held["layers.0.w"].grad.double()
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        step = by_decomposition(MOMENTUM * momentum + (1 - MOMENTUM) * gradient)
        matrix = matrix * (1 - rate * decay) - rate * 0.2 * math.sqrt(6) * step
        optimizer.step()
        adamw.step()
        optimizer.zero_grad()
        torch.testing.assert_close(held["layers.0.w"].double(), matrix, atol=1e-6, rtol=0)
        for name, p in others.items():
            assert torch.equal(held[name], p)


def test_it_takes_a_models_layers_but_neither_embedding_nor_head_nor_norms() -> None:
    def matrices(model: torch.nn.Module) -> set[str]:
        names = {p: name for name, p in model.named_parameters() if p.requires_grad}
        groups = Muon({name: p for p, name in names.items()}, lr=0.1).param_groups
        assert sum(len(group["params"]) for group in groups) == len(names)
        return {names[p] for group in groups if group["matrices"] for p in group["params"]}

    model = new_tiny(hidden_size=8, layers=2, heads=2, ffn=8)
    layers = {name for name, _ in model.named_parameters() if ".layers." in name and "norm" not in name}
    assert matrices(model) == layers and len(layers) == 2 * 7
    adapters = matrices(add_lora(model, r=2, alpha=1, dropout=0.0, seed=0, base="base"))
    assert len(adapters) == 2 * 2 * 7 and all("lora" in name for name in adapters)
