"""wd1: weights by hand, nothing from equal rewards."""

import math

import pytest
import torch

from spg_trainer.algorithms import build
from spg_trainer.algorithms.wd1 import WD1
from tests.common.algorithm_cases import make_batch, two_tokens, view_of

REWARDS = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.2, 0.2], [0.5, 2.5, 1.5]], dtype=torch.float64)


def test_weights_of_a_group_by_hand():
    """Rewards 1, 0, 0: A = 2/3, -1/3, -1/3; with a = e^(2/3), b = e^(-1/3): w+ = a / (a + 2 b), b / (a + 2 b), twice.

    e^1 / (e + 2) = 0.57612, 1 / (e + 2) = 0.21194; w- = 1 / (1 + 2 e) = 0.15536, e / (1 + 2 e) = 0.42232.
    w+ - w- = 0.42075, -0.21038, -0.21038, which sum to 0.
    """
    e = math.e
    expected = [e / (e + 2) - 1 / (1 + 2 * e), *[1 / (e + 2) - e / (1 + 2 * e)] * 2]
    assert expected == pytest.approx([0.42075, -0.21038, -0.21038], abs=1e-5)
    found = WD1().compute_advantages(REWARDS[:1])
    assert found.tolist() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("psi", [0.5, 1.0, 30.0])
def test_weights_sum_to_zero_are_bounded_and_vanish_for_equal_rewards(psi):
    weights = WD1(psi=psi).compute_advantages(REWARDS).view(3, 3)
    assert weights.sum(1).abs().max() < 1e-15 and weights.abs().max() <= 1
    assert (weights[1] == 0).all(), "exactly"
    assert WD1(psi=psi).active(weights[1]).tolist() == [False] * 3
    if psi == 30.0:
        assert weights[2].tolist() == pytest.approx([-1, 1, 0], abs=1e-9)


def test_the_reproduction_sums_a_group_and_ends_at_eos_only():
    assert build("wd1_repro") == WD1(normalizer="groups", end_tokens="eos") and WD1().end_tokens == "any"
    for normalizer in ("completions", "groups"):
        algorithm, view = WD1(normalizer=normalizer), view_of(REWARDS, None)
        assert algorithm.prepare(view)["group_size"] == 3
        assert torch.equal(algorithm.prepare(view)["advantages"], WD1().compute_advantages(REWARDS))


def test_a_mean_over_groups_is_as_many_times_that_over_completions_as_a_group_has_completions():
    masks, logps = two_tokens(), torch.full((1, 1, 2), -2.0, dtype=torch.float64)
    batch = make_batch(masks.part, [1.0], 6, group_size=3)
    assert float(WD1().loss(logps, masks, batch).loss) == pytest.approx(4 / 6)
    assert float(build("wd1_repro").loss(logps, masks, batch).loss) == pytest.approx(4 / 2)


def test_metrics_of_two_tokens_by_hand():
    masks, logps = two_tokens(), torch.tensor([[[-2.0, -1.0]]], dtype=torch.float64)
    for weight, signed in ((0.5, "loss/positive"), (-0.5, "loss/negative")):
        batch = make_batch(masks.part, [weight], 6)
        metrics = WD1().loss(logps, masks, batch).metrics
        expected = {"logps": -3.0, "weight/abs": 0.5, "loss/positive": 0.0, "loss/negative": 0.0}
        expected[signed] = 3 * weight / 6
        assert {name: float(metric.total) for name, metric in metrics.items()} == pytest.approx(expected)
