"""JustGRPO: an exact chain of tokens, once per token, drawn fast enough."""

from functools import partial

import pytest
import torch

from spg_trainer.algorithms.justgrpo import JustGRPO, JustGRPORepro
from spg_trainer.likelihood import accumulate
from spg_trainer.likelihood.path_masks import AutoregressiveMasking
from tests.common.algorithm_cases import LENGTHS, MASK, SIZE, logps_gradient, make_batch, view_of
from tests.common.likelihood_cases import (
    count_sequences,
    make_rollouts,
    policy_of,
    seeded,
    tiny_model,
    whole_gradient,
)


def test_the_share_of_completions_with_an_advantage_is_that_of_the_step():
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    view = view_of(rewards, make_rollouts([2] * 4, 2))
    assert JustGRPORepro().prepare(view)["valid"] == 0.5
    assert JustGRPORepro().prepare(view)["advantages"].tolist() == pytest.approx(
        [0.5 / (0.5**0.5 + 1e-4), -0.5 / (0.5**0.5 + 1e-4), 0, 0]
    )
    assert JustGRPORepro().score_tail and JustGRPORepro.end_tokens == "eos"


def test_it_is_grpo_on_policy_whose_clip_never_acts():
    """The published loss: the smaller of r A and clip(r) A, r the probability over itself, detached."""
    algorithm, rollouts = JustGRPO(), make_rollouts(LENGTHS, SIZE)
    masks, batch = algorithm.make_masking().draw(rollouts, seeded()), make_batch(rollouts.completion_mask)
    logps = (-3 * torch.rand(masks.scored.shape, dtype=torch.float64) * masks.scored).requires_grad_()
    loss, gradient = logps_gradient(algorithm, masks, batch, logps)
    ratio, advantages = (logps - logps.detach()).exp(), batch.advantages[:, None, None]
    kept = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages) * masks.scored
    published = -(kept.sum((1, 2)) / batch.length / 8).sum()
    (expected,) = torch.autograd.grad(published, logps)
    assert torch.allclose(gradient, expected, rtol=1e-12)
    assert loss.metrics["logps"].per == "scored_tokens"
    assert float(loss.metrics["logps"].total) == pytest.approx(float(logps.detach().sum()))


def test_a_token_sees_the_prompt_and_what_stands_before_it():
    masks = AutoregressiveMasking(256).draw(make_rollouts([3, 2], 4), seeded())
    assert masks.scored.shape == (2, 4, 4)
    for row, length in enumerate([3, 2]):
        for mask in range(length):
            assert masks.scored[row, mask].nonzero().tolist() == [[mask]]
            assert masks.masked[row, mask].tolist() == [False] * (4 + mask) + [True] * (4 - mask)
        assert not masks.scored[row, length:].any() and masks.weight[row].sum() == 4 * length


def test_a_row_of_256_masks_goes_through_the_model_once_per_token(monkeypatch):
    size = 256
    model, rollouts = tiny_model(hidden_size=8, layers=1, ffn=8), make_rollouts([size, 40], size)
    masks, batch = (
        JustGRPO().make_masking().draw(rollouts, seeded()),
        make_batch(rollouts.completion_mask, [1.0, -1.0]),
    )
    assert masks.scored.shape[1] == size
    seen = count_sequences(monkeypatch)
    options = {"masks_at_once": 8, "compares": JustGRPO().compares}
    loss_fn = partial(JustGRPO().loss, masks=masks, batch=batch)
    accumulate(policy_of(model, MASK), rollouts, masks, loss_fn, **options)
    assert seen == {"graph": size + 40, "no graph": 0, "largest graph": 2 * 8}
    assert whole_gradient(model).any()
