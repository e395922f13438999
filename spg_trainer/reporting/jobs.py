"""Trainings as child processes (`python -m spg_trainer.reporting.jobs WORDS`), none of which outlives its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spg_trainer.runs.console import Console


@dataclass(frozen=True)
class Job:
    """A command line of the trainer, and the file for its output."""

    name: str
    words: tuple[str, ...]
    log: Path

    def start(self, environment: Mapping[str, str]) -> subprocess.Popen:
        """Its process, with variables added to those of this one."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "spg_trainer.reporting.jobs", *self.words],
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,  # its end tells the child that we have ended, however we did
                stdout=log,
                stderr=log,
                start_new_session=True,  # the terminal's Ctrl-C is ours to pass on, once
            )


def run_jobs(jobs: Sequence[Job], at_once: int, console: Console) -> list[Job]:
    """Runs all jobs and returns those that failed. at_once: 0 = one for each CPU core, or on a GPU one alone.

    At Ctrl-C or SIGTERM the children save their step and end, at a second Ctrl-C at once; then KeyboardInterrupt.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    at_once = at_once or (1 if on_gpu else cores)
    waiting, failed = deque(jobs), list[Job]()
    running: dict[Job, subprocess.Popen] = {}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with console.progress(len(jobs), "runs") as advance:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.popleft()
                    running[job] = job.start({} if on_gpu else {"OMP_NUM_THREADS": "1"})
                time.sleep(0.2)
                for job in [job for job, process in running.items() if process.poll() is not None]:
                    if status := running.pop(job).returncode:
                        failed.append(job)
                        lines = job.log.read_text("utf-8", errors="replace").splitlines()
                        console.say("\n  ".join([f"{job.name} failed ({status}), {job.log}:", *lines[-8:]]))
                    advance(len(jobs) - len(waiting) - len(running), f"{len(running)} running")
    except KeyboardInterrupt:
        console.say(f"Stopping: {len(running)} running, each saves its step. Ctrl-C again ends them at once.")
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
        raise
    finally:
        for process in running.values():
            process.communicate()  # closes its input, which ends it
        signal.signal(signal.SIGTERM, before)
    return failed


def main() -> int:
    """Runs the trainer's command line; ends at once, mid-step too, when standard input does."""
    from spg_trainer.cli import main as trainer

    threading.Thread(target=lambda: os.read(0, 1) or os._exit(1), daemon=True).start()
    return trainer()


if __name__ == "__main__":
    sys.exit(main())
