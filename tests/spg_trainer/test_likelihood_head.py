"""The chunked output layer against a plain softmax over the whole vocabulary."""

import pytest
import torch

from spg_trainer.likelihood.logps import (
    TargetLogps,
    default_chunk_rows,
    head_gradient,
    head_logps,
    weight_gradient_buffer,
)


def case(n=11, size=5, vocabulary=13, dtype=torch.float64, scale=3.0):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(n, size, generator=generator, dtype=torch.float64) * scale
    weight = torch.randn(vocabulary, size, generator=generator, dtype=torch.float64)
    targets = torch.randint(vocabulary, (n,), generator=generator)
    return hidden.to(dtype), weight.to(dtype), targets


def plain(hidden, weight, targets):
    return (hidden @ weight.T).log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


@pytest.mark.parametrize("chunk_rows", [1, 4, 11, 100])
def test_logps_and_both_gradients_are_those_of_a_plain_softmax(chunk_rows):
    hidden, weight, targets = case()
    hidden.requires_grad_(), weight.requires_grad_()
    upstream = torch.linspace(-2, 3, len(targets), dtype=torch.float64)
    expected = plain(hidden, weight, targets)
    wanted = torch.autograd.grad(expected, (hidden, weight), upstream)
    found = TargetLogps.apply(hidden, weight, targets, chunk_rows)
    assert torch.allclose(found, expected, atol=1e-13)
    for a, b in zip(torch.autograd.grad(found, (hidden, weight), upstream), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-13)


def test_logps_have_the_derivatives_of_finite_differences():
    hidden, weight, targets = case(n=4, size=3, vocabulary=5)
    hidden.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda h, w: TargetLogps.apply(h, w, targets, 3), (hidden, weight))


@pytest.mark.parametrize("keep", [True, False])
def test_the_fused_gradient_needs_no_forward_before_it(keep):
    hidden, weight, targets = case()
    coefficients = torch.linspace(-1, 1, len(targets), dtype=torch.float64)
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    (coefficients * plain(h, w, targets)).sum().backward()
    _, normalisers = head_logps(hidden, weight, targets, 4)
    total = torch.full_like(weight, 0.5)
    found = head_gradient(hidden, weight, targets, coefficients, 4, normalisers if keep else None, total)
    assert torch.allclose(found, h.grad, atol=1e-13)
    assert torch.allclose(total, w.grad + 0.5, atol=1e-13), "added to what was there"


def test_a_frozen_head_gets_no_gradient_and_no_buffer(monkeypatch):
    import spg_trainer.likelihood.logps as head

    monkeypatch.setattr(head, "weight_gradient_buffer", lambda weight: pytest.fail("work for a frozen head"))
    hidden, weight, targets = case()
    hidden.requires_grad_()
    TargetLogps.apply(hidden, weight, targets, 4).sum().backward()
    assert hidden.grad is not None and weight.grad is None


def test_a_frozen_body_still_gives_the_head_its_gradient():
    hidden, weight, targets = case()
    weight.requires_grad_()
    TargetLogps.apply(hidden, weight, targets, 4).sum().backward()
    expected = torch.autograd.grad(plain(hidden, weight, targets).sum(), weight)[0]
    assert torch.allclose(weight.grad, expected, atol=1e-13)


@pytest.mark.parametrize(
    "dtype, result", [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_probabilities_are_float32_or_better_whatever_the_model(dtype, result):
    hidden, weight, targets = case(n=40, vocabulary=300, dtype=getattr(torch, dtype))
    logps, normalisers = head_logps(hidden, weight, targets, 7)
    assert logps.dtype == normalisers.dtype == getattr(torch, result)
    logits = (hidden @ weight.T).double()  # the product is the model's own; everything after it is exact
    expected = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    assert torch.allclose(logps.double(), expected, atol=1e-5)


def test_the_weight_gradient_of_a_bfloat16_head_is_summed_in_float32():
    hidden, weight, targets = case(n=64, dtype=torch.bfloat16, scale=1.0)
    assert weight_gradient_buffer(weight).dtype == torch.float32
    weight.requires_grad_()
    TargetLogps.apply(hidden, weight, targets, 1).sum().backward()
    exact = weight.detach().double().requires_grad_()
    plain(hidden.double(), exact, targets).sum().backward()
    assert weight.grad.dtype == torch.bfloat16
    assert (weight.grad.double() - exact.grad).norm() / exact.grad.norm() < 0.01


def test_logits_far_apart_stay_finite():
    hidden, weight, targets = case(dtype=torch.float32, scale=1e3)
    logps, _ = head_logps(hidden, weight, targets, 4)
    gradient = head_gradient(hidden, weight, targets, torch.ones(len(targets)), 4)
    assert logps.isfinite().all() and gradient.isfinite().all() and logps.min() < -200


def test_the_default_chunk_holds_128_megabytes_of_logits():
    assert default_chunk_rows(126464) == 265
    assert default_chunk_rows(2**30) == 16
