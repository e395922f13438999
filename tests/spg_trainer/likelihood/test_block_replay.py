"""Block replay: copies that score different blocks of attention share a sequence, and no number changes."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from spg_trainer.algorithms import build
from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.likelihood import accumulate, token_logps
from spg_trainer.likelihood import logps as likelihood_logps
from spg_trainer.likelihood.logps import CopyIndex, index_copies
from spg_trainer.likelihood.path_masks import AutoregressiveMasking, BlockStepsMasking, StepMergeMasking
from spg_trainer.tensors import Masks
from spg_trainer.training.loop import train_step
from tests.common.algorithm_cases import declared, make_batch, prepare
from tests.common.block_cases import PATTERNS, logps_by_blocks, with_pattern
from tests.common.family_cases import untrained
from tests.common.likelihood_cases import (
    count_sequences,
    make_masking,
    make_rollouts,
    policy_of,
    relative,
    seeded,
    tiny_model,
    whole_gradient,
)
from tests.common.marks import slow_if
from tests.common.trainer_cases import ENV, small_config, start
from tests.common.turn_cases import TALK

MASK = 257
BLOCKS = {name: pattern for name, (pattern, _) in PATTERNS.items() if not pattern.is_full}
ALGORITHMS = {
    "justgrpo": {},
    "d2_stepmerge": {"num_masks": 9, "p_mask_prompt": 0.0},
    "cj_grpo": {},
    "agrpo": {"num_masks": 4},
    "tracerl": {"steps_per_segment": 2},  # some of these segments lie across the end of a block
}


def written():
    """Four completions with what the algorithms read of a rollout."""
    rollouts = block_by_block(make_rollouts([12, 4, 1, 7], 12, [4, 2, 3, 1]))
    surprise = torch.rand(4, 12, generator=torch.Generator().manual_seed(5))
    return rollouts.with_columns(unmask_logps=-surprise)


def block_by_block(rollouts, block=4, tokens_a_step=2):
    """The same completions, written block by block; blocks are counted from the completion's first token."""
    steps = torch.zeros_like(rollouts.unmask_step)
    for row in steps:
        for place in range(len(row)):
            number, offset = divmod(place, block)
            row[place] = number * math.ceil(block / tokens_a_step) + (5 * offset % block) // tokens_a_step
    return rollouts.with_columns(unmask_step=steps)


def apart(pattern, rollouts, masks):
    """Each copy in a sequence of its own."""
    mask, row = masks.scored.any(-1).T.numpy().nonzero()
    return CopyIndex(row, mask, np.arange(len(row)))


@pytest.mark.parametrize(
    "algorithm, name",
    slow_if(
        product(ALGORITHMS, BLOCKS),
        lambda algorithm, name: ([*ALGORITHMS].index(algorithm) + [*BLOCKS].index(name)) % 2,
    ),
)
def test_losses_and_gradients_are_those_of_a_pass_for_each_copy_and_block(monkeypatch, algorithm, name):
    """The old logps of the second iteration too. The oracle shows one block masked at a time, by plain autograd."""
    algorithm = build(algorithm, ALGORITHMS[algorithm])
    model, rollouts = with_pattern(tiny_model(layers=1), *PATTERNS[name]), written()
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    rollouts = prepare(algorithm, rewards, rollouts)
    masks = algorithm.make_masking().draw(rollouts, seeded(3))
    batch = make_batch(rollouts.completion_mask, place=rollouts, scored=14.0)
    values = logps_by_blocks(model, rollouts, masks, MASK)
    old, old_measured = masks.split(values.detach() + 0.1 * torch.sin(7 * values.detach()))
    batch = batch.with_columns(old_logps=old, old_measured=old_measured, ref_logps=0.9 * old)
    loss = loss_of_values(algorithm, masks, batch, values).loss
    loss.backward()
    expected, gradient, found = float(loss.detach()), whole_gradient(model), {}
    assert float(gradient.norm()) > 1e-6
    for how, index in {"together": index_copies, "apart": apart}.items():
        monkeypatch.setattr(likelihood_logps, "index_copies", index)
        for masks_at_once in (1, 99):
            model.zero_grad(set_to_none=True)
            seen = count_sequences(monkeypatch)
            loss = accumulate(
                policy_of(model, MASK),
                rollouts,
                masks,
                partial(loss_of_values, algorithm, masks, batch),
                masks_at_once=masks_at_once,
                **declared(algorithm),
            ).loss
            monkeypatch.undo()
            monkeypatch.setattr(likelihood_logps, "index_copies", index)
            assert abs(float(loss) - expected) < 1e-10
            assert relative(whole_gradient(model), gradient) < 1e-10
            found[how] = seen["graph"]
    assert found["together"] < found["apart"]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_completion_takes_as_many_sequences_as_its_longest_block_has_copies(monkeypatch, name):
    """24 tokens in blocks of 4, two a step: 12 copies, 2 sequences; left to right 24 copies, 4 sequences."""
    model = with_pattern(tiny_model(layers=1), *PATTERNS[name])
    rollouts = block_by_block(make_rollouts([24, 24], 24, [4, 8], width=8))
    for masking, copies, sequences in (
        (StepMergeMasking(24), 12, 2),
        (StepMergeMasking(12, segment_draw="uniform"), 12, 2),
        (StepMergeMasking(24, steps_per_segment=2), 6, 1),
        (AutoregressiveMasking(24), 24, 4),
        (make_masking("trajectory", 1), 1, 1),
        (make_masking("random", 3), 3, 3),  # each scores all blocks
    ):
        masks = masking.draw(rollouts, seeded())
        assert int(masks.scored.any(-1).sum()) == 2 * copies
        seen = count_sequences(monkeypatch)
        token_logps(policy_of(model, MASK), rollouts, masks, 99)
        monkeypatch.undo()
        assert seen["no graph"] == 2 * sequences, masking


