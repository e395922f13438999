"""AGRPO: the sampler's path by the oracle, its penalty by hand."""

import math

import pytest
import torch

from spg_trainer.algorithms.agrpo import AGRPO
from tests.common.algorithm_cases import (
    ADVANTAGES,
    LENGTHS,
    logps_gradient,
    make_batch,
    path_error,
    two_tokens,
    view_of,
    written,
)
from tests.common.likelihood_cases import make_rollouts

STEPS = written()
REWARDS = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


def test_with_every_step_drawn_the_gradient_is_that_of_the_path_over_its_steps():
    """60 draws without replacement take each of up to 5 steps equally often."""
    weights = [a / (max(STEPS[n]) + 1) / 4 for a, n in zip(ADVANTAGES, LENGTHS, strict=True)]
    assert path_error(AGRPO(num_masks=60), weights) < 1e-10


def test_the_penalty_is_weighed_by_the_ratio():
    """One token: ratio 2, reference as likely as the old one: 2 (1/2 - log 1/2 - 1) times beta, one step, A = 0."""
    masks, old = two_tokens(), torch.full((1, 1, 2), math.log(1 / 4), dtype=torch.float64)
    masks.weight[0, 0, 1] = 0
    prepared = {"steps": torch.ones(1, dtype=torch.float64)}
    batch = make_batch(masks.part, [0.0], 1, old_logps=old, ref_logps=old, prepared=prepared)
    loss, _ = logps_gradient(AGRPO(num_masks=1, beta=0.5), masks, batch, old + math.log(2))
    assert float(loss.loss) == pytest.approx(0.5 * 2 * (math.log(2) - 0.5))


def test_steps_count_up_to_the_last_that_unmasked_a_scored_token():
    sampled = make_rollouts([2, 3, 1, 3], 5)
    sampled.unmask_step[:] = torch.tensor(
        [[1, 0, 4, 4, -1], [6, 2, 2, 7, 8], [3, 0, 1, 2, 4], [0, 0, 0, 1, 1]]
    )
    assert AGRPO().prepare(view_of(REWARDS, sampled))["steps"].tolist() == [2, 7, 4, 1]
