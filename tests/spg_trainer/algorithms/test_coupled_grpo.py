"""coupled-GRPO: three copies by hand, figures of tokens scored twice."""

import math

import pytest
import torch

from spg_trainer.algorithms.coupled_grpo import CoupledGRPO
from spg_trainer.likelihood import Masks
from tests.common.algorithm_cases import logps_gradient, make_batch
from tests.common.likelihood_cases import make_rollouts, seeded


def three_copies():
    """Two tokens at t = 1/2, the first in the first half: phi = (full + 2 half) / 2."""
    scored = torch.tensor([[[1, 1], [1, 0], [0, 1]]], dtype=torch.bool)
    weight = scored * torch.tensor([1.5, 3.0, 3.0], dtype=torch.float64)[None, :, None]
    return Masks(scored, scored, weight, torch.ones(1, dtype=torch.float64), scored[:, 0])


def test_two_tokens_by_hand():
    """Off by log 2 in the full copy and in the second half: ratios 2^(1/2) and 2^(1/2 + 1); the clip stops both."""
    masks = three_copies()
    old = torch.full((1, 3, 2), -3.0, dtype=torch.float64) * masks.scored
    moved = old + math.log(2) * torch.tensor([[1, 1], [0, 0], [0, 1]])
    batch = make_batch(masks.part, [1.0], 1, old_logps=old)
    loss, gradient = logps_gradient(CoupledGRPO(beta=0.0, epsilon=0.45), masks, batch, moved)
    assert float(loss.loss) == pytest.approx(-(2**0.5 + 1.45) / 50)
    expected = [[-(2**0.5) / 2 / 50, 0], [-(2**0.5) / 50, 0], [0, 0]]
    assert torch.allclose(gradient[0], torch.tensor(expected, dtype=torch.float64))
    totals = {name: float(metric.total) for name, metric in loss.metrics.items()}
    scored = int(masks.scored.sum())
    assert totals["ratio/mean"] / scored == pytest.approx((2**0.5 + 2**1.5) / 2)
    assert totals["ratio/clip_fraction"] / scored == pytest.approx(1 / 2)
    batch = make_batch(masks.part, [1.0], 1, old_logps=old, ref_logps=old)
    kl = CoupledGRPO(beta=1.0).loss(moved, masks, batch).metrics["kl"]
    expected = sum(2**-power + power * math.log(2) - 1 for power in (0.5, 1.5)) / 2
    assert float(kl.total) / scored == pytest.approx(expected)


def test_on_policy_the_gradient_is_that_of_the_advantage_times_phi():
    algorithm = CoupledGRPO(beta=0.0)
    masks = algorithm.make_masking().draw(make_rollouts([5, 3], 5), seeded(1))
    logps = -torch.rand(masks.scored.shape, dtype=torch.float64) * masks.scored
    batch = make_batch(masks.part, [0.5, -1.0], 2)
    _, gradient = logps_gradient(algorithm, masks, batch, logps)
    expected = -batch.advantages[:, None, None] * masks.weight / 3 / 50
    assert torch.allclose(gradient, expected, rtol=1e-12)
    of_token = (masks.weight / 3).sum(1)[masks.part]
    assert 1.125 <= of_token.min() and of_token.max() <= 3
