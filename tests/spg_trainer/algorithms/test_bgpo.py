"""BGPO: both sides of its bound by hand, and never above the objective."""

import math

import pytest
import torch

from spg_trainer.algorithms.bgpo import BGPO
from spg_trainer.likelihood import Masks, elbo
from tests.common.algorithm_cases import LENGTHS, SIZE, logps_gradient, make_batch, two_tokens
from tests.common.likelihood_cases import make_rollouts, seeded


def off_policy_case(num_masks=7, seed=0, scale=0.3):
    """Logps of random masks that differ from the old ones."""
    rollouts = make_rollouts(LENGTHS, SIZE)
    masks = BGPO(num_masks=num_masks).make_masking().draw(rollouts, seeded(seed))
    stream = torch.Generator().manual_seed(seed)
    old = -torch.rand(masks.scored.shape, generator=stream, dtype=torch.float64) * masks.scored
    moved = scale * torch.randn(masks.scored.shape, generator=stream, dtype=torch.float64) * masks.scored
    return masks, old, old + moved, make_batch(rollouts.completion_mask, old_logps=old)


def test_both_branches_by_hand():
    """Two masks of two tokens, d = (2, -2) and A = 1, -1, two completions: 1 + (2 - 2) / 2 = 1; -(e^2 + e^-2) / 2."""
    scored = torch.ones(2, 2, 2, dtype=torch.bool)
    part = torch.ones(2, 2, dtype=torch.bool)
    masks = Masks(scored, scored, scored.double(), torch.ones(2).double(), part)
    old = torch.full((2, 2, 2), -3.0, dtype=torch.float64)
    logps = old + torch.tensor([1.0, -1.0], dtype=torch.float64)[None, :, None]
    batch = make_batch(part, [1.0, -1.0], 2, old_logps=old)
    loss, gradient = logps_gradient(BGPO(), masks, batch, logps)
    assert float(loss.loss) == pytest.approx(-(1 - math.cosh(2)) / 2, abs=1e-12)
    expected = [[-0.25, -0.25], [math.exp(2) / 4, math.exp(-2) / 4]]
    assert gradient[:, :, 0].tolist() == [pytest.approx(row, abs=1e-12) for row in expected]
    assert float(loss.metrics["ratio/mean"].total) == pytest.approx(2)


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_never_exceeds_the_importance_weighted_advantage(seed):
    masks, old, logps, batch = off_policy_case(seed=seed)
    found = -float(BGPO().loss(logps, masks, batch).loss) * 8
    exact = ((elbo(logps, masks) - elbo(old, masks)).exp() * batch.advantages).sum()
    assert found < float(exact)
    for row in range(4):
        one = torch.tensor([row])
        bound = -float(BGPO().loss(logps[one], masks.select(one), batch.select(one)).loss) * 8
        ratio = (elbo(logps, masks) - elbo(old, masks)).exp()[row]
        assert bound <= float(ratio * batch.advantages[row]) + 1e-12


def test_a_raised_completion_of_any_size_leaves_others_finite():
    """exp of a difference that only the other branch needs must not turn its gradient into nan."""
    masks, old = two_tokens(2), torch.full((2, 1, 2), -800.0)
    batch = make_batch(masks.part, [1.0, -1.0], 2, old_logps=old)
    logps = old + torch.tensor([700.0, 0.1])[:, None, None]
    _, gradient = logps_gradient(BGPO(), masks, batch, logps)
    assert gradient.isfinite().all() and gradient.any()