def test_256_tokens_in_blocks_of_32_take_16_sequences_and_left_to_right_32():
    rollouts = block_by_block(make_rollouts([256], 256, [4]), block=32)
    for masking, copies, sequences in (
        (StepMergeMasking(128), 128, 16),
        (AutoregressiveMasking(256), 256, 32),
    ):
        masks = masking.draw(rollouts, seeded())
        found = index_copies(Pattern(32, "completion"), rollouts, masks)
        assert (len(found.row), int(found.sequence.max()) + 1) == (copies, sequences)


def test_segments_across_the_ends_of_blocks_fill_each_sequence():
    """Three steps a block in segments of two: every second segment is of two blocks."""
    steps = torch.tensor([[0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11]])
    rollouts = make_rollouts([16], 16, [4]).with_columns(unmask_step=steps)
    masks = StepMergeMasking(16, steps_per_segment=2).draw(rollouts, seeded())
    copies = index_copies(Pattern(4), rollouts, masks)
    assert len(copies.row) == 6 and copies.sequence.tolist() == [0, 0, 0, 0, 1, 1]
    blocks = [set((masks.scored[0, m].nonzero().squeeze(-1) // 4).tolist()) for m in copies.mask.tolist()]
    for number in (0, 1):
        inside = [b for b, which in zip(blocks, copies.sequence.tolist(), strict=True) if which == number]
        assert sum(map(len, inside)) == len(set.union(*inside))


def test_copies_with_other_masks_of_the_prompt_stay_apart():
    """What a later block sees of the prompt is its copy's own."""
    rollouts = block_by_block(make_rollouts([8], 8, [4]))
    masks = StepMergeMasking(8).draw(rollouts, seeded())
    assert index_copies(Pattern(4), rollouts, masks).sequence.tolist() == [0, 0, 1, 1]
    masks.masked[0, 2, 1] = True
    assert sorted(index_copies(Pattern(4), rollouts, masks).sequence.tolist()) == [0, 0, 1, 2]
    noisy = StepMergeMasking(8, p_mask_prompt=0.5).draw(rollouts, seeded(1))
    model = with_pattern(tiny_model(layers=1), Pattern(4), 0)
    expected = logps_by_blocks(model, rollouts, noisy, MASK).detach()
    torch.testing.assert_close(
        token_logps(policy_of(model, MASK), rollouts, noisy), expected, rtol=0, atol=1e-10
    )


def test_everybody_sees_all_in_a_full_pattern_so_that_each_copy_goes_alone():
    rollouts = block_by_block(make_rollouts([8, 8], 8, [4, 4]))
    masks = AutoregressiveMasking(8).draw(rollouts, seeded())
    copies = index_copies(Pattern(), rollouts, masks)
    assert copies.sequence.tolist() == list(range(16))
    assert copies.mask.tolist() == [mask for mask in range(8) for _ in range(2)]


def test_a_step_of_each_block_is_one_sequence():
    rollouts = block_by_block(make_rollouts([8, 5], 8, [4, 4]))
    masks = BlockStepsMasking(block_length=4).draw(rollouts, seeded())
    assert index_copies(Pattern(4, "completion"), rollouts, masks).sequence.tolist() == [0, 0, 1, 1]


def test_places_that_are_measured_take_their_blocks(monkeypatch):
    rollouts = block_by_block(make_rollouts([8], 8, [4]))
    masks = StepMergeMasking(8).draw(rollouts, seeded())
    masks = masks.with_columns(measured=masks.scored)
    copies = index_copies(Pattern(4, "completion"), rollouts, masks)
    assert copies.sequence.tolist() == [0, 0, 1, 1]
    everywhere = Masks(**{**vars(masks), "measured": torch.ones_like(masks.measured)})
    assert index_copies(Pattern(4, "completion"), rollouts, everywhere).sequence.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "env",
    [
        pytest.param(ENV, id="one turn", marks=pytest.mark.slow),
        pytest.param(TALK, id="turns", marks=pytest.mark.slow),
    ],
)
def test_trained_runs_are_equal_but_for_rounding(monkeypatch, tmp_path, env):
    """Two steps of two updates in float64: every figure and every weight, by fewer sequences."""
    histories, weights, sequences = [], [], []
    settings = {"num_masks": 10, "p_mask_prompt": 0.0, "beta": 0.0}
    for how, index in {"together": index_copies, "apart": apart}.items():
        monkeypatch.setattr(likelihood_logps, "index_copies", index)
        config = small_config(
            tmp_path / how,
            env=env,
            model=untrained("sdar"),
            algorithm="d2_stepmerge",
            algorithm_args=settings,
            num_iterations=2,
            dtype="float64",
        )
        run = start(config, quiet=True)
        seen = count_sequences(monkeypatch)
        for _ in range(2):
            train_step(run)
        run.folder.release()
        monkeypatch.undo()
        histories.append(run.state.history)
        weights.append(torch.cat([p.detach().flatten() for p in run.parameters]))
        sequences.append(seen["graph"])
    assert sequences[0] < 0.6 * sequences[1]
    for row, expected in zip(*histories, strict=True):
        assert row["grad_norm"] > 0
        assert row == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert relative(*weights) < 1e-10
