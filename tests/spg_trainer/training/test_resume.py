"""A run that was interrupted, however it was, goes on bit for bit as if it had not been."""

import logging
import re
import shutil

import pytest
import torch
import yaml

from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.training.loop import train
from tests.common.trainer_cases import (
    assert_equal_runs,
    rows,
    saved_steps,
    small_config,
    snapshot,
    step,
)

SETTINGS = {"max_steps": 6, "num_iterations": 2, "save_steps": 1, "keep": 9, "warmup_steps": 8}


def settings(folder, **changes):
    return small_config(folder, **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Six steps without interruption; read only."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(settings(folder), quiet=True)
    return folder


@pytest.fixture
def half(tmp_path, whole):
    """A run that ended after three of these six steps."""
    train(settings(tmp_path / "run", max_steps=3), quiet=True)
    return tmp_path / "run"


def test_a_path_goes_on_from_that_checkpoint_and_sets_later_ones_aside(half, whole, caplog):
    with caplog.at_level(logging.WARNING):
        train(settings(None, resume=str(step(half, 1))), quiet=True)
    assert_equal_runs(half, whole)
    assert (half / "checkpoints" / "superseded" / "step-000003").is_dir() and "superseded" in caplog.text
    train(settings(None, resume=str(half)), quiet=True)
    assert_equal_runs(half, whole)


def tear(folder):
    file = folder / "training.pt"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    "damage, damaged, said",
    [
        (None, [], ""),
        (tear, [3], "step-000003 has a torn file training.pt (.|\n)*resuming from step-000002"),
        (tear, [1, 2, 3], "step-000003 has a torn file training.pt (.|\n)*starting at step 0"),
        (shutil.rmtree, [3], ""),
        (shutil.rmtree, [1, 2, 3], ""),
    ],
    ids=["whole", "one torn", "all torn", "one lost", "none left"],
)
def test_three_steps_and_the_rest_are_six_whatever_became_of_checkpoints(
    half, whole, damage, damaged, said, caplog
):
    torch.manual_seed(99)
    for number in damaged:
        damage(step(half, number))
    with open(half / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "reward": 77}\n{"step": 5, "rew')
    with caplog.at_level(logging.WARNING):
        train(settings(half, resume="auto"), quiet=True)
    assert re.search(said, caplog.text)
    assert_equal_runs(half, whole)


def test_the_newest_unfinished_run_of_equal_settings_is_found(tmp_path, whole, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="holds no unfinished run of these settings"):
        train(settings(None, resume="auto"), quiet=True)
    train(settings(None, max_steps=2), quiet=True)
    (folder,) = (tmp_path / "runs").iterdir()
    (folder / "summary.json").unlink()
    train(settings(None, resume="auto"), quiet=True)
    assert_equal_runs(folder, whole)


def test_a_finished_run_resumed_does_nothing_more(half):
    before = snapshot(half)
    summary = train(settings(half, max_steps=3, resume="auto"), quiet=True)
    after = snapshot(half)
    for name in ("metrics.jsonl", "eval/after.json"):
        assert after[half / name] == before[half / name]
    assert summary["steps"] == 3 and summary["updates"] == 6


def test_memory_and_logging_may_change_on_resume(half, whole):
    """The gradient is another in its last bits then, so the runs are near, not equal."""
    train(settings(half, resume="auto", per_device_batch_size=3, sample_steps=0, keep=1), quiet=True)
    assert yaml.safe_load((half / "config.yaml").read_text())["max_steps"] == 6
    found, expected = rows(half / "metrics.jsonl"), rows(whole / "metrics.jsonl")
    assert found[:3] == expected[:3] and len(found) == 6
    assert found[3]["grad_norm"] == pytest.approx(expected[3]["grad_norm"], rel=1e-3)
    assert saved_steps(half) == [6]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"learning_rate": 2e-2}, r"optimizer.learning_rate was 0.01, now 0.02"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"num_generations": 8, "temperature": 0.5}, r"num_generations was 4, now 8; rollout.temperature"),
        ({"env_args": {"dull": "1"}}, "env_args"),
    ],
)
def test_what_changes_the_maths_is_refused_and_nothing_is_touched(half, changes, words):
    before = snapshot(half)
    with pytest.raises(ConfigError, match=words):
        train(settings(half, resume="auto", **changes), quiet=True)
    assert snapshot(half) == before


def test_resuming_from_nothing_says_what_to_give(tmp_path, half):
    (tmp_path / "other").mkdir()
    (step(half, 2) / "COMPLETE").unlink()
    for resume, words in (
        (tmp_path / "absent", "no such folder"),
        (tmp_path / "other", "holds no run"),
        (step(half, 2), "has no COMPLETE marker"),
    ):
        with pytest.raises((CheckpointError, ConfigError), match=words):
            train(settings(None, resume=str(resume)), quiet=True)


def test_an_adapter_resumes_bit_equal_dropout_included(tmp_path):
    lora = {"lora_r": 2, "lora_dropout": 0.3, "max_steps": 4, "save_steps": 2}
    train(settings(tmp_path / "whole", **lora), quiet=True)
    train(settings(tmp_path / "half", **{**lora, "max_steps": 2}), quiet=True)
    train(settings(tmp_path / "half", **lora, resume="auto"), quiet=True)
    assert_equal_runs(tmp_path / "half", tmp_path / "whole")
