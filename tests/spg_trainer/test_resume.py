"""A run that was interrupted, however it was, goes on bit for bit as if it had not been."""

import logging
import shutil

import pytest
import torch
import yaml

from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.training import train
from tests.common.trainer_cases import assert_equal_runs, rows, small_config, step

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


def test_three_steps_and_three_more_are_six(half, whole):
    torch.manual_seed(99)
    train(settings(half, resume="auto"), quiet=True)
    assert_equal_runs(half, whole)


def test_a_path_goes_on_from_that_checkpoint_and_sets_later_ones_aside(half, whole, caplog):
    with caplog.at_level(logging.WARNING):
        train(settings(None, resume=str(step(half, 1))), quiet=True)
    assert_equal_runs(half, whole)
    assert (half / "checkpoints" / "superseded" / "step-000003").is_dir() and "superseded" in caplog.text
    train(settings(None, resume=str(half)), quiet=True)
    assert_equal_runs(half, whole)


@pytest.mark.parametrize("torn", [1, 3])
def test_torn_checkpoints_are_passed_over_with_a_message(half, whole, torn, caplog):
    """One torn: step 2 is taken. All torn: the run starts anew."""
    for number in range(3, 3 - torn, -1):
        file = step(half, number) / "training.pt"
        file.write_bytes(file.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        train(settings(half, resume="auto"), quiet=True)
    assert "step-000003 has a torn file training.pt" in caplog.text
    assert ("resuming from step-000002" if torn == 1 else "starting at step 0") in caplog.text
    assert_equal_runs(half, whole)


def test_rows_after_the_checkpoint_are_cut(half, whole):
    shutil.rmtree(step(half, 3))
    with open(half / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "reward": 77}\n{"step": 5, "rew')
    train(settings(half, resume="auto"), quiet=True)
    assert_equal_runs(half, whole)


def test_a_run_without_a_checkpoint_starts_anew(tmp_path, half, whole):
    shutil.rmtree(half / "checkpoints")
    train(settings(half, resume="auto"), quiet=True)
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
    before = (half / "metrics.jsonl").read_bytes(), (half / "eval" / "after.json").read_bytes()
    summary = train(settings(half, max_steps=3, resume="auto"), quiet=True)
    assert ((half / "metrics.jsonl").read_bytes(), (half / "eval" / "after.json").read_bytes()) == before
    assert summary["steps"] == 3 and summary["updates"] == 6


def test_memory_and_logging_may_change_on_resume(half, whole):
    """The gradient is another in its last bits then, so the runs are near, not equal."""
    train(settings(half, resume="auto", per_device_batch_size=3, sample_steps=0, keep=1), quiet=True)
    assert yaml.safe_load((half / "config.yaml").read_text())["max_steps"] == 6
    found, expected = rows(half / "metrics.jsonl"), rows(whole / "metrics.jsonl")
    assert found[:3] == expected[:3] and len(found) == 6
    assert found[3]["grad_norm"] == pytest.approx(expected[3]["grad_norm"], rel=1e-3)
    assert [path.name for path in (half / "checkpoints").glob("step-*")] == ["step-000006"]


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
    before = {path: path.read_bytes() for path in half.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=words):
        train(settings(half, resume="auto", **changes), quiet=True)
    assert {path: path.read_bytes() for path in half.rglob("*") if path.is_file()} == before


def test_resuming_from_nothing_says_what_to_give(tmp_path, half):
    with pytest.raises(CheckpointError, match="no such folder"):
        train(settings(None, resume=str(tmp_path / "absent")), quiet=True)
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="holds no run"):
        train(settings(None, resume=str(tmp_path / "other")), quiet=True)
    (step(half, 2) / "COMPLETE").unlink()
    with pytest.raises(CheckpointError, match="has no COMPLETE marker"):
        train(settings(None, resume=str(step(half, 2))), quiet=True)


def test_an_adapter_resumes_bit_equal_dropout_included(tmp_path):
    lora = {"lora_r": 2, "lora_dropout": 0.3, "max_steps": 4, "save_steps": 2}
    train(settings(tmp_path / "whole", **lora), quiet=True)
    train(settings(tmp_path / "half", **{**lora, "max_steps": 2}), quiet=True)
    train(settings(tmp_path / "half", **lora, resume="auto"), quiet=True)
    assert_equal_runs(tmp_path / "half", tmp_path / "whole")
