"""ESPO: the ratio by the token, its clip and penalty by hand."""

import math

import pytest
import torch

from spg_trainer.algorithms.espo import ESPO, ESPORepro
from tests.common.algorithm_cases import (
    logps_gradient,
    make_batch,
    two_tokens,
)


def test_the_clip_acts_on_both_sides_by_hand():
    """r = exp(d / 2) = 2, 2, 1/4, 1/4 with A = 1, -1, 1, -1 and clip to 0.8 .. 1.2, four completions of two tokens.

    min(2, 1.2) held; min(-2, -1.2) = -2; min(1/4, 0.8) = 1/4; min(-1/4, -0.8) held: loss = -(1.2 - 2 + 0.25 - 0.8) / 4.
    The gradient in a logp is -r A / n / 4 where not held.
    """
    masks, old = two_tokens(4), torch.full((4, 1, 2), -1.0, dtype=torch.float64)
    logps = old + torch.tensor([2.0, 2.0, 0.25, 0.25]).double().log()[:, None, None]
    batch = make_batch(masks.part, [1.0, -1.0, 1.0, -1.0], 4, old_logps=old)
    loss, gradient = logps_gradient(ESPO(beta=0.0), masks, batch, logps)
    assert float(loss.loss) == pytest.approx(1.35 / 4, abs=1e-12)
    assert gradient[:, 0, 0].tolist() == pytest.approx([0, 2 / 8, -0.25 / 8, 0], abs=1e-12)
    assert float(loss.metrics["ratio/clip_fraction"].total) == 2
    assert float(loss.metrics["ratio/mean"].total) == pytest.approx(4.5)
    assert float(loss.metrics["bound/elbo"].total) == pytest.approx(float(logps.mean(-1).sum()))


def test_epsilon_zero_lets_through_ratios_of_one_and_those_on_the_wrong_side():
    """Countdown's recipe: the gradient flows where r = 1, where A > 0 and r < 1, and where A < 0 and r > 1."""
    masks, old = two_tokens(6), torch.full((6, 1, 2), -1.0, dtype=torch.float64)
    logps = old + torch.tensor([0.0, 0.0, -0.1, 0.1, 0.1, -0.1], dtype=torch.float64)[:, None, None]
    batch = make_batch(masks.part, [1.0, -1.0, 1.0, -1.0, 1.0, -1.0], 6, old_logps=old)
    _, gradient = logps_gradient(ESPO(beta=0.0, epsilon=0.0), masks, batch, logps)
    expected = [-1.0, 1.0, -math.exp(-0.1), math.exp(0.1), 0.0, 0.0]
    assert (gradient[:, 0, 0] * 12).tolist() == pytest.approx(expected, abs=1e-12)


def test_the_reproduction_compares_with_the_others_and_scores_the_tail():
    rewards = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    assert ESPORepro().compute_advantages(rewards).tolist() == pytest.approx([1.0, -0.5, -0.5])
    assert ESPO().compute_advantages(rewards).tolist() == pytest.approx([2 / 3, -1 / 3, -1 / 3])
    assert ESPORepro().score_tail and ESPORepro.end_tokens == "eos" and not ESPO().score_tail
