"""A run that was interrupted, however it was, goes on bit for bit as if it had not been."""

import logging
import re
import shutil

import pytest
import torch
import yaml

from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.settings.configs import Config
from spg_trainer.settings.resolve import resolve
from spg_trainer.training.loop import train
from tests.common.trainer_cases import (
    assert_equal_runs,
    flip_last_bit,
    rows,
    saved_steps,
    small_config,
    snapshot,
    step,
)

SETTINGS = {"max_steps": 4, "num_iterations": 2, "save_steps": 1, "keep": 9, "warmup_steps": 6}


def settings(folder, **changes):
    return small_config(folder, **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Four steps without interruption; read only."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(settings(folder), quiet=True)
    return folder


@pytest.fixture(scope="module")
def first_half(tmp_path_factory):
    """A run that ended after two of these four steps; read only."""
    folder = tmp_path_factory.mktemp("half") / "run"
    train(settings(folder, max_steps=2), quiet=True)
    return folder


@pytest.fixture
def half(tmp_path, first_half):
    """A copy of it, elsewhere."""
    return shutil.copytree(first_half, tmp_path / "run")


@pytest.mark.slow
def test_a_path_goes_on_from_that_checkpoint_and_sets_later_ones_aside(half, whole, caplog):
    with caplog.at_level(logging.WARNING):
        train(settings(None, resume=str(step(half, 1))), quiet=True)
    assert_equal_runs(half, whole)
    assert (half / "checkpoints" / "superseded" / "step-000002").is_dir() and "superseded" in caplog.text
    before = snapshot(half)
    assert train(settings(None, resume=str(half)), quiet=True)["updates"] == 8
    after = snapshot(half)
    assert all(after[half / name] == before[half / name] for name in ("metrics.jsonl", "eval/after.json"))


def tear(folder):
    file = folder / "training.pt"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    "damage, damaged, said",
    [
        pytest.param(None, [], "", marks=pytest.mark.slow),
        (tear, [2], "step-000002 .*training.pt .*passed over"),
        pytest.param(tear, [1, 2], "step-000001 .*training.pt .*passed over", marks=pytest.mark.slow),
    ],
    ids=["whole", "one torn", "all torn"],
)
def test_two_steps_and_the_rest_are_four_whatever_became_of_checkpoints(
    half, whole, damage, damaged, said, caplog
):
    torch.manual_seed(99)
    for number in damaged:
        damage(step(half, number))
    with open(half / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "reward": 77}\n{"step": 4, "rew')
    with caplog.at_level(logging.WARNING):
        train(settings(half, resume="auto"), quiet=True)
    assert re.search(said, caplog.text)
    assert_equal_runs(half, whole)


def test_the_newest_unfinished_run_of_equal_settings_is_found(tmp_path, half, whole, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--resume auto.* --output-dir"):
        train(settings(None, resume="auto"), quiet=True)
    folder = shutil.move(half, tmp_path / "runs" / "found")
    (folder / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"of other settings is runs/found.*--resume runs/found"):
        train(settings(None, resume="auto", learning_rate=2e-2), quiet=True)
    train(settings(None, resume="auto"), quiet=True)
    assert_equal_runs(folder, whole)


def test_another_algorithm_is_no_setting_of_the_run(half):
    """Not that its arguments are unknown, which nobody typed."""
    with pytest.raises(
        ConfigError, match=r"a run of other settings: algorithm was '\w+', now 'wd1'\. Resume it"
    ):
        resolve(Config, ["--resume", str(half), "--algorithm", "wd1"])


def test_a_run_of_a_version_that_lacked_a_hyper_parameter_goes_on(half, whole):
    recorded = yaml.safe_load((half / "config.yaml").read_text())
    assert recorded["algorithm_args"].pop("edit_noise") == 0.0
    (half / "config.yaml").write_text(yaml.safe_dump(recorded))
    train(settings(half, resume="auto", max_steps=3), quiet=True)
    assert rows(half / "metrics.jsonl") == rows(whole / "metrics.jsonl")[:3]


def test_memory_and_logging_may_change_on_resume(half, whole):
    """The gradient is another in its last bits then, so the runs are near, not equal."""
    changes = {"per_device_batch_size": 3, "sample_steps": 0, "keep": 1, "max_steps": 3}
    train(settings(half, resume="auto", **changes), quiet=True)
    assert yaml.safe_load((half / "config.yaml").read_text())["max_steps"] == 3
    metrics, expected = rows(half / "metrics.jsonl"), rows(whole / "metrics.jsonl")
    assert metrics[:2] == expected[:2] and len(metrics) == 3
    assert metrics[2]["grad_norm"] == pytest.approx(expected[2]["grad_norm"], rel=1e-3)
    assert saved_steps(half) == [3]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"learning_rate": 2e-2}, "optimizer.learning_rate was 0.01, now 0.02"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"num_generations": 8, "temperature": 0.5}, "num_generations was 4, now 8; rollout.temperature"),
        ({"env_args": {"dull": "1"}}, "env_args"),
    ],
)
def test_what_changes_the_maths_is_refused_and_nothing_is_touched(first_half, changes, words):
    before = snapshot(first_half)
    with pytest.raises(ConfigError, match=re.escape(words)):
        train(settings(first_half, resume="auto", **changes), quiet=True)
    assert snapshot(first_half) == before


def test_fewer_steps_than_a_run_has_are_refused_and_nothing_is_touched(first_half):
    before = snapshot(first_half)
    with pytest.raises(ConfigError, match=r"--max-steps 1: .*step-000002 is already at step 2"):
        train(settings(first_half, resume="auto", max_steps=1), quiet=True)
    assert snapshot(first_half) == before


def test_a_run_that_lost_its_checkpoints_keeps_its_results(half):
    shutil.rmtree(half / "checkpoints")
    before = snapshot(half)
    for resume in ("auto", str(half)):
        with pytest.raises(
            CheckpointError, match=r"has made 2 steps, but its checkpoints are gone.*--model "
        ):
            train(settings(half, resume=resume, max_steps=4), quiet=True)
    assert snapshot(half) == before


def test_a_bit_error_in_a_checkpoint_is_refused_and_the_one_before_goes_on(half, whole):
    flip_last_bit(step(half, 2) / "model.safetensors")
    before = snapshot(half)
    for resume in ("auto", str(half), str(step(half, 2))):
        with pytest.raises(
            CheckpointError, match=rf"damaged file model\.safetensors.*--resume {step(half, 1)}\."
        ):
            train(settings(half if resume == "auto" else None, resume=resume), quiet=True)
    assert snapshot(half) == before
    train(settings(None, resume=str(step(half, 1))), quiet=True)
    assert_equal_runs(half, whole)


def test_resuming_from_nothing_names_the_place(tmp_path, half):
    (tmp_path / "other").mkdir()
    (step(half, 2) / "COMPLETE").unlink()
    for place in (tmp_path / "absent", tmp_path / "other", step(half, 2)):
        with pytest.raises((CheckpointError, ConfigError), match=re.escape(str(place))):
            train(settings(None, resume=str(place)), quiet=True)


def test_an_adapter_resumes_bit_equal_dropout_included(tmp_path):
    lora = {"lora_r": 2, "lora_dropout": 0.3, "max_steps": 2}
    train(settings(tmp_path / "whole", **lora), quiet=True)
    train(settings(tmp_path / "half", **{**lora, "max_steps": 1}), quiet=True)
    train(settings(tmp_path / "half", **lora, resume="auto"), quiet=True)
    assert_equal_runs(tmp_path / "half", tmp_path / "whole")
