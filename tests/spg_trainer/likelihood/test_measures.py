"""Measures of masked positions: values and gradients are those of plain autograd, whatever the size of a chunk."""

import pytest
import torch

from spg_trainer.likelihood.logps import MEASURES, Measured


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("chunk_rows", [1, 3, 7])
@pytest.mark.parametrize("is_trained", [False, True], ids=["frozen head", "trained head"])
def test_values_and_gradients_are_those_of_plain_autograd(name, chunk_rows, is_trained) -> None:
    rng = torch.Generator().manual_seed(0)
    states = torch.randn(7, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 5, generator=rng, dtype=torch.float64, requires_grad=is_trained)
    coefficients = torch.randn(7, generator=rng, dtype=torch.float64)
    targets = (states @ weight.T).argmax(-1)
    # Half of the positions hold another token than the most probable one.
    targets[::2] = (targets[::2] + 1) % 11
    if name == "rate":  # of a token and of what stands in its place, which here is mostly another one
        targets = torch.stack([targets, (targets + torch.arange(7) // 2) % 11], -1)
    trained = [states, weight] if is_trained else [states]

    expected = MEASURES[name](states @ weight.T, targets)
    found = Measured.apply(states, weight, targets, name, chunk_rows)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
    for ours, plain in zip(
        torch.autograd.grad((coefficients * found).sum(), trained),
        torch.autograd.grad((coefficients * expected).sum(), trained),
        strict=True,
    ):
        assert torch.allclose(ours, plain, rtol=1e-10, atol=1e-13) and plain.abs().max() > 0
