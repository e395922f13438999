"""AGRPO: the published formula through a real model, the sampler's path by the oracle, its penalty by hand."""

import math

import pytest
import torch

from spg_trainer.algorithms.agrpo import AGRPO
from tests.common.algorithm_cases import (
    ADVANTAGES,
    LENGTHS,
    PROMPTS,
    SIZE,
    WITH_ZERO,
    k3,
    largest_error,
    logps_gradient,
    make_batch,
    path_error,
    surrogate,
    two_tokens,
    written,
)
from tests.common.likelihood_cases import make_rollouts

STEPS = written()
REWARDS = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


def rollouts():
    """With log-probabilities of the sampler."""
    result = make_rollouts(LENGTHS, SIZE, PROMPTS)
    stream = torch.Generator().manual_seed(5)
    result.unmask_logps[:] = -4 * torch.rand(result.unmask_logps.shape, generator=stream)
    return result


@pytest.mark.parametrize("off_policy", [0.0, 1.0])
@pytest.mark.parametrize(
    "settings", [{"num_masks": 3, "beta": 0.3}, {"segment_draw": "entropy", "num_masks": 6}], ids=str
)
def test_loss_and_gradient_are_those_of_the_published_formula(settings, off_policy):
    algorithm, held, sampled = AGRPO(**settings), [], rollouts()

    def formula(row):
        steps, number = STEPS[row.length], LENGTHS.index(row.length)
        surprise = -sampled.unmask_logps[number, : row.length].double()
        entropy = {
            t: 1e-8 + sum(float(surprise[i]) for i in range(row.length) if steps[i] == t) for t in set(steps)
        }
        every, total = sum(entropy.values()), 0.0
        for m in range(len(row.logps)):
            ((t,)) = {steps[i] for i in range(row.length) if row.scored[m, i]}
            assert row.scored[m].tolist() == [step == t for step in steps], (
                "all that was unmasked at the step"
            )
            chance = 1 / len(entropy) if algorithm.segment_draw == "uniform" else entropy[t] / every
            for i in row.scored[m].nonzero().flatten().tolist():
                log_ratio = row.logps[m, i] - row.old[m, i]
                term = -surrogate(log_ratio, row.advantage, 0.2, 0.2, held)
                term = term + algorithm.beta * torch.exp(log_ratio) * k3(row, (m, i), row.ref)
                total = total + term / ((max(steps) + 1) * chance)
        return total / len(row.logps) / row.completions

    prepared = algorithm.prepare(REWARDS, sampled)
    options = {"off_policy": off_policy, "advantages": WITH_ZERO, "prepared": prepared, "rollouts": sampled}
    assert largest_error(algorithm, formula, **options) < 1e-10
    assert set(held) == ({True, False} if off_policy else {False})


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
    assert AGRPO().prepare(REWARDS, sampled)["steps"].tolist() == [2, 7, 4, 1]
