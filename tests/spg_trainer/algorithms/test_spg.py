"""SPG: hand-computed numbers, advantages and settings."""

import math

import pytest
import torch

from spg_trainer.algorithms.spg import SPG
from spg_trainer.checking.checks import check_algorithm
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import Masks
from tests.common.algorithm_cases import ADVANTAGES, LENGTHS, MASK, SIZE, make_batch
from tests.common.likelihood_cases import make_rollouts, naive_logps, seeded, tiny_model


def test_a_three_token_completion_by_hand():
    """Two completions of advantages 1/2 and -1/2, two masks each: tokens 0 and 1, weighing 3/2; token 1, weighing 3.

    elbo = 1/2 (3/2 (-1 - 2) + 3 (-1/2)) = -3
    eubo (beta 1): token 0: log(1/2 3/2 e^-1) = -1.2877; token 1: log(1/2 (3/2 e^-2 + 3 e^-1/2)) = 0.0112;
        token 2 is never masked: 3/2 (-1.2877 + 0.0112) = -1.9147
    loss of the mixture (1/2), -2.4573 = -(1/2 (-3) - 1/2 mix) / 2 = (3 - 2.4573) / 4 = 0.1357
    """
    scored = torch.tensor([[[True, True, False], [False, True, False]]] * 2)
    weight = torch.tensor([[[1.5, 1.5, 0.0], [0.0, 3.0, 0.0]]] * 2, dtype=torch.float64)
    masks = Masks(scored, scored, weight, torch.ones(2), torch.ones(2, 3, dtype=torch.bool))
    logps = torch.tensor([[[-1.0, -2.0, 0.0], [0.0, -0.5, 0.0]]] * 2, dtype=torch.float64)
    batch = make_batch(masks.part, [0.5, -0.5], completions=2)
    eubo = 1.5 * (math.log(0.75) - 1 + math.log(0.75 * math.exp(-2) + 1.5 * math.exp(-0.5)))
    expected = {"zero": 0.5 * 3 / 2, "elbo": 0.0, "eubo": (3 + eubo) / 4, "mix": (3 + (eubo - 3) / 2) / 4}
    assert expected["mix"] == pytest.approx(0.1357, abs=1e-4)
    for negatives, value in expected.items():
        algorithm = SPG(negatives=negatives, eubo_beta=1.0, masking="random", p_mask_prompt=0.0)
        loss = algorithm.loss(logps, masks, batch)
        assert float(loss.loss) == pytest.approx(value, abs=1e-12), negatives
        assert float(loss.metrics["bound/elbo"].total) / 2 == pytest.approx(-1.0)
        assert float(loss.metrics["bound/gap"].total) / 2 == pytest.approx(eubo / 3 + 1)


def test_trajectory_weighs_each_step_by_the_number_of_steps():
    model, rollouts = tiny_model(), make_rollouts(LENGTHS, SIZE)
    algorithm = SPG("trajectory", 2, 0.0, negatives="elbo")
    masks = algorithm.make_masking().draw(rollouts, seeded())
    batch = make_batch(rollouts.completion_mask)
    logps = naive_logps(model, rollouts, masks, MASK).detach()
    expected = 0.0
    for b, advantage in enumerate(ADVANTAGES):
        steps = len(set(rollouts.unmask_step[b, : LENGTHS[b]].tolist()))
        expected -= advantage * steps * logps[b].sum() / 2 / 8
    assert float(algorithm.loss(logps, masks, batch).loss) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(
    "form, expected",
    [
        ("mean", [0.75, -0.25, -0.25, -0.25]),
        ("mean_std", [0.75 / 0.5001, *[-0.25 / 0.5001] * 3]),
        ("leave_one_out", [1.0, *[-1 / 3] * 3]),
    ],
)
def test_advantages_by_hand_and_exactly_zero_in_groups_of_equal_rewards(form, expected):
    compute = SPG(advantage=form).compute_advantages
    found = compute(torch.tensor([[1.0, 0, 0, 0], [0.1] * 4], dtype=torch.float64))
    assert found.tolist() == pytest.approx([*expected, 0, 0, 0, 0], abs=1e-12)
    for size in (3, 4, 6, 7, 11):
        rewards = torch.tensor([[0.1], [1 / 3], [0.7], [-2.3]], dtype=torch.float64).expand(4, size)
        assert (compute(rewards) == 0).all() and not SPG().active(compute(rewards)).any()
    with pytest.raises(ConfigError, match="--num-generations 2"):
        compute(rewards[:, :1])


@pytest.mark.parametrize("settings", [{"num_masks": 1}, {"masking": "trajectory", "p_mask_prompt": 0.0}])
def test_the_lower_bound_needs_no_second_context(settings):
    for negatives in ("zero", "elbo"):
        algorithm = SPG(negatives=negatives, **settings)
        rollouts = make_rollouts(LENGTHS, SIZE)
        batch = make_batch(rollouts.completion_mask)
        masks = algorithm.make_masking().draw(rollouts, seeded())
        loss = algorithm.loss(-1.0 * masks.scored, masks, batch)
        assert algorithm.compares == "copy" and SPG().compares == "completion"
        assert loss.loss.isfinite() and "bound/eubo" not in loss.metrics


def test_a_sharpness_is_for_informed_masks_alone():
    assert SPG(masking="informed", sharpness=2.0).sharpness == 2.0
    with pytest.raises(ConfigError, match=r"sharpness=2\.0.*only masking=informed has a sharpness"):
        SPG(masking="random", sharpness=2.0)


def test_with_a_bonus_all_are_scored_and_the_contract_of_algorithms_is_kept():
    assert all(finding.ok for finding in check_algorithm("spg", {"elbo_bonus": 0.05}))
    assert SPG(elbo_bonus=0.05, negatives="zero").active(torch.zeros(3)).all()
