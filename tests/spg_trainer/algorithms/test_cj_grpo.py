"""CJ-GRPO: what its steps weigh by hand, the sampler's path by the oracle."""

import torch

from spg_trainer.algorithms.cj_grpo import CJGRPO
from tests.common.algorithm_cases import (
    ADVANTAGES,
    PROMPTS,
    SIZE,
    in_turns,
    path_error,
    view_of,
)
from tests.common.likelihood_cases import make_rollouts

REWARDS = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


def test_every_step_of_a_completion_that_unmasked_a_scored_token_weighs_the_same():
    """Also where the first steps unmasked only tokens behind the end, in all completions."""
    rollouts = make_rollouts([3, 2, 1, 4], 4)
    rollouts.unmask_step[:] = torch.tensor([[2, 2, 3, 0], [3, 1, 0, -1], [5, 0, 1, 2], [6, 6, 6, 6]])
    share = CJGRPO().prepare(view_of(REWARDS, rollouts))["share"]
    expected = [[1 / 4, 1 / 4, 1 / 2, 0], [1 / 2, 1 / 2, 0, 0], [1, 0, 0, 0], [1 / 4] * 4]
    assert share.tolist() == expected
    place = in_turns([0, 0, 1, 1], [0, 0])  # of two episodes, with four steps and with two
    share = CJGRPO().prepare(view_of(REWARDS[:1], rollouts, place))["share"]
    expected = [[1 / 8, 1 / 8, 1 / 4, 0], [1 / 4, 1 / 4, 0, 0], [1 / 2, 0, 0, 0], [1 / 8] * 4]
    assert share.tolist() == expected


def test_where_each_step_unmasks_a_token_of_every_completion_it_is_the_path_over_its_tokens():
    rollouts = make_rollouts([SIZE] * 4, SIZE, PROMPTS)
    for row in range(4):
        rollouts.unmask_step[row] = torch.randperm(SIZE, generator=torch.Generator().manual_seed(row))
    weights = [a / SIZE / 4 for a in ADVANTAGES]
    assert path_error(CJGRPO(beta=0.0), weights, rollouts) < 1e-10
