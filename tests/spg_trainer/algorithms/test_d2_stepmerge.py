"""d2-StepMerge: one segment is d1's pass, a segment a step the path; what divides the terms of dialogues."""

import pytest
import torch

from spg_trainer.algorithms.d2_stepmerge import D2StepMerge
from spg_trainer.algorithms.diffu_grpo import DiffuGRPO
from tests.common.algorithm_cases import (
    ADVANTAGES,
    LENGTHS,
    PROMPTS,
    SIZE,
    in_turns,
    logps_gradient,
    make_batch,
    moved,
    path_error,
    view_of,
)
from tests.common.likelihood_cases import make_rollouts, seeded

REWARDS = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
GROUP_TOKENS = {9: 13, 4: 13, 1: 8, 7: 8}
"""Tokens of a completion -> those of its group."""


def test_one_segment_is_diffu_grpo_over_the_tokens_of_a_group():
    rollouts = make_rollouts(LENGTHS, SIZE, PROMPTS)
    merged, d1, found = D2StepMerge(num_masks=1), DiffuGRPO(normalizer="tokens"), []
    prepared = merged.prepare(view_of(REWARDS.view(1, 4), rollouts))
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


def test_an_episode_that_luck_lets_go_on_weighs_as_much_as_one_that_it_ends():
    """Of each group the first episode takes a risk; it loses in group 1 and ends, in group 2 it wins and goes on."""
    rewards = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    place = in_turns([0, 1, 2, 3, 3, 3, 4, 5], [0, 0, 0, 1, 1, 1])
    prepared = D2StepMerge(num_masks=1).prepare(view_of(rewards, make_rollouts([6] * 8, SIZE), place))
    assert prepared["mean_length"].tolist() == [6.0] * 8
    pushed = (prepared["advantages"] / prepared["mean_length"])[[0, 3]]
    assert pushed.sum() == pytest.approx(0.0) and pushed[1] > 0
