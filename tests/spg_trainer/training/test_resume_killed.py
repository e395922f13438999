"""`kill -9` at any moment, then `--resume auto`: real processes, and the end is that of an undisturbed run."""

import logging
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from spg_trainer.runs import checkpoint, files
from spg_trainer.settings.recorded import to_yaml
from tests.common.trainer_cases import assert_equal_runs, child_environment, rows, save_tiny, small_config
from tests.common.turn_cases import talk_config

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


def next_mark(victim, count, name):
    """Waits for the next time that the task is asked for `name` after `count` steps."""
    victim.wait_for(lambda: victim.training_with(count))
    before = victim.marked(name)
    victim.wait_for(lambda: victim.marked(name) > before)


def saving(victim):
    aside = victim.folder / "checkpoints"
    return victim.training_with(5) and any(aside.glob(".step-*.tmp"))


KILLS = {  # in which phase -> what to wait for, and the part of the phase's seconds after which to kill
    "start": (lambda victim: None, (0.1, 0.9)),
    "rollout": (lambda victim: next_mark(victim, 1, "problem"), (0.1, 0.9)),
    "update": (lambda victim: next_mark(victim, 3, "score"), (0.1, 0.9)),
    "save": (lambda victim: victim.wait_for(lambda: saving(victim)), (0, 1)),
    "end": (lambda victim: victim.wait_for(lambda: victim.training_with(STEPS)), (0, 1)),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_five_times_ends_like_one_never_interrupted(tmp_path):
    model = save_tiny(tmp_path / "model", hidden_size=64, layers=2, heads=4, ffn=128)
    lengths = {"max_completion_length": 32, "block_length": 16, "diffusion_steps": 32}
    steps = {"max_steps": STEPS, "num_iterations": 2, "save_steps": 2, "learning_rate": 1e-3}
    batch = {"num_generations": 8, "per_device_batch_size": 4}
    config = small_config(None, model=model, **lengths, **steps, **batch, eval_steps=3)
    file = tmp_path / "settings.yaml"
    file.write_text(to_yaml(config))

    whole = Victim(file, tmp_path / "whole", tmp_path / "marks")
    whole.wait_for(lambda: whole.marked("problem"))
    times = {"start": time.monotonic() - whole.born, "save": 0.01, "end": 0.2}
    said = whole.process.communicate(timeout=300)[0]
    assert whole.process.returncode == 0, said
    timings = rows(tmp_path / "whole" / "timings.jsonl")
    for name in ("rollout", "update"):
        times[name] = min(row[name] for row in timings)

    rng, folder, seen = random.Random(2026), tmp_path / "run", []
    for phase, (wait, part) in KILLS.items():
        victim = Victim(file, folder, tmp_path / "marks")
        wait(victim)
        victim.kill(rng.uniform(*part) * times[phase])
        assert not (folder / "summary.json").exists()
        for place in (folder / "checkpoints").glob("step-*"):
            assert files.incomplete(place) is None, place
        newest = checkpoint.latest_complete(folder) if folder.exists() else None
        seen.append((phase, victim.lines(), newest and newest.name))
    last = Victim(file, folder, tmp_path / "marks")
    said = last.process.communicate(timeout=300)[0]
    assert last.process.returncode == 0, said
    assert "Continuing" in said, seen
    assert_equal_runs(folder, tmp_path / "whole")
    logging.getLogger(__name__).info("killed at %s with %s", seen, times)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_in_the_second_round_of_a_step_ends_like_one_never_interrupted(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(to_yaml(talk_config(None, max_steps=4, save_steps=1, eval_steps=2)))
    whole = Victim(file, tmp_path / "whole", tmp_path / "marks")
    said = whole.process.communicate(timeout=300)[0]
    assert whole.process.returncode == 0, said
    victim = Victim(file, tmp_path / "run", tmp_path / "marks")
    next_mark(victim, 2, "reply2")
    victim.kill(0)
    assert not (tmp_path / "run" / "summary.json").exists() and victim.lines() in (2, 3)
    last = Victim(file, tmp_path / "run", tmp_path / "marks")
    said = last.process.communicate(timeout=300)[0]
    assert last.process.returncode == 0 and "Continuing" in said, said
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")
