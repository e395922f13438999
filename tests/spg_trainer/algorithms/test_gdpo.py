"""GDPO: the sequence ratio and its clip by hand."""

import pytest
import torch

from spg_trainer.algorithms.gdpo import GDPO
from spg_trainer.algorithms.ratios import clipped_surrogate
from tests.common.algorithm_cases import logps_gradient, make_batch, two_tokens


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
