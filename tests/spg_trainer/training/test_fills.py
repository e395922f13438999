"""Fills as rows of a step: what they show and score, which there are, and that they depend on no other row."""

import numpy as np
import torch

from spg_trainer.rollout.probe import fill_states
from spg_trainer.seeding import generator
from spg_trainer.training.loop import credit
from spg_trainer.training.micro_batches import draw_masks
from spg_trainer.training.setup import start
from tests.common.process_cases import algorithm_config


def made(output, algorithm, **changes):
    run = start(algorithm_config(output, algorithm, **changes), quiet=True)
    scored = run.source.collect(0)
    advantages, step = credit(run, scored, scored.rewards.reshape(-1, run.config.batch.num_generations))
    run.folder.release()
    return run, scored, advantages, step


def test_each_row_is_the_fill_of_its_state_and_shows_that_state(tmp_path):
    run, scored, _, step = made(tmp_path, "dispo", algorithm_args={"num_masks": 3})
    masks = draw_masks(run.algorithm, step, 0, 0, 0, 1)
    fills = step.prepared["fill"]
    assert fills.any() and not fills.all() and (np.diff(step.rows) >= 0).all()
    for place in fills.nonzero().flatten().tolist():
        (b,) = np.flatnonzero(scored.rows == step.rows[place])
        at, column = step.rollouts.fill_step[place], int(step.turn[place]) - 1
        kept = (scored.rollouts.unmask_step[b] >= 0) & (scored.rollouts.unmask_step[b] < at)
        own = ("fills", 0, int(scored.index[b]), int(scored.generation[b]), column)
        one = fill_states(
            run.policy, scored.rollouts.select(torch.tensor([b])), at[None], temperature=1.0,
            generators=[generator(0, *own)],
        )  # fmt: skip
        assert torch.equal(step.rollouts.completion_ids[place], one.completion_ids[0])
        width = masks.masked.shape[2] - len(kept)
        assert (masks.masked[place, :, width:] == ~kept).all()
        assert torch.equal(masks.scored[place, 0], ~kept & one.completion_mask[0])
        assert not masks.scored[place, 1:].any()
        assert step.group[place] == step.rows[place] // 4 and step.index[place] == scored.index[b]
        assert step.prepared["advantages"][place] == step.prepared["fill_advantages"][place, column] != 0


def test_only_what_is_worth_something_is_a_row_and_completions_need_not_be(tmp_path):
    _, scored, advantages, step = made(tmp_path, "mdpo", algorithm_args={"top_steps": 2, "beta": 0.0})
    worth = step.prepared["fill_advantages"]
    assert step.prepared["fill"].all() and len(step.rows) == int((advantages != 0).sum() * 2)
    assert ((worth != 0).sum(1) == 2).all()
    assert step.totals[0]["completions"] == len(scored) and step.totals[0]["scored_completions"] == 0
    assert step.totals[0]["learned_completions"] == len(set(step.rows.tolist()))
