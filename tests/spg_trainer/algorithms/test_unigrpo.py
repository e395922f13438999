"""UniGRPO and the code of dLLM-RL: a completion by hand, masks, advantages."""

import math

import pytest
import torch

from spg_trainer.algorithms.unigrpo import UniGRPO, UniGRPORepro
from spg_trainer.likelihood import Masks
from spg_trainer.likelihood.random_masks import RatioMasking
from spg_trainer.tensors import Rows
from tests.common.likelihood_cases import make_rollouts, seeded


def test_a_completion_of_four_tokens_by_hand():
    """A = -1, clip 1/5, beta 1/2; two copies, masked tokens 0, 1 (ratios 1 and 3/2) and 3 (ratio 1/2).

    Paper, reference equal to the current model: copy 1: (-1 - 3/2) / 2 = -5/4; copy 2: min(-1/2, -4/5) = -4/5, stopped.
        loss = (5/4 + 4/5) / 2 = 41/40.
    Code, penalty from the old model, a sum: k3 of 3/2 is 2/3 - 1 + log 3/2 = 0.0721, of 1/2 is 2 - 1 - log 2 = 0.3069.
        loss = 41/40 + 1/2 (0.0721 + 0.3069) / 2 = 41/40 + 0.0948
    """
    scored = torch.tensor([[[True, True, False, False], [False, False, False, True]]])
    weight = torch.tensor([[[2.0, 2.0, 0, 0], [0, 0, 0, 4.0]]], dtype=torch.float64)
    whole = torch.ones(1, 4, dtype=torch.bool)
    masks = Masks(scored, scored, weight, torch.ones(1, dtype=torch.float64), whole)
    old = torch.full((1, 2, 4), -1.0, dtype=torch.float64) * scored
    ratios = torch.tensor([[[1.0, 1.5, 1, 1], [1, 1, 1, 0.5]]], dtype=torch.float64)
    logps = old + ratios.log()
    totals = {"completions": 1.0, "tokens": 4.0}
    batch = Rows.full_groups(1, 1).with_columns(
        completion_mask=whole,
        advantages=torch.tensor([-1.0]).double(),
        totals=totals,
        old_logps=old,
        ref_logps=logps,
    )
    result = UniGRPO(beta=0.5).loss(logps, masks, batch)
    assert float(result.loss) == pytest.approx(41 / 40, rel=1e-14)
    assert float(result.metrics["ratio/clip_fraction"].total) == 1
    result = UniGRPORepro(beta=0.5).loss(logps, masks, batch)
    penalties = [2 / 3 - 1 + math.log(1.5), 1 - math.log(2)]
    assert penalties == pytest.approx([0.0721, 0.3069], abs=1e-4)
    assert float(result.loss) == pytest.approx(41 / 40 + sum(penalties) / 4, rel=1e-14)
    assert float(result.metrics["kl"].total) == pytest.approx(sum(penalties))
    assert result.metrics["kl"].per == "scored_tokens"


def test_the_code_s_advantages_are_over_the_population_s_deviation_without_a_floor():
    rewards = torch.tensor([[1.0, 0, 0, 0], [0.1] * 4, [1e-6, 0, 0, 0]], dtype=torch.float64)
    found = UniGRPORepro().compute_advantages(rewards).view(3, 4)
    expected = [0.75 / (3**0.5 / 4), *[-0.25 / (3**0.5 / 4)] * 3]
    assert found[0].tolist() == pytest.approx(expected, rel=1e-12)
    assert (found[1] == 0).all() and found[2].tolist() == pytest.approx(expected, rel=1e-9)
    floored = UniGRPO().compute_advantages(rewards).view(3, 4)
    assert floored[0].tolist() == pytest.approx([0.75 / 0.5001, *[-0.25 / 0.5001] * 3], rel=1e-12)


def test_the_code_s_masks_take_each_token_with_one_probability_a_copy():
    rollouts = make_rollouts([40] * 50 + [7], 40)
    masks = UniGRPORepro(num_masks=8).make_masking().draw(rollouts, seeded())
    assert isinstance(UniGRPORepro().make_masking(), RatioMasking)
    share = masks.scored[:50].double().mean(-1).flatten()
    assert float(share.mean()) == pytest.approx(0.5, abs=0.04), "400 copies, each about 0.24 off"
    assert float(share.var()) == pytest.approx(0.8**2 / 12 + (0.25 - 0.8**2 / 12) / 40, rel=0.15)
    count = masks.scored.sum(-1, keepdim=True)
    length = rollouts.completion_mask.sum(-1)[:, None, None]
    assert torch.equal(masks.weight, length.double() / count.clamp(min=1) * masks.scored)
    assert not masks.scored[50, :, 7:].any() and masks.masked[50, :, -33:].all()
    assert not masks.masked[:, :, :4].any()
    narrow = UniGRPORepro(min_ratio=1.0, max_ratio=1.0).make_masking().draw(rollouts, seeded())
    assert torch.equal(narrow.scored.any(1), rollouts.completion_mask) and narrow.scored[:50].all()
