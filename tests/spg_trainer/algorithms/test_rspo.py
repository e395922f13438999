"""RSPO: what its centred penalty is, and is not."""

import pytest
import torch

from spg_trainer.algorithms.rspo import RSPO
from spg_trainer.tensors import Rows


def sequences(ref: float = 0.0) -> Rows:
    stream = torch.Generator().manual_seed(0)
    bounds, ref_bounds, old_bounds = -5 * torch.rand(3, 6, generator=stream, dtype=torch.float64)
    advantages = torch.tensor([1.0, -1.0, 0.0, 0.5, -0.5, 0.0], dtype=torch.float64)
    group, length = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([4, 1, 7, 3, 3, 9])
    totals = {"completions": 6.0}
    return Rows(
        bounds=bounds.requires_grad_(),
        old_bounds=old_bounds,
        ref_bounds=ref_bounds + ref * length,
        advantages=advantages,
        group=group,
        length=length,
        totals=totals,
    )


def gradient(algorithm: RSPO, given: Rows) -> torch.Tensor:
    return torch.autograd.grad(algorithm.coupled_loss(given).loss, given.bounds)[0]


def test_its_gradient_is_that_of_a_square_around_the_advantage_over_lambda():
    given, beta = sequences(), 0.2
    moved = (given.bounds - given.ref_bounds) / given.length
    moved = moved - moved.mean().detach()
    square = beta * (moved - given.advantages / beta).square().mean() / 2
    (expected,) = torch.autograd.grad(square, given.bounds)
    assert torch.allclose(gradient(RSPO(beta=beta), given), expected, rtol=1e-12)


def test_anchored_to_the_sampler_it_is_the_regression_of_gdsd_without_its_clamp_up_to_a_common_drift():
    """(d/L - psi A)^2 with psi = 1/beta, whose mean error no gradient follows; in the first update, REINFORCE."""
    given, psi = sequences(), 5.0
    algorithm = RSPO(beta=1 / psi, anchor="old")
    assert algorithm.needs == {"old"} and RSPO(anchor="old", beta=0.0).needs == frozenset()
    error = (given.bounds - given.old_bounds) / given.length - psi * given.advantages
    square = (error - error.mean().detach()).square().mean() / (2 * psi)
    (expected,) = torch.autograd.grad(square, given.bounds)
    assert torch.allclose(gradient(algorithm, given), expected, rtol=1e-12)
    first = given.with_columns(old_bounds=given.bounds.detach())
    expected = -first.advantages / first.length / 6
    assert torch.allclose(gradient(algorithm, first), expected, rtol=1e-12)


def test_a_reference_that_finds_all_tokens_likelier_alike_changes_nothing():
    expected = gradient(RSPO(beta=0.2), sequences())
    assert torch.allclose(gradient(RSPO(beta=0.2), sequences(ref=3.0)), expected, rtol=1e-12)


def test_without_a_reference_it_is_reinforce_on_the_bound_by_the_token():
    given = sequences().without("ref_bounds")
    assert not RSPO(beta=0.0).needs
    expected = -given.advantages / given.length / 6
    assert torch.allclose(gradient(RSPO(beta=0.0), given), expected, rtol=1e-12)
    loss = RSPO(beta=0.2).coupled_loss(sequences())
    assert loss.metrics["kl"].per == "scored_completions" and float(loss.metrics["kl"].total) > 0
    assert float(loss.metrics["bound/elbo"].total) == pytest.approx(
        float((given.bounds.detach() / given.length).sum())
    )
