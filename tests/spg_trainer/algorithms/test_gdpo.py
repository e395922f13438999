"""GDPO: quadrature, the sequence ratio and its clip by hand, and the published formula through a real model."""

import math

import pytest
import torch

from spg_trainer.algorithms.gdpo import GDPO, GDPORepro
from spg_trainer.algorithms.ratios import clipped_surrogate
from tests.common.algorithm_cases import largest_error, logps_gradient, make_batch, surrogate, two_tokens

NODES = {  # t, w on 0..1, from tables
    2: ([(3 - 3**0.5) / 6, (3 + 3**0.5) / 6], [1 / 2, 1 / 2]),
    3: ([(5 - 15**0.5) / 10, 1 / 2, (5 + 15**0.5) / 10], [5 / 18, 8 / 18, 5 / 18]),
}


def quadrature(row, logps, by_ratio=False):
    """sum over nodes of w n/k (or w/t) times the sum over the masked tokens."""
    nodes, weights = NODES[len(logps)]
    total = 0.0
    for t, w, value, masked in zip(nodes, weights, logps, row.scored, strict=True):
        k = int(masked.sum())
        assert k == max(1, math.floor(t * row.length + 1e-9))
        total = total + w * (1 / t if by_ratio else row.length / k) * value[masked].sum()
    return total


@pytest.mark.parametrize("off_policy", [0.0, 0.015])
@pytest.mark.parametrize("beta, num_masks", [(0.0, 3), (0.05, 2)])
def test_loss_and_gradient_are_those_of_the_published_formula(off_policy, beta, num_masks):
    held = []

    def formula(row):
        new, old, ref = (quadrature(row, x) for x in (row.logps, row.old, row.ref))
        kl = torch.exp(ref - new) - (ref - new) - 1
        term = -surrogate(new - old, row.advantage, 0.02, 0.03, held) / row.length
        return (term + beta * kl) / row.completions

    algorithm = GDPO(num_masks=num_masks, beta=beta, epsilon=0.02, epsilon_high=0.03)
    assert largest_error(algorithm, formula, off_policy=off_policy) < 1e-10
    assert set(held) == ({True, False} if off_policy else {False}), "both sides of the clip are seen"


@pytest.mark.parametrize("off_policy", [0.0, 0.015])
def test_the_reproduction_is_nemo_rl_s_formula(off_policy):
    held = []

    def formula(row):
        new, old = quadrature(row, row.logps, True), quadrature(row, row.old, True)
        return -surrogate((new - old) / row.length, row.advantage, 0.005, 0.005, held) / row.completions

    assert largest_error(GDPORepro(epsilon=0.005), formula, off_policy=off_policy) < 1e-10
    assert set(held) == ({True, False} if off_policy else {False})


def test_the_clip_acts_on_both_sides_by_hand():
    """r = 2, 2, 1/4, 1/4 with A = 1, -1, 1, -1 and clip to 1/2 .. 3/2, n = 2, four completions.

    min(2, 3/2) = 3/2, held; min(-2, -3/2) = -2; min(1/4, 1/2) = 1/4; min(-1/4, -1/2) = -1/2, held.
    loss = -(3/2 - 2 + 1/4 - 1/2) / 2 / 4 = 3/32; gradient in a logp -r A / 2 / 4 where not held.
    """
    masks = two_tokens(4)
    old = torch.full((4, 1, 2), -1.0, dtype=torch.float64)
    logps = old + torch.tensor([2.0, 2.0, 0.25, 0.25]).double().log()[:, None, None] / 2
    batch = make_batch(masks.part, [1.0, -1.0, 1.0, -1.0], 4, old_logps=old)
    loss, gradient = logps_gradient(GDPO(epsilon=0.5), masks, batch, logps)
    assert float(loss.loss) == pytest.approx(3 / 32, abs=1e-12)
    assert gradient[:, 0, 0].tolist() == pytest.approx([0, 2 / 8, -0.25 / 8, 0], abs=1e-12)
    totals = {name: (float(metric.total), metric.per) for name, metric in loss.metrics.items()}
    assert totals["ratio/clip_fraction"] == (2.0, "rewarded_completions")
    assert totals["ratio/mean"] == (pytest.approx(4.5), "scored_completions")
    assert totals["bound/share"] == (4.0, "completions")


@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
@pytest.mark.parametrize("log_ratio", [200.0, -200.0])
def test_a_ratio_beyond_float32_has_finite_loss_and_gradient(log_ratio, advantage):
    x = torch.tensor([log_ratio], requires_grad=True)
    value, stopped = clipped_surrogate(x, torch.tensor([advantage]), 0.5)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert value.isfinite().all() and gradient.isfinite().all()
    held = (log_ratio > 0 and advantage > 0) or (log_ratio < 0 and advantage < 0)
    assert bool(stopped) == held and (not held or not gradient.any())
