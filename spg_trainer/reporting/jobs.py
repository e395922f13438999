"""Child processes, a few at a time: each a command line of the trainer with a log; none outlives this one.

`python -m spg_trainer.reporting.jobs WORDS` is such a child: `python -m spg_trainer WORDS` that ends with its parent.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spg_trainer.runs.console import Console

LAST_LINES = 8
"""Of a failed child's words, shown."""


@dataclass(frozen=True)
class Job:
    """A command line, and how to tell how far it is."""

    name: str
    words: tuple[str, ...]
    log: Path
    total: int
    """Its work, in units of the live line."""
    counted: Path | None = None
    """A file with a line for each finished unit; None = a unit is a second."""

    def done(self, seconds: float) -> int:
        """Units finished, `seconds` after its start."""
        if self.counted is None:
            return min(int(seconds), self.total)
        return min(self.counted.read_bytes().count(b"\n") if self.counted.is_file() else 0, self.total)


class Child:
    """The process of a job."""

    def __init__(self, job: Job, environment: Mapping[str, str]) -> None:
        self.job, self.started = job, time.monotonic()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "spg_trainer.reporting.jobs", *job.words],
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,  # its end tells the child that we have ended, however we did
                stdout=log,
                stderr=log,
                start_new_session=True,  # the terminal's Ctrl-C is ours to pass on, once
            )

    @property
    def done(self) -> int:
        return self.job.done(time.monotonic() - self.started)

    def end(self) -> None:
        """Ends the process at once, if it is still there."""
        self.process.stdin.close()
        self.process.wait()


def run_jobs(
    jobs: Sequence[Job], at_once: int, console: Console, *, environment: Mapping[str, str], unit: str
) -> list[Job]:
    """Runs all jobs, `at_once` at a time, and returns those that failed, each named with its last words.

    environment: variables added to this process's. unit: of `Job.total`, in the plural. At KeyboardInterrupt or SIGTERM
    every child is asked to end, as Ctrl-C asks a training, and waited for; KeyboardInterrupt is raised then. A second
    one ends them at once.
    """
    waiting, running, failed = deque(jobs), list[Child](), list[Job]()
    seen = {job.name: job.done(0) for job in jobs}
    left = sum(job.total - seen[job.name] for job in jobs)
    with interrupted_by_sigterm(), console.progress(left, unit) as advance:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(Child(waiting.popleft(), environment))
                time.sleep(0.5)
                ended = [child for child in running if child.process.poll() is not None]
                running = [child for child in running if child not in ended]
                new = 0
                for child in ended + running:
                    name = child.job.name
                    now = child.job.total if child in ended else max(seen[name], child.done)
                    new, seen[name] = new + now - seen[name], now
                for child in ended:
                    child.end()
                    if child.process.returncode:
                        failed.append(child.job)
                    console.say(last_words(child))
                finished = len(jobs) - len(waiting) - len(running)
                advance(new, f"{finished} of {len(jobs)} done, {len(running)} running")
        except KeyboardInterrupt:
            console.say(
                f"Stopping: {len(running)} running, each saves its step. Ctrl-C again ends them at once."
            )
            for child in running:
                child.process.terminate()
            for child in running:
                child.process.wait()
            raise
        finally:
            for child in running:
                child.end()
    return failed


def last_words(child: Child) -> str:
    """What is said of a child that has ended: how long it took, or how it failed."""
    code, job = child.process.returncode, child.job
    if code == 0:
        return f"{job.name}: done in {time.monotonic() - child.started:.0f} s"
    lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join(
        [f"{job.name} failed (exit status {code}); the end of {job.log}:", *(f"  {x}" for x in lines)]
    )


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does; signals belong to the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> int:
    """Runs the trainer's command line; ends at once, mid-step too, when the parent's end of standard input closes."""
    from spg_trainer.cli import main as trainer

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return trainer()


if __name__ == "__main__":
    sys.exit(main())
