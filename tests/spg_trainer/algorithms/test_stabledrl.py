"""StableDRL: its weights by hand, SPG where nothing has moved."""

import math

import pytest
import torch

from spg_trainer.algorithms.spg import SPG
from spg_trainer.algorithms.stabledrl import StableDRL, self_normalised
from spg_trainer.tensors import Rows
from tests.common.algorithm_cases import (
    ADVANTAGES,
    logps_gradient,
    make_batch,
    moved,
)
from tests.common.likelihood_cases import make_rollouts, seeded


def test_weights_by_hand():
    """Ratios 1 and 3 of two, 1, 1 and 2 of three: shares of 1/4 and 3/4, 1/4, 1/4 and 1/2, times 2 and 3."""
    log_ratio = torch.tensor([1.0, 1.0, 1.0, 3.0, 2.0], dtype=torch.float64).log()
    found = self_normalised(log_ratio, torch.tensor([7, 4, 7, 4, 7]))
    assert found.tolist() == pytest.approx([0.75, 0.5, 0.75, 1.5, 1.5])
    large = self_normalised(torch.tensor([-900.0, -901.0]), torch.tensor([0, 0]))
    assert large.tolist() == pytest.approx([2 / (1 + math.exp(-1)), 2 / (1 + math.e)])


def case(shift):
    algorithm, rollouts = StableDRL(masking="random", p_mask_prompt=0.0), make_rollouts([6] * 4, 6)
    masks = algorithm.make_masking().draw(rollouts, seeded(2))
    logps = -torch.rand(masks.scored.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logps = logps * masks.scored
    old = (moved(logps, masks, 0.2, 1) + shift) * masks.scored
    batch = make_batch(rollouts.completion_mask, ADVANTAGES, place=Rows.full_groups(2, 2), old_logps=old)
    return algorithm, masks, batch, logps


def test_nothing_changes_if_all_of_a_group_became_likelier_alike():
    """Unless one of them is beyond the ceiling: with 2 nats a token all four are, and weigh the same."""
    found = {shift: logps_gradient(*case(shift))[1] for shift in (0.0, 0.5, -2.0)}
    assert torch.allclose(found[0.0], found[0.5], rtol=1e-10)
    algorithm, masks, batch, logps = case(-2.0)
    spg = SPG(masking="random", p_mask_prompt=0.0, normalizer="length")
    _, expected = logps_gradient(spg, masks, batch, logps)
    assert torch.allclose(found[-2.0], expected, rtol=1e-12)
    assert float(algorithm.loss(logps, masks, batch).metrics["ratio/cut"].total) == 4


def test_on_policy_it_is_spg_over_the_own_length():
    algorithm, masks, batch, logps = case(0.0)
    assert algorithm.compares == "group" and algorithm.active(0 * batch.advantages).all()
    spg = SPG(masking="random", p_mask_prompt=0.0, normalizer="length")
    batch = batch.without("old_logps")
    (loss, gradient), (of_spg, expected) = (
        logps_gradient(which, masks, batch, logps) for which in (algorithm, spg)
    )
    assert float(loss.loss) == pytest.approx(float(of_spg.loss)) and torch.allclose(gradient, expected)
