"""RLDF: what its filter keeps, by hand; how it draws steps; d1's pass where it keeps all of the first step's state."""

import numpy as np
import pytest
import torch

from spg_trainer.algorithms.diffu_grpo import DiffuGRPO
from spg_trainer.algorithms.rldf import RLDF
from spg_trainer.likelihood import Masks
from tests.common.algorithm_cases import logps_gradient, make_batch, moved, view_of
from tests.common.likelihood_cases import make_rollouts, seeded


def test_of_the_later_tokens_those_count_that_the_model_was_sure_of():
    """Steps 1, 1, 2, 3, 3 of which the copy's is 1; probabilities .1, .9, .59, .61 and .1: three of five are kept."""
    scored = torch.ones(1, 1, 5, dtype=torch.bool)
    masks = Masks(scored, scored, scored.double(), torch.ones(1, dtype=torch.float64), scored[:, 0])
    logps = torch.tensor([[[0.1, 0.9, 0.59, 0.61, 0.1]]], dtype=torch.float64).log()
    batch = make_batch(scored[:, 0], [2.0], 1, unmask_step=torch.tensor([[1, 1, 2, 3, 3]]))
    loss, gradient = logps_gradient(RLDF(beta=0.0, num_masks=1), masks, batch, logps)
    assert float(loss.loss) == pytest.approx(-2.0)
    assert gradient[0, 0].tolist() == pytest.approx([-2 / 3, -2 / 3, 0, -2 / 3, 0])
    assert float(loss.metrics["kept"].total) == 3


def test_with_all_kept_of_the_first_step_s_state_it_is_d1_s_pass():
    rollouts, found = make_rollouts([6, 3, 1, 5], 6), []
    rollouts.unmask_step[:] = 0
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    d1 = DiffuGRPO(p_mask_prompt=0.0, beta=0.0, epsilon=0.2)
    for algorithm in (RLDF(beta=0.0, threshold=0.0, num_masks=1), d1):
        masks = algorithm.make_masking().draw(rollouts, seeded(1))
        logps = moved(torch.full(masks.scored.shape, -2.0, dtype=torch.float64), masks, 0.3, 1)
        old = moved(logps, masks, 0.3, 2)
        prepared = algorithm.prepare(view_of(rewards, rollouts))
        steps = {"unmask_step": rollouts.unmask_step, "old_logps": old}
        batch = make_batch(rollouts.completion_mask, completions=4, prepared=prepared, **steps)
        found.append((masks.masked, *logps_gradient(algorithm, masks, batch, logps)))
    (seen, loss, gradient), (expected_seen, expected_loss, expected) = found
    assert torch.equal(seen, expected_seen) and torch.allclose(gradient, expected, rtol=1e-12)
    assert float(loss.loss) == pytest.approx(float(expected_loss.loss))


def test_steps_are_drawn_by_the_exponential_of_their_mean_surprise():
    """Steps of mean surprise 0, 1 and 2, one drawn of 400 completions each; of more copies than steps all are drawn."""
    rows = 1200
    rollouts = make_rollouts([4] * rows, 5)
    rollouts.unmask_step[:] = torch.tensor([2, 0, 1, 1, 3])
    rollouts.unmask_logps[:] = -torch.tensor([2.0, 0.0, 0.5, 1.5, 9.0])
    steps = []
    for scored in RLDF(num_masks=1).make_masking().draw(rollouts, seeded()).scored[:, 0]:
        steps.append(int(rollouts.unmask_step[0][scored].min()))
        assert torch.equal(scored[:4], rollouts.unmask_step[0][:4] >= steps[-1]) and not scored[4]
    odds = np.exp([0.0, 1.0, 2.0])
    share, expected = np.bincount(steps, minlength=3) / rows, odds / odds.sum()
    assert (abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / rows)).all()
    few = rollouts.select(torch.arange(50))
    masks = RLDF(num_masks=5).make_masking().draw(few, seeded())
    firsts = torch.where(masks.scored, few.unmask_step[:, None], 9).amin(-1)
    assert all(set(row[:3]) == {0, 1, 2} for row in firsts.tolist()), "each step once, before any again"
    assert {tuple(row[3:]) for row in firsts.tolist()} >= {(2, 2), (1, 2)}
