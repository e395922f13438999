"""MaxRL: the mean of its gradient by enumeration, what it refuses."""

import itertools
import math

import pytest
import torch

from spg_trainer.algorithms.maxrl import MaxRL
from spg_trainer.errors import ConfigError


def weights(rewards):
    rewards = torch.tensor(rewards, dtype=torch.float64)
    return MaxRL().compute_advantages(rewards).view(rewards.shape)


@pytest.mark.parametrize("logit", [-2.0, 0.3])
@pytest.mark.parametrize("size", [2, 4])
def test_the_mean_gradient_is_that_of_a_cut_log_of_the_chance_of_success(logit, size):
    """Three arms, the first right: every group of four draws, with its probability."""
    theta = torch.tensor([logit, 0.1, -0.4], dtype=torch.float64, requires_grad=True)
    logps = theta.log_softmax(0)
    chances = logps.detach().exp().tolist()
    mean = torch.zeros(3, dtype=torch.float64)
    for arms in itertools.product(range(3), repeat=size):
        chance = math.prod(chances[arm] for arm in arms)
        advantages = weights([[float(arm == 0) for arm in arms]])[0]
        objective = sum(a * logps[arm] for a, arm in zip(advantages, arms, strict=True)) / size
        if advantages.any():
            mean += chance * torch.autograd.grad(objective, theta, retain_graph=True)[0]
    p = logps[0].exp()
    series = sum(-((1 - p) ** k) / k for k in range(1, size))
    (expected,) = torch.autograd.grad(series, theta, retain_graph=True)
    assert torch.allclose(mean, expected, rtol=1e-12, atol=1e-14)
    (plain,) = torch.autograd.grad(p, theta)
    p = float(p.detach())
    assert torch.allclose(expected, plain * (1 - (1 - p) ** (size - 1)) / p, rtol=1e-12)


def test_weights_are_distances_over_the_mean_and_nothing_where_all_are_equal():
    found = weights([[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0.2, 0.6, 0.2, 0.2]])
    third = 1 / 3
    expected = [[3, -1, -1, -1], [third, third, third, -1], [0] * 4, [0] * 4, [-third, 1, -third, -third]]
    assert found.tolist() == [pytest.approx(row) for row in expected]
    for reward in (0.1, 0.21, 1 / 3, 0.7):
        assert (weights([[reward] * 7] * 3) == 0).all()


def test_negative_rewards_are_refused_with_what_would_do():
    with pytest.raises(ConfigError) as caught:
        weights([[1.0, -0.25]])
    assert "-0.25" in str(caught.value) and "--reward-weights" in str(caught.value)
