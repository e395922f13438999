"""A run that was interrupted, however it was, goes on bit for bit as if it had not been."""

import json
import logging
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from trainer_cases import (
    adam_state,
    change,
    child_environment,
    rows,
    same_weights,
    save_tiny,
    small_config,
)

from spg_trainer import checkpoint, files
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.settings import to_yaml
from spg_trainer.train import train

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


def step(folder, number):
    return folder / "checkpoints" / f"step-{number:06d}"


def assert_equal_runs(folder, expected):
    """Metrics, samples and evaluations byte for byte; weights and Adam's state bit for bit; timings complete."""
    for name in ("metrics.jsonl", "samples", "eval"):
        places = [expected / name] if (expected / name).is_file() else sorted((expected / name).iterdir())
        assert places
        for place in places:
            assert (folder / place.relative_to(expected)).read_bytes() == place.read_bytes(), place.name
    assert same_weights(folder / "model", expected / "model")
    last = len(rows(expected / "metrics.jsonl"))
    states = [adam_state(step(place, last)) for place in (folder, expected)]
    assert states[0] and all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    assert same_weights(step(folder, last), step(expected, last))
    assert [row["step"] for row in rows(folder / "timings.jsonl")] == list(range(1, last + 1))
    summaries = [json.loads((place / "summary.json").read_text()) for place in (folder, expected)]
    for key in ("steps", "updates", "eval_before", "eval_after", "gain", "seed", "versions"):
        assert summaries[0][key] == summaries[1][key], key


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


def test_a_run_without_a_checkpoint_is_begun_anew_and_a_new_folder_too(tmp_path, half, whole):
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


# Real processes, really killed.

STEPS = 8


class Victim:
    """A training process, watched through its run folder and the marks its task leaves."""

    def __init__(self, config_file, folder, marks):
        shutil.rmtree(marks, ignore_errors=True)
        marks.mkdir()
        self.folder, self.marks, self.born = folder, marks, time.monotonic()
        command = ["--config", str(config_file), "--output-dir", str(folder), "--resume", "auto"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spg_trainer", *command],
            env=child_environment(LETTERS_MARKS=str(marks)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, happened, limit=200):
        """Until `happened()`; what the process said is the error if it ends before."""
        end = time.monotonic() + limit
        while not happened():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < end, "nothing happened"
            time.sleep(0.001)

    def training_with(self, count):
        """Whether at least `count` rows are written, and the process has begun to train (and cut the old ones)."""
        return (self.marks / "problem").exists() and self.lines() >= count

    def lines(self):
        file = self.folder / "metrics.jsonl"
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def marked(self, name):
        """When the task was last asked for this."""
        file = self.marks / name
        return file.stat().st_mtime_ns if file.exists() else 0

    def kill(self, delay):
        time.sleep(delay)
        assert self.process.poll() is None, self.process.communicate()[0]
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        assert self.process.returncode == -signal.SIGKILL


def kill_in_start(victim, rng, times):
    victim.kill(rng.uniform(0.1, 0.9) * times["start"])


def kill_in_rollout(victim, rng, times):
    victim.wait_for(lambda: victim.training_with(1))
    before = victim.marked("problem")
    victim.wait_for(lambda: victim.marked("problem") > before)
    victim.kill(rng.uniform(0.1, 0.9) * times["rollout"])


def kill_in_update(victim, rng, times):
    victim.wait_for(lambda: victim.training_with(3))
    before = victim.marked("score")
    victim.wait_for(lambda: victim.marked("score") > before)
    victim.kill(rng.uniform(0.1, 0.9) * times["update"])


def kill_in_save(victim, rng, times):
    aside = victim.folder / "checkpoints"
    victim.wait_for(lambda: victim.training_with(5) and any(aside.glob(".step-*.tmp")))
    victim.kill(rng.uniform(0, 0.01))


def kill_at_the_end(victim, rng, times):
    victim.wait_for(lambda: victim.training_with(STEPS))
    victim.kill(rng.uniform(0, 0.2))


KILLS = (kill_in_start, kill_in_rollout, kill_in_update, kill_in_save, kill_at_the_end)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_five_times_ends_like_one_never_interrupted(tmp_path):
    model = save_tiny(tmp_path / "model", hidden_size=64, layers=2, heads=4, ffn=128)
    config = small_config(
        None,
        model=model,
        max_steps=STEPS,
        num_iterations=2,
        save_steps=2,
        num_generations=8,
        per_device_batch_size=4,
        learning_rate=1e-3,
    )
    config = change(config, max_completion_length=32, block_length=16, diffusion_steps=32, output_dir=None)
    file = tmp_path / "settings.yaml"
    file.write_text(to_yaml(config))
    assert yaml.safe_load(file.read_text())["max_steps"] == STEPS

    whole = Victim(file, tmp_path / "whole", tmp_path / "marks")
    whole.wait_for(lambda: whole.marked("problem"))
    times = {"start": time.monotonic() - whole.born}
    said = whole.process.communicate(timeout=300)[0]
    assert whole.process.returncode == 0, said
    timings = rows(tmp_path / "whole" / "timings.jsonl")
    for name in ("rollout", "update"):
        times[name] = min(row[name] for row in timings)

    rng, folder, seen = random.Random(2026), tmp_path / "run", []
    for kill in KILLS:
        victim = Victim(file, folder, tmp_path / "marks")
        kill(victim, rng, times)
        assert not (folder / "summary.json").exists()
        for place in (folder / "checkpoints").glob("step-*"):
            assert files.defect(place) is None, place
        newest = checkpoint.latest_complete(folder) if folder.exists() else None
        seen.append((kill.__name__, victim.lines(), newest and newest.name))
    last = Victim(file, folder, tmp_path / "marks")
    said = last.process.communicate(timeout=300)[0]
    assert last.process.returncode == 0, said
    assert "Continuing" in said, seen
    assert_equal_runs(folder, tmp_path / "whole")
    logging.getLogger(__name__).info("killed at %s with %s", seen, times)
