"""CJ-GRPO: the published formula, a mean over the steps of all completions, through a real model."""

import pytest
import torch

from spg_trainer.algorithms.cj_grpo import CJGRPO
from tests.common.algorithm_cases import (
    ADVANTAGES,
    LENGTHS,
    PROMPTS,
    SIZE,
    WITH_ZERO,
    k3,
    largest_error,
    path_error,
    surrogate,
    written,
)
from tests.common.likelihood_cases import make_rollouts

REWARDS = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
STEPS = written()
COUNT = {s: sum(steps.count(s) for steps in STEPS.values()) for s in range(5)}
"""Step -> tokens of the four completions that it unmasked."""


@pytest.mark.parametrize("off_policy", [0.0, 1.0])
@pytest.mark.parametrize("settings", [{}, {"beta": 0.0, "epsilon": 0.1}])
def test_loss_and_gradient_are_those_of_the_published_formula(settings, off_policy):
    """The update has 8 completions, of which these four stand for all: each step has twice as many tokens."""
    algorithm, held = CJGRPO(**settings), []

    def formula(row):
        total = 0.0
        for i, step in enumerate(STEPS[row.length]):
            (m,) = row.scored[:, i].nonzero().flatten().tolist()
            assert row.scored[m].tolist() == [other == step for other in STEPS[row.length]]
            term = surrogate(
                row.logps[m, i] - row.old[m, i], row.advantage, algorithm.epsilon, algorithm.epsilon, held
            )
            total = total + (term - algorithm.beta * k3(row, (m, i), row.ref)) / (2 * COUNT[step])
        return -total / len(COUNT)

    prepared = algorithm.prepare(REWARDS, make_rollouts(LENGTHS, SIZE, PROMPTS))
    options = {"off_policy": off_policy, "advantages": WITH_ZERO, "prepared": prepared}
    assert largest_error(algorithm, formula, **options) < 1e-10
    assert set(held) == ({True, False} if off_policy else {False})


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
