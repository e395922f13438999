"""Distillation for parallel decoding: which tokens are near and far, what the teacher sees, and the KL of a token."""

from dataclasses import replace

import torch

from spg_trainer.algorithms.distil import Distil, kl_of_token
from spg_trainer.likelihood.masks import MASKINGS
from tests.common.likelihood_cases import make_rollouts, seeded


def test_the_kl_of_a_token_is_that_of_whole_laws_for_two_words_and_a_lower_bound_for_more():
    stream = torch.Generator().manual_seed(0)
    for words in (2, 3, 30):
        p, q = 2 * torch.randn(2, 40, words, dtype=torch.float64, generator=stream)
        p, q = p.log_softmax(-1), q.log_softmax(-1)
        whole = (q.exp() * (q - p)).sum(-1)
        found = kl_of_token(q[:, 0], p[:, 0])
        assert (found >= 0).all() and (found <= whole + 1e-12).all()
        assert torch.allclose(found, whole, rtol=1e-9) == (words == 2)


def test_it_pulls_a_probability_to_the_teacher_s_from_both_sides_and_is_finite_where_one_is_certain():
    teacher = torch.tensor([0.3, 0.3, 0.3, 1.0, 1.0, 0.2]).log()
    student = torch.tensor([0.1, 0.3, 0.9, 1.0, 0.5, 1.0]).log().requires_grad_()
    value = kl_of_token(teacher, student)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.isfinite().all() and gradient.isfinite().all()
    assert gradient[0] < 0 < gradient[2] and abs(float(gradient[1])) < 1e-6 and gradient[4] < 0
    assert float(value[1].detach()) == 0 == float(value[3].detach())


def test_near_are_the_steps_up_to_the_horizon_and_far_the_rest_of_their_blocks():
    steps = torch.tensor([[0, 1, 2, 3, 2, 1, 4, 5, 6, 7, -1, -1]])
    rollouts = make_rollouts([9], 12).with_columns(unmask_step=steps)
    masks = (
        Distil(horizon=2, num_masks=12, segment_draw="all", block_length=6)
        .make_masking()
        .draw(rollouts, seeded())
    )
    plain = replace(MASKINGS["step_merge"], num_masks=12).draw(rollouts, seeded())
    assert torch.equal(masks.masked, plain.masked), "the model sees what the sampler saw"
    near = masks.scored & ~masks.ref_masked[:, :, 4:]
    inside = torch.arange(12) < 9
    for m in range(7):
        first = int(steps[0][plain.scored[0, m]].min())
        expected = (steps[0] >= first) & (steps[0] < first + 2) & inside
        assert torch.equal(near[0, m], expected)
        blocks = {int(i) // 6 for i in expected.nonzero()}
        beside = torch.tensor([i // 6 in blocks for i in range(12)])
        later = (steps[0] >= first + 2) & inside & beside
        assert torch.equal(masks.scored[0, m], expected | later)
        assert torch.equal(masks.ref_masked[0, m, 4:], (steps[0] < 0) | (steps[0] >= first + 2))
    assert torch.equal(masks.measured, near)
    assert not masks.ref_masked[:, :, :4].any() and near.any() and (masks.scored & ~near).any()


def test_a_term_without_weight_asks_for_nothing():
    assert Distil().needs == {"correct", "reference", "measured"}
    assert Distil(far_weight=0.0, certainty_weight=0.0).needs == {"correct"}
    rollouts = make_rollouts([8], 8)
    masks = Distil(far_weight=0.0, certainty_weight=0.0, num_masks=4).make_masking().draw(rollouts, seeded())
    assert masks.measured is None and not (masks.scored & masks.ref_masked[:, :, 4:]).any()
