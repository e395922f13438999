"""Child processes: how many at once, what is said of a failure, and that none outlives its parent."""

import io
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from spg_trainer.reporting.jobs import Child, Job, run_jobs
from spg_trainer.runs.console import Console
from tests.common.trainer_cases import ENV, child_environment, tiny_folder


def job(folder: Path, name: str, *words: str, total: int = 1) -> Job:
    return Job(name, words, folder / name / "run.log", total, folder / name / "metrics.jsonl")


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A run of more steps than any test waits for."""
    for name, value in child_environment().items():
        monkeypatch.setenv(name, value)
    sizes = "--max-completion-length 10 --block-length 5 --diffusion-steps 6 --device cpu --eval-problems 4"
    batch = "--prompts-per-step 4 --num-generations 4 --save-steps 1 --max-steps 100000"
    words = ["--env", ENV, "--model", str(tiny_folder()), *sizes.split(), *batch.split()]
    return job(tmp_path, "long", *words, "--output-dir", str(tmp_path / "long"), total=100_000)


def wait_for_rows(file: Path, child: Child | None = None) -> None:
    end = time.monotonic() + 200
    while not (file.is_file() and file.read_bytes().count(b"\n") >= 2):
        assert child is None or child.process.poll() is None, child.job.log.read_text()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_a_failed_job_is_named_with_its_last_words_and_others_go_on(tmp_path: Path) -> None:
    shown = io.StringIO()
    jobs = [job(tmp_path, "bad", "--num-generation", "1"), job(tmp_path, "good", "--help")]
    failed = run_jobs(jobs, 1, Console(file=shown, every_seconds=0), environment={}, unit="steps")
    assert failed == jobs[:1]
    said = shown.getvalue()
    assert f"bad failed (exit status 2); the end of {tmp_path / 'bad' / 'run.log'}:" in said
    assert "  error: No flag --num-generation." in said and "good: done in" in said
    assert "steps 2/2  2 of 2 done" in said


def test_no_more_jobs_than_asked_for_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, most, start = [], [], Child.__init__

    def counted(self, *arguments) -> None:
        start(self, *arguments)
        alive.append(self)
        most.append(sum(child.process.poll() is None for child in alive))

    monkeypatch.setattr(Child, "__init__", counted)
    jobs = [job(tmp_path, f"job-{i}", "--help") for i in range(4)]
    assert run_jobs(jobs, 2, Console(quiet=True), environment={"ANY": "1"}, unit="steps") == []
    assert len(alive) == 4 and max(most) == 2


@pytest.mark.slow  # the killed comparison of test_compare.py needs it too
def test_a_child_ends_when_its_parent_is_gone(training: Job) -> None:
    child = Child(training, {})
    try:
        wait_for_rows(training.counted, child)
        child.process.stdin.close()  # as the end of the parent does
        assert child.process.wait(timeout=20) == 1
    finally:
        child.process.kill()


def test_sigterm_lets_children_save_their_step(training: Job) -> None:
    def interrupt() -> None:
        wait_for_rows(training.counted)
        os.kill(os.getpid(), signal.SIGTERM)

    shown = io.StringIO()
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_jobs([training], 1, Console(file=shown), environment={}, unit="steps")
    assert "Stopping: 1 running" in shown.getvalue()
    assert "Stopping after this step" in training.log.read_text()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    folder = training.log.parent
    steps = folder.joinpath("metrics.jsonl").read_bytes().count(b"\n")
    assert (folder / "checkpoints" / f"step-{steps:06d}" / "COMPLETE").is_file()
