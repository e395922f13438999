"""RAFT: the weights of problems and the merging by hand."""

import pytest
import torch

from spg_trainer.algorithms.raft import RAFT, merge_equal
from spg_trainer.tensors import Rows
from tests.common.algorithm_cases import logps_gradient, make_batch, two_tokens, view_of
from tests.common.likelihood_cases import make_rollouts


def test_two_completions_of_two_tokens_by_hand():
    """Weights 1 and 1/2, log p = -1 and -2 a token: -(1 (-2) + 1/2 (-4)) / (2 tokens * 2 completions) = 1."""
    masks = two_tokens(2)
    logps = torch.tensor([[[-1.0, -1.0]], [[-2.0, -2.0]]], dtype=torch.float64)
    loss, gradient = logps_gradient(RAFT(num_masks=1), masks, make_batch(masks.part, [1.0, 0.5], 2), logps)
    assert float(loss.loss) == pytest.approx(1.0, abs=1e-14)
    assert gradient[:, 0].tolist() == [[-0.25, -0.25], [-0.125, -0.125]]
    assert float(loss.metrics["bound/elbo"].total) == -3.0 and float(loss.metrics["bound/share"].total) == 2.0


def weights(rewards):
    rewards = torch.tensor(rewards, dtype=torch.float64)
    return RAFT().compute_advantages(rewards).view(rewards.shape)


def test_solved_problems_weigh_the_same_however_many_are_right():
    found = weights([[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]])  # mean 7/16
    right = 9 / 16
    expected = [[right, 0, 0, 0], [right / 4] * 4, [0] * 4, [0, right / 2, 0, right / 2]]
    assert found.tolist() == [pytest.approx(row) for row in expected]
    assert not RAFT().active(found[2]).any(), "what is wrong is not scored"


def test_partial_credit_weighs_its_distance_from_the_mean_and_equal_rewards_nothing():
    assert weights([[1, 0], [0.6, 0.6]])[1].tolist() == pytest.approx([0.025, 0.025])
    for reward in (0.1, 0.21, 1 / 3, 0.7, -2.3):
        assert (weights([[reward] * 7] * 3) == 0).all()


def test_equal_completions_of_a_group_are_scored_once_up_to_their_end():
    rollouts = make_rollouts([4, 4, 3], 9, [2, 2, 2]).select(torch.tensor([0, 1, 0, 0, 2, 2]))
    rollouts.completion_ids[2, 4:] += 1  # behind the end
    advantages = torch.tensor([0.5, 0.25, 0.125, 1.0, 0.25, 0.5], dtype=torch.float64)
    rows = Rows.full_groups(2, 3, **vars(rollouts))
    assert merge_equal(advantages, rows).tolist() == [0.625, 0.25, 0, 1.0, 0.75, 0]
    rewards = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    prepared = RAFT().prepare(view_of(rewards, rollouts))["advantages"].tolist()
    assert prepared == pytest.approx([2 / 3, 0, 0, 0, 0, 0])
