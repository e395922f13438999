"""Child processes: how many at once, what is said of a failure, and that none outlives its parent."""

import io
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from spg_trainer.errors import CheckpointError
from spg_trainer.reporting import jobs as module
from spg_trainer.reporting.jobs import run_jobs
from spg_trainer.runs.progress import Console
from tests.common.trainer_cases import ENV, child_environment, tiny_folder


def test_a_failed_job_is_named_with_its_last_words_and_others_go_on(tmp_path: Path, monkeypatch) -> None:
    alive, most, start = [], [], module.start_process

    def counted(*arguments):
        alive.append(start(*arguments))
        most.append(sum(process.poll() is None for process in alive))
        return alive[-1]

    monkeypatch.setattr(module, "start_process", counted)
    shown = io.StringIO()
    words = {"bad": ("--num-generation", "1"), "good": ("--version",), "third": ("--version",)}
    jobs = {tmp_path / name: line for name, line in words.items()}
    ended = []
    console = Console(file=shown, every_seconds=0)
    assert run_jobs(jobs, 2, console, done=lambda: ended.append(1)) == [tmp_path / "bad"]
    assert len(ended) == 2, "those that went well"
    assert len(alive) == 3 and max(most) == 2
    said = shown.getvalue()
    assert f"{tmp_path / 'bad'} failed (2), run.log" in said
    assert "  error: No flag --num-generation." in said and "runs 3/3" in said


def test_an_error_ends_what_was_started(tmp_path: Path, monkeypatch) -> None:
    processes, start = [], module.start_process
    monkeypatch.setattr(
        module, "start_process", lambda *words: processes.append(start(*words)) or processes[-1]
    )

    def done() -> None:
        raise CheckpointError("no table")

    training = ("--env", "sudoku", "--model", "tiny", "--device", "cpu", "--max-steps", "100000")
    jobs = {tmp_path / "short": ("--version",), tmp_path / "long": training, tmp_path / "third": ()}
    with pytest.raises(CheckpointError, match="no table"):
        run_jobs(jobs, 2, Console(quiet=True), done)
    assert [process.returncode for process in processes] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGHUP] * 2])
def test_a_signal_lets_children_save_their_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: list[int]
) -> None:
    for name, value in child_environment().items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "long"
    sizes = "--max-completion-length 10 --block-length 5 --diffusion-steps 6 --device cpu --eval-problems 4"
    batch = "--prompts-per-step 4 --num-generations 4 --save-steps 1 --max-steps 100000"
    words = ("--env", ENV, "--model", str(tiny_folder()), *sizes.split(), *batch.split())

    def interrupt() -> None:
        end = time.monotonic() + 200
        metrics = folder / "metrics.jsonl"
        while not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= 2) and time.monotonic() < end:
            time.sleep(0.02)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.5)  # or a signal that comes twice is delivered once

    shown = io.StringIO()
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_jobs({folder: words}, 1, Console(file=shown), lambda: None)
    assert (
        "Stopping: 1 running" in shown.getvalue()
        and "Stopping after this step" in (folder / "run.log").read_text()
    )
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    steps = (folder / "metrics.jsonl").read_bytes().count(b"\n")
    assert (folder / "checkpoints" / f"step-{steps:06d}" / "COMPLETE").is_file()
