"""OPSD: its gradient is that of the KL to the teacher, which the trainer shows a hint; and what it learns from."""

from dataclasses import replace

import pytest
import torch

from spg_trainer.algorithms.opsd import OPSD
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.training.credit import credit
from spg_trainer.training.update import plan_updates
from tests.common.algorithm_cases import make_batch, two_tokens, view_of
from tests.common.likelihood_cases import make_rollouts, naive_logps, seeded
from tests.common.process_cases import algorithm_config
from tests.common.trainer_cases import start

LATE = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3], [3, 2, 1, 0, 7, 6, 5, 4]])
"""Two completions in blocks of four."""


def late(length: int = 8):
    return make_rollouts([length, 8], 8).with_columns(unmask_step=LATE.clone())


def test_the_mean_gradient_and_metric_over_own_tokens_are_those_of_the_reverse_kl():
    """Two places, three words: every draw of the student, weighed by its probability."""
    stream = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 2, 3, dtype=torch.float64, generator=stream)
    logits.requires_grad_()
    law, q = logits.log_softmax(-1), teacher.log_softmax(-1)
    masks, mean, mean_metric = two_tokens(), torch.zeros(2, 3, dtype=torch.float64), 0.0
    for a in range(3):
        for b in range(3):
            logps = torch.stack([law[0, a], law[1, b]])[None, None]
            ref = torch.stack([q[0, a], q[1, b]])[None, None]
            batch = make_batch(torch.ones(1, 2, dtype=torch.bool), [1.0], 1, ref_logps=ref)
            loss = OPSD().loss(logps, masks, batch)
            (gradient,) = torch.autograd.grad(loss.loss, logits, retain_graph=True)
            probability = float((law[0, a] + law[1, b]).exp().detach())
            mean += probability * gradient
            mean_metric += probability * float(loss.metrics["hint/kl"].total)
    kl = (law.exp() * (law - q)).sum()
    (expected,) = torch.autograd.grad(kl, logits)
    assert torch.allclose(mean, expected, rtol=1e-10, atol=1e-14) and float(expected.norm()) > 0.1
    assert mean_metric == pytest.approx(float(kl))


@pytest.mark.parametrize("hint", ["blocks", "steps"])
def test_the_teacher_sees_a_share_of_what_was_written_later(hint):
    masking = OPSD(hint=hint, num_masks=8, segment_draw="all", hint_share=0.5, block_length=4).make_masking()
    masks = masking.draw(late(), seeded())
    shown = masks.masked & ~masks.ref_masked
    assert not (masks.ref_masked & ~masks.masked).any() and not shown[:, :, :4].any(), "of the prompt nothing"
    shown = shown[:, :, 4:]
    for row, m in (masks.scored.any(-1)).nonzero().tolist():
        t = int(LATE[row][masks.scored[row, m]].unique())
        later = LATE[row] > t
        if hint == "blocks":
            last = int((LATE[row] == t).nonzero().max())
            later &= torch.arange(8) // 4 > last // 4
        assert int(shown[row, m].sum()) == int(later.sum()) // 2 > 0
        assert not (shown[row, m] & ~later).any()
    steps = [sorted(LATE[b][masks.scored[b].any(0)].unique().tolist()) for b in (0, 1)]
    expected = {"blocks": [[0, 1], [0, 1, 2, 3]], "steps": [[0, 1, 2], [0, 1, 2, 3, 4, 5]]}[hint]
    assert steps == expected, "where nothing is left to be shown, nothing is scored"
    drawn = {
        tuple(row.tolist()) for seed in range(9) for row in (masking.draw(late(), seeded(seed)).ref_masked[1])
    }
    assert len(drawn) > 8, "hints are drawn"


def test_what_stands_behind_the_end_is_a_hint_too_and_what_was_never_written_is_none():
    rollouts = late(3)
    rollouts.unmask_step[0, 4:6] = -1
    masks = (
        OPSD(num_masks=1, segment_draw="all", hint_share=1.0, block_length=4)
        .make_masking()
        .draw(rollouts, seeded())
    )
    shown = (masks.masked & ~masks.ref_masked)[0, 0, 4:]
    assert shown.tolist() == [False] * 6 + [True] * 2


def test_right_completions_of_a_problem_share_its_weight_and_no_reward_counts():
    rewards = torch.tensor([[9.0, 0.0, 1.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    right = torch.tensor([[False, True, True], [False] * 3, [True] * 3])
    view = view_of(rewards, make_rollouts([3] * 9, 4), correct=right)
    found = OPSD().prepare(view)["advantages"].view(3, 3)
    assert torch.allclose(found, torch.tensor([[0, 0.5, 0.5], [0, 0, 0], [1 / 3] * 3], dtype=torch.float64))
    assert torch.equal(OPSD().active(found), right)


def test_the_trainer_scores_what_the_start_model_says_with_the_hint(tmp_path):
    run = start(algorithm_config(tmp_path, "opsd", per_device_batch_size=6), quiet=True)
    run.folder.release()
    scored = run.source.collect(0)
    batch, seen = run.config.batch, 0
    _, step = credit(run, scored)
    assert len(step) == int(scored.correct.sum()) < len(scored), "only right completions"
    for update in plan_updates(run.policy, run.algorithm, step, batch, seed=0, number=0):
        for micro in update.micro_batches:
            hinted = replace(micro.masks, masked=micro.masks.ref_masked)
            for masks, equal in ((hinted, True), (micro.masks, False)):
                with torch.no_grad(), run.policy.reference() as model:
                    expected = naive_logps(model, micro, masks, run.policy.mask_id)
                close = torch.allclose(micro.ref_logps, expected, rtol=0, atol=1e-10)
                assert close == (equal or not micro.masks.scored.any())
            seen += int(micro.masks.scored.any())
    assert seen


def test_a_model_that_does_not_look_ahead_is_refused_hints_ahead():
    with pytest.raises(ConfigError, match=r"--algorithm-args hint=steps"):
        OPSD().make_masking().check_pattern(Pattern(4))
    OPSD(hint="steps").make_masking().check_pattern(Pattern(4))
