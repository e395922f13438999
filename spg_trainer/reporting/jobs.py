"""Trainings in processes of their own (`python -m spg_trainer.reporting.jobs WORDS`), which never outlive this one."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from spg_trainer.runs.progress import Console
from spg_trainer.runs.stop import StopRequest, stopping

LOG = "run.log"
"""The file in a run's folder that has its output."""


def run_jobs(
    jobs: Mapping[Path, Sequence[str]], at_once: int, console: Console, done: Callable[[], None]
) -> list[Path]:
    """Runs a training for each folder, with its output in FOLDER/run.log; returns the folders whose runs failed.

    jobs: {folder: the words of the command line, without the folder}. at_once: how many run at once; 0 = one for each
    CPU core, on a GPU just one. done: called after each run that has ended well; an error that it raises ends the
    others.

    At a signal to stop (`runs/stop.py`) the children save their step and end; at a second signal they end at once. Then
    KeyboardInterrupt is raised.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    at_once = at_once or (1 if on_gpu else cores)
    environment = {} if on_gpu else {"OMP_NUM_THREADS": "1"}  # each run has a core of its own
    waiting, running, failed = list(jobs), dict[Path, subprocess.Popen](), list[Path]()
    # At the first signal we stop waiting for the runs to end, and at the second for them to save.
    with (
        stopping(StopRequest(at_once=True), tell=lambda: None),
        console.progress(len(jobs), "runs") as advance,
    ):
        try:
            while waiting or running:
                for folder in waiting[: at_once - len(running)]:
                    running[folder] = start_process(folder, jobs[folder], environment)
                    waiting.remove(folder)
                time.sleep(0.2)
                for folder in [folder for folder, process in running.items() if process.poll() is not None]:
                    if status := running.pop(folder).returncode:
                        failed.append(folder)
                        lines = (folder / LOG).read_text("utf-8", errors="replace").splitlines()
                        console.say("\n  ".join([f"{folder} failed ({status}), {LOG}:", *lines[-8:]]))
                    else:
                        done()
                    advance(len(jobs) - len(waiting) - len(running), f"{len(running)} running")
        except KeyboardInterrupt:
            console.say(
                f"Stopping: {len(running)} running, each saves its step. Ctrl-C again ends them at once."
            )
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
            raise
        finally:
            for process in running.values():
                process.communicate()  # closes the child's input, which ends the child
    return failed


def start_process(folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
    """The process of a training, with variables added to those of this one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "spg_trainer.reporting.jobs", *words, "--output-dir", str(folder)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,  # it closes when we end, for whatever reason, and tells the child
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches us alone, and we pass it on once
        )


def main() -> int:
    """Runs the trainer's command line in a run's process, and returns its exit status.

    When standard input is closed, the process ends at once, even within a step.
    """
    from spg_trainer.cli import main as trainer

    def end_with_parent() -> None:
        if not os.read(0, 1):  # waits until the parent, which writes nothing, closes standard input
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    return trainer()


if __name__ == "__main__":
    sys.exit(main())
