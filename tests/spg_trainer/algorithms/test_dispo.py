"""DiSPO: steps drawn late, advantages of fills, and by enumeration what they teach in the mean."""

import itertools
import math

import numpy as np
import pytest
import torch

from spg_trainer.algorithms.dispo import DiSPO
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import Masks
from tests.common.algorithm_cases import make_batch, sampled, view_of
from tests.common.likelihood_cases import make_rollouts


def test_steps_are_drawn_with_the_fourth_power_of_their_number_up_to_the_last_that_counts():
    rollouts = make_rollouts([3] * 4000, 6)
    rollouts.unmask_step[:] = torch.tensor([1, 0, 2, 3, 4, -1])  # behind the end: steps 3 and 4
    stream = torch.Generator().manual_seed(0)
    pairs = DiSPO(num_fills=2).probe_steps(rollouts, 1, lambda row: stream)
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    counts = pairs[:, 0].bincount(minlength=3)
    expected = [4000 * t**4 / (1 + 16 + 81) for t in (1, 2, 3)]
    assert np.allclose(counts, expected, atol=4 * 32)


def test_a_fill_is_worth_its_reward_over_that_of_its_state_and_equal_ones_nothing():
    """With two fills, half of the difference."""
    rollouts = sampled().with_columns(
        probe_steps=torch.zeros(4, 3, dtype=torch.int64),
        probe_rewards=torch.tensor(
            [[0.1] * 3, [1.0, 0.0, 0.5], [0.7] * 3, [0.0, 0.0, 1.0]], dtype=torch.float64
        ),
    )
    rewards = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    prepared = DiSPO(num_fills=3).prepare(view_of(rewards, rollouts))
    found = prepared["fill_advantages"]
    assert found[0].tolist() == found[2].tolist() == [0.0] * 3
    assert torch.allclose(found[1], torch.tensor([0.5, -0.5, 0.0], dtype=torch.float64))
    assert not prepared["advantages"].any(), "all groups are equal, and states of theirs still teach"
    two = rollouts.with_columns(
        probe_steps=rollouts.probe_steps[:, :2], probe_rewards=rollouts.probe_rewards[:, :2]
    )
    assert DiSPO(num_fills=2).prepare(view_of(rewards, two))["fill_advantages"][1].tolist() == [0.5, -0.5]


@pytest.mark.parametrize("count", [2, 3])
def test_the_mean_gradient_is_that_of_a_fill_s_reward_but_for_one_of_z(count):
    """Two masked tokens of two words each, filled independently in one pass; every draw of Z fills enumerated."""
    theta = torch.tensor([0.4, -0.3], dtype=torch.float64, requires_grad=True)
    reward = {(0, 0): 0.2, (0, 1): 1.0, (1, 0): 0.0, (1, 1): 0.6}
    fills = list(itertools.product((0, 1), repeat=2))
    algorithm = DiSPO(num_fills=count, step_weight=1.0, beta=0.0, num_masks=2)
    everything = torch.ones(count, 2, 2, dtype=torch.bool)
    everything[:, 1] = False
    masks = Masks(everything, everything, everything.double(), torch.ones(count), everything[:, 0])

    def logp(fill):
        return torch.stack(
            [torch.nn.functional.logsigmoid(theta[i] if fill[i] else -theta[i]) for i in range(2)]
        )

    mean = torch.zeros(2, dtype=torch.float64)
    for drawn in itertools.product(fills, repeat=count):
        chance = math.exp(sum(float(logp(fill).detach().sum()) for fill in drawn))
        worth = torch.tensor([[reward[fill] for fill in drawn]], dtype=torch.float64)
        rollouts = sampled().with_columns(probe_rewards=worth)
        advantages = algorithm.prepare(view_of(torch.zeros(1, 4), rollouts))["fill_advantages"][0].tolist()
        logps = torch.stack([torch.stack([logp(fill), torch.zeros(2)]) for fill in drawn])
        batch = make_batch(masks.part, advantages, 1, fill_step=torch.zeros(count), old_logps=logps.detach())
        (gradient,) = torch.autograd.grad(algorithm.loss(logps, masks, batch).loss, theta)
        mean -= chance * gradient
    value = sum(reward[fill] * logp(fill).sum().exp() for fill in fills)
    (expected,) = torch.autograd.grad(value, theta)
    assert torch.allclose(mean, expected * (count - 1) / count, rtol=1e-10, atol=1e-12)


def test_one_fill_is_compared_with_nothing():
    with pytest.raises(ConfigError, match=r"'num_fills': 1\}: should be at least 2, .* Try 2\."):
        DiSPO(num_fills=1)
