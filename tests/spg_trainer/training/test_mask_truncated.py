"""--mask-truncated: completions that the length cut teach nothing, and still count in their groups."""

import json

import numpy as np
import pytest
import torch

from spg_trainer import train
from spg_trainer.rollout.tokens import ended
from spg_trainer.training.prepare import prepare
from tests.common.trainer_cases import small_config, start


def prepared(config):
    """A first step's completions with advantages, those that are learned from, and which are cut."""
    run = start(config, quiet=True)
    rows = run.source.collect(0)
    with_advantages, learned = prepare(run, rows)
    run.folder.release()
    return with_advantages, learned, ~np.array(ended(run.policy, rows))


@pytest.mark.parametrize(
    "more", [{}, {"algorithm": "diffu_grpo", "algorithm_args": {"beta": 0.04}, "lora_r": 2}]
)
def test_what_is_cut_changes_neither_loss_nor_penalty_but_counts_in_its_group(tmp_path, more):
    free, learned, cut = prepared(small_config(tmp_path / "free", **more))
    masked, fewer, _ = prepared(small_config(tmp_path / "masked", mask_truncated=True, **more))
    assert cut.any() and not cut.all()
    expected = free.advantages.masked_fill(torch.from_numpy(cut), 0.0)
    assert torch.equal(masked.advantages, expected) and not torch.equal(free.advantages, expected)
    keys = {key for key, is_cut in zip(masked.noise_keys(), cut, strict=True) if not is_cut}
    assert {*fewer.noise_keys()} == {*learned.noise_keys()} & keys and len(fewer) < len(learned)


def test_a_run_learns_from_what_ended(tmp_path):
    train(small_config(tmp_path / "run", max_steps=1, mask_truncated=True), quiet=True)
    lines = (tmp_path / "run" / "samples" / "step-000001.jsonl").read_text().splitlines()
    advantages = [json.loads(line)["advantage"] for line in lines]
    assert any(advantages) and not all(advantages)
