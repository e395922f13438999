"""SLIM-RL: what its masks estimate, by enumeration, and the gradient of its loss where the weights have not moved."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spg_trainer.algorithms import build
from spg_trainer.likelihood import elbo, token_logps
from spg_trainer.likelihood.random_masks import GaussBlocksMasking
from tests.common.algorithm_cases import LENGTHS, MASK, SIZE, logps_gradient, make_batch
from tests.common.exact_likelihood import any_order_elbo, context_logps, predictor
from tests.common.likelihood_cases import make_rollouts, policy_of, seeded, streams_from, tiny_model

NODES = [(5 - 15**0.5) / 10, 1 / 2, (5 + 15**0.5) / 10]
WEIGHTS = [5 / 18, 8 / 18, 5 / 18]


def masked_where(values):
    """Streams of which each mask draws these numbers."""
    return streams_from(lambda row, mask: SimpleNamespace(random=lambda size: np.array(values[mask])[:size]))


def chance_of_each_token(masking, rollouts):
    """(M, T): by bisection, below which number a draw masks the token."""
    low, high = np.zeros((3, SIZE)), np.ones((3, SIZE))
    for _ in range(40):
        middle = (low + high) / 2
        scored = masking.draw(rollouts, masked_where(middle)).scored[0].numpy()
        low, high = np.where(scored, middle, low), np.where(scored, high, middle)
    return low


@pytest.mark.parametrize("spread, widest", [(0.2, 0.1), (0.9, 0.45), (0.0, 0.0)])
def test_early_blocks_are_masked_more_and_the_mean_over_blocks_is_the_node(spread, widest):
    """Blocks of 3, 3 and 3 tokens; at the outer nodes the spread is as wide as probabilities allow."""
    masking = GaussBlocksMasking(3, block_length=3, spread=spread)
    found = chance_of_each_token(masking, make_rollouts([SIZE], SIZE))
    blocks = found.reshape(3, 3, 3)
    assert np.abs(blocks - blocks[:, :, :1]).max() < 1e-9
    by_block = blocks[:, :, 0]
    np.testing.assert_allclose(by_block.mean(1), NODES, atol=1e-9)
    tilt = [min(widest, NODES[0]), widest, min(widest, NODES[0])]
    np.testing.assert_allclose(by_block[:, 0] - by_block[:, 1], tilt, atol=1e-9)
    np.testing.assert_allclose(by_block[:, 1] - by_block[:, 2], tilt, atol=1e-9)


def test_in_one_block_the_mean_over_masked_tokens_is_the_any_order_elbo_over_n_plus_1():
    """Three tokens, three nodes: all subsets with their probabilities at each node; the empty one counts as zero."""
    model = tiny_model(hidden_size=8)
    rollouts = make_rollouts([3], 4, [2], width=2, tokens=9)
    masking, mean = GaussBlocksMasking(3, block_length=8), 0.0
    for subset in itertools.product([0.0, 1.0], repeat=3):  # 0 is masked
        masks = masking.draw(rollouts, masked_where([subset] * 3))
        logps = token_logps(policy_of(model, MASK), rollouts, masks)
        of_copy = (logps * masks.weight).sum(-1)[0] / 3
        k = subset.count(0.0)
        mean += sum(t**k * (1 - t) ** (3 - k) * float(v) for t, v in zip(NODES, of_copy, strict=True))
    with torch.no_grad():
        predict = predictor(model, rollouts.prompt_ids[0])
        exact = any_order_elbo(context_logps(predict, rollouts.completion_ids[0], 3, MASK))
    assert mean == pytest.approx(float(exact) / 4, abs=1e-10)


def test_where_the_weights_have_not_moved_the_gradient_is_that_of_advantage_times_mean():
    rollouts = make_rollouts(LENGTHS, SIZE)
    algorithm = build("slim_rl", {"block_length": 4})
    masks = algorithm.make_masking().draw(rollouts, seeded())
    batch = make_batch(rollouts.completion_mask)
    logps = -torch.rand(masks.scored.shape, dtype=torch.float64) * masks.scored
    loss, gradient = logps_gradient(algorithm, masks, batch, logps)
    expected = torch.zeros_like(logps)
    for row, mask, token in masks.scored.nonzero().tolist():
        k = int(masks.scored[row, mask].sum())
        expected[row, mask, token] = -float(batch.advantages[row]) * WEIGHTS[mask] / k / 8
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)
    assert float(loss.metrics["kl"].total) == 0
    means = elbo(logps, masks)
    assert torch.isfinite(means).all()


@pytest.mark.parametrize("masked_copies, ratio", [((0, 1, 2), 2.0), ((1,), 2.0), ((), 1.0)])
def test_the_mean_ratio_is_that_of_the_copies_that_mask_anything(masked_copies, ratio):
    """Of a completion of a few tokens, some copies mask none; then neither is its ratio less than 1."""
    rollouts = make_rollouts([2], 4, [2], width=2)
    algorithm = build("slim_rl", {"block_length": 4})
    numbers = [np.full(4, 0.0 if copy in masked_copies else 1.0) for copy in range(3)]
    masks = algorithm.make_masking().draw(rollouts, masked_where(numbers))
    assert masks.scored.any(-1)[0].nonzero().flatten().tolist() == list(masked_copies)
    batch = make_batch(rollouts.completion_mask)
    logps = -torch.ones(masks.scored.shape, dtype=torch.float64) * masks.scored
    old = logps - np.log(2) * masks.scored
    loss = algorithm.loss(logps, masks, batch.with_columns(old_logps=old))
    assert float(loss.metrics["ratio/mean"].total) == pytest.approx(ratio)
