"""Fills as rows of a step: what they show and score, which there are, and that they depend on no other row."""

import numpy as np
import pytest
import torch

from spg_trainer.rollout.probe import fill_states
from spg_trainer.seeding import generator
from spg_trainer.training.credit import credit
from spg_trainer.training.micro_batches import draw_masks
from tests.common.process_cases import algorithm_config
from tests.common.trainer_cases import start
from tests.common.turn_cases import TALK


def made(output, algorithm, **changes):
    run = start(algorithm_config(output, algorithm, **changes), quiet=True)
    scored = run.source.collect(0)
    advantages, step = credit(run, scored)
    run.folder.release()
    return run, scored, advantages, step


@pytest.mark.parametrize(("task", "turns"), [({}, 1), ({"env": TALK}, 3)])
def test_each_row_is_the_fill_of_its_state_and_shows_that_state(task, turns, tmp_path):
    run, scored, _, step = made(tmp_path, "dispo", algorithm_args={"num_masks": 3}, **task)
    masks = draw_masks(run.algorithm, step, 0, 0, 0, 1)
    fills = step.is_fill
    assert fills.any() and not fills.all() and (step.episode.diff() >= 0).all()
    seen = set()
    completions, rows = scored, step
    for place in fills.nonzero().flatten().tolist():
        column, turn = divmod(int(rows.turn[place]) - turns, turns)
        (b,) = np.flatnonzero((completions.episode == rows.episode[place]) & (completions.turn == turn))
        at = step.fill_step[place]
        kept = (scored.unmask_step[b] >= 0) & (scored.unmask_step[b] < at)
        own = ("fills", 0, int(completions.problem[b]), int(completions.generation[b]))
        own += (*(("turn", turn) if turn else ()), column)
        one = fill_states(
            run.policy, scored.tensors().select(torch.tensor([b])), at[None], temperature=1.0,
            generators=[generator(0, *own)],
        )  # fmt: skip
        assert torch.equal(step.completion_ids[place], one.completion_ids[0])
        width = masks.masked.shape[2] - len(kept)
        assert (masks.masked[place, :, width:] == ~kept).all()
        assert torch.equal(masks.scored[place, 0], ~kept & one.completion_mask[0])
        assert not masks.scored[place, 1:].any()
        assert rows.group[place] == rows.episode[place] // 4
        assert rows.problem[place] == completions.problem[b]
        assert step.advantages[place] == step.fill_advantages[place, column] != 0
        seen.add(turn)
    assert len(seen) == turns


def test_only_what_is_worth_something_is_a_row_and_completions_need_not_be(tmp_path):
    _, scored, advantages, step = made(tmp_path, "mdpo", algorithm_args={"top_steps": 2, "beta": 0.0})
    worth = step.fill_advantages
    assert step.is_fill.all() and len(step) == int((advantages != 0).sum() * 2)
    assert ((worth != 0).sum(1) == 2).all()
    (totals,) = step.totals_of_minibatches
    assert totals["completions"] == len(scored) and totals["scored_completions"] == 0
    assert totals["learned_completions"] == len(set(step.episode.tolist()))
