"""d2-StepMerge: the published formula through a real model; one segment is d1's pass, a segment a step the path."""

import itertools

import pytest
import torch

from spg_trainer.algorithms.d2_stepmerge import D2StepMerge
from spg_trainer.algorithms.diffu_grpo import DiffuGRPO
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
    moved,
    path_error,
    surrogate,
    written,
)
from tests.common.likelihood_cases import make_rollouts, seeded

REWARDS = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
STEPS = written()
GROUP_TOKENS = {9: 13, 4: 13, 1: 8, 7: 8}
"""Tokens of a completion -> those of its group."""


@pytest.mark.parametrize("off_policy", [0.0, 1.0])
@pytest.mark.parametrize(
    "settings", [{}, {"num_masks": 2}, {"num_masks": 3, "beta": 0.0, "p_mask_prompt": 0.0}]
)
def test_loss_and_gradient_are_those_of_the_published_formula(settings, off_policy):
    algorithm, held = D2StepMerge(**settings), []
    segments = algorithm.num_masks

    def formula(row):
        steps, total = STEPS[row.length], 0.0
        last = max(steps) + 1
        cuts = [k * last // segments for k in range(segments + 1)] if last > segments else range(last + 1)
        owner = [sum(start <= step for start in cuts) - 1 for step in steps]
        used = sorted(set(owner))
        for m, segment in itertools.zip_longest(range(len(row.logps)), used):
            assert row.scored[m].tolist() == [of_token == segment for of_token in owner]
        for i in range(row.length):
            at = used.index(owner[i]), i
            term = surrogate(row.logps[at] - row.old[at], row.advantage, 0.5, 0.5, held)
            total = total + term - algorithm.beta * k3(row, at, row.ref)
        return -total / GROUP_TOKENS[row.length] / 4  # groups of two in 8 completions

    prepared = algorithm.prepare(REWARDS, make_rollouts(LENGTHS, SIZE, PROMPTS))
    options = {"off_policy": off_policy, "advantages": WITH_ZERO, "prepared": prepared}
    assert largest_error(algorithm, formula, **options) < 1e-10
    assert set(held) == ({True, False} if off_policy else {False})


def test_one_segment_is_diffu_grpo_over_the_tokens_of_a_group():
    rollouts = make_rollouts(LENGTHS, SIZE, PROMPTS)
    merged, d1, found = D2StepMerge(num_masks=1), DiffuGRPO(normalizer="tokens"), []
    prepared = merged.prepare(REWARDS.view(1, 4), rollouts)
    for algorithm in (merged, d1):
        masks = algorithm.make_masking().draw(rollouts, seeded(4))
        logps = -torch.rand(
            masks.scored.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        logps = logps * masks.scored
        more = {"old_logps": moved(logps, masks, 0.6, 1), "ref_logps": moved(logps, masks, 0.3, 2)}
        batch = make_batch(rollouts.completion_mask, completions=4, prepared=prepared, **more)
        batch.totals["tokens"] = float(sum(LENGTHS))
        found.append((masks, *logps_gradient(algorithm, masks, batch, logps)))
    assert torch.equal(found[0][0].masked, found[1][0].masked), "the same noise in the same prompts"
    assert float(found[0][1].loss) == pytest.approx(float(found[1][1].loss), rel=1e-12)
    assert torch.allclose(found[0][2], found[1][2], rtol=1e-12, atol=0)


def test_a_segment_for_each_step_has_the_gradient_of_the_path_over_the_tokens():
    weights = [a / GROUP_TOKENS[n] / 2 for a, n in zip(ADVANTAGES, LENGTHS, strict=True)]
    assert path_error(D2StepMerge(num_masks=9, p_mask_prompt=0.0, beta=0.0), weights) < 1e-10
