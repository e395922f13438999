"""diffu-GRPO: numbers by hand, the clip on both sides."""

import math

import pytest
import torch

from spg_trainer.algorithms import build
from spg_trainer.algorithms.diffu_grpo import DiffuGRPO
from spg_trainer.likelihood import Masks
from spg_trainer.tensors import Rows


def test_the_reproduction_divides_by_tokens_and_ends_at_eos_only():
    repro = build("diffu_grpo_repro")
    assert repro == DiffuGRPO(normalizer="tokens", end_tokens="eos") and DiffuGRPO().end_tokens == "any"


def hand_case(advantages, ratios):
    """One mask, one completion for each row of ratios; probabilities are ratio/4, old ones 1/4."""
    ratios = torch.tensor(ratios, dtype=torch.float64)
    rows, size = ratios.shape
    scored = torch.ones(rows, 1, size, dtype=torch.bool)
    masks = Masks(scored, scored, scored.double(), torch.ones(rows, dtype=torch.float64), scored[:, 0])
    logps = (ratios / 4).log()[:, None].requires_grad_()
    batch = Rows.full_groups(1, 2).with_columns(
        completion_mask=scored[:, 0],
        advantages=torch.tensor(advantages, dtype=torch.float64),
        totals={"completions": 2.0, "tokens": 6.0},
        old_logps=torch.full_like(logps.detach(), math.log(1 / 4)),
    )
    return logps, masks, batch


def test_two_completions_of_three_tokens_by_hand():
    """Advantages 1 and -1, ratios 1, 2, 1/4 each, clip 1/2.

    Good: min(1, 1) + min(2, 3/2) + min(1/4, 1/2) = 1 + 3/2 + 1/4 = 11/4; the second is stopped.
    Bad: -1 + min(-2, -3/2) + min(-1/4, -1/2) = -1 - 2 - 1/2 = -7/2; the third is stopped.
    loss = -(11/4 - 7/2) / 3 / 2 = 1/8. Gradient in logps, -A r / 6: good -1/6, 0, -1/24; bad 1/6, 1/3, 0.
    """
    logps, masks, batch = hand_case([1.0, -1.0], [[1.0, 2.0, 0.25]] * 2)
    result = DiffuGRPO(beta=0.0).loss(logps, masks, batch)
    assert float(result.loss.detach()) == pytest.approx(1 / 8, rel=1e-14)
    (gradient,) = torch.autograd.grad(result.loss, logps)
    expected = [[-1 / 6, 0, -1 / 24], [1 / 6, 1 / 3, 0]]
    assert gradient[:, 0].tolist() == [pytest.approx(row, abs=1e-14) for row in expected]
    totals = {name: float(metric.total) for name, metric in result.metrics.items()}
    assert totals["ratio/clip_fraction"] == 2 and totals["ratio/mean"] == pytest.approx(6.5)
    assert totals["logps"] == pytest.approx(2 * math.log(1 / 128))
    per = {"logps": "scored_tokens", "ratio/mean": "scored_tokens", "ratio/clip_fraction": "rewarded_tokens"}
    assert {name: metric.per for name, metric in result.metrics.items()} == per
    assert float(
        build("diffu_grpo_repro", {"beta": 0.0}).loss(logps, masks, batch).loss.detach()
    ) == pytest.approx(3 / 4 / 6)
