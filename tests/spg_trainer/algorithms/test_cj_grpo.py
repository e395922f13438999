"""CJ-GRPO: what its steps weigh by hand, the sampler's path by the oracle."""

import torch

from spg_trainer.algorithms.cj_grpo import CJGRPO
from tests.common.algorithm_cases import (
    ADVANTAGES,
    PROMPTS,
    SIZE,
    path_error,
)
from tests.common.likelihood_cases import make_rollouts

REWARDS = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


def test_every_step_weighs_the_same_and_one_that_unmasked_nothing_counts():
    rollouts = make_rollouts([3, 2], 4)
    rollouts.unmask_step[:] = torch.tensor([[0, 0, 3, 1], [3, 0, -1, -1]])
    share = CJGRPO().prepare(REWARDS[:1], rollouts)["share"]
    third, half = 2 / (4 * 3), 2 / (4 * 2)
    assert share.tolist() == [[third, third, half, 0.0], [half, third, 0.0, 0.0]]


def test_where_each_step_unmasks_a_token_of_every_completion_it_is_the_path_over_its_tokens():
    rollouts = make_rollouts([SIZE] * 4, SIZE, PROMPTS)
    for row in range(4):
        rollouts.unmask_step[row] = torch.randperm(SIZE, generator=torch.Generator().manual_seed(row))
    weights = [a / SIZE / 4 for a in ADVANTAGES]
    assert path_error(CJGRPO(beta=0.0), weights, rollouts) < 1e-10
