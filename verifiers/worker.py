"""A small pool of worker processes: each answers jobs, has a deadline for each job, and can be killed.

`Workers` asks and `_serve` answers, in a plain `subprocess` child at the other end of a pipe. A worker ends by itself
when its pipe closes, also in the middle of a job. So it ends with the interpreter that started it, even if that is
killed by kill -9. Any thread may ask; a forked child closes what it inherited and starts workers of its own.

Pools over `multiprocessing` (pebble 5.2 was measured) start no worker from a daemonic process, run a script without a
`__main__` guard again, and leave a busy child running when the parent is killed.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import Empty, LifoQueue, SimpleQueue
from typing import Any

START_SECONDS = 60.0
_KILL = 0.9  # the part of the hard deadline after which a worker is killed; the rest is for ending it
# Held while a pipe has both its ends here, and across every fork, so that no forked child inherits the worker's end. If
# one did, the pipe would not close when the worker dies.
_starting = threading.Lock()
_pools: weakref.WeakSet[Workers] = weakref.WeakSet()


class WorkerUnavailable(Exception):
    """No worker of this kind can run here; the text says what is missing."""


def environment() -> dict[str, str]:
    """Environment variables with which another interpreter can import the modules that this one can."""
    paths = [*(path or os.getcwd() for path in sys.path), str(Path(__file__).parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class _Worker:
    """One child process and the pipe to it."""

    def __init__(self, program: Sequence[str], variables: dict[str, str], logs: bool, seconds: float) -> None:
        """program, variables: what is started, with which environment. seconds: in which it must be ready."""
        with _starting:
            self.pipe, theirs = Pipe()
            with theirs:
                self.process = subprocess.Popen(
                    [*program, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=None if logs else subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=variables,
                    start_new_session=True,  # Ctrl-C in a terminal is for us alone
                )
        self.start_deadline = time.monotonic() + seconds
        self.ready: dict[str, Any] = {}  # the worker's first message

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next message; raises TimeoutError, and EOFError or another OSError if the worker is gone."""
        left = deadline - time.monotonic()
        if left <= 0 or not self.pipe.poll(None if left == math.inf else left):
            raise TimeoutError
        return json.loads(self.pipe.recv_bytes())

    def reply(self, seconds: float, until: float) -> dict[str, Any]:
        """The next message, within `seconds` of the worker's processor time and before `until`; raises as `receive`.

        A worker that waits for something instead of computing has `seconds` by the clock.
        """
        used_before = self.used()
        deadline = min(time.monotonic() + seconds, until)
        while True:
            try:
                return self.receive(deadline)
            except TimeoutError:
                left = seconds - (self.used() - used_before)
                if time.monotonic() >= until or left <= 0 or not self.computes():
                    raise
                shortest_wait = 0.02  # so that little time is spent on looking
                deadline = min(time.monotonic() + max(left, shortest_wait), until)

    def used(self) -> float:
        """How many seconds of processor time the worker has used; 0 without /proc."""
        fields = _fields(f"/proc/{self.process.pid}")
        ticks = fields[11:13]  # utime and stime
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    def computes(self) -> bool:
        """True if a thread of the worker runs, or waits for a processor or a disk; False without /proc."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*")
        # The state R stands for running or waiting for a processor, D for waiting for a disk.
        return any(fields[0] in "RD" for fields in map(_fields, threads) if fields)


def _fields(folder: str | Path) -> list[str]:
    """The fields of Linux's `stat` file for a process or thread, behind its name; [] if there is none."""
    try:
        return Path(folder, "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class Workers:
    """Up to `size` worker processes, shared by the threads of this process.

    A worker answers with the function that `prepare` of the module returns; `settings` are the arguments of `prepare`,
    values that JSON has. The module's `MEMORY` says how many bytes a worker may use; None = no limit.

    soft, hard: a job's seconds of processor time; None = no limit. At `soft` the worker itself gives up. Shortly before
    `hard` a worker that has not replied is killed, so that a reply or an error comes within `hard`. A job may have a
    `hard` of its own. start: the seconds in which a worker must be ready. logs: whether workers write to our standard
    error. command: a program that answers in place of a module, over the pipe whose number is its last argument.
    `lost` counts the workers that died or were killed because they did not answer.
    """

    def __init__(
        self,
        module: str,
        *,
        size: int,
        soft: float | None = 1.0,
        hard: float | None = 3.0,
        start: float = START_SECONDS,
        logs: bool = False,
        settings: dict[str, Any] | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self.size, self.soft, self.hard, self.start, self.logs = size, soft, hard, start, logs
        ours = (sys.executable, "-P", "-m", __name__, module, json.dumps(settings or {}))
        self.program, self.is_ours, self.lost = tuple(command or ours), not command, 0
        self._alive: set[_Worker] = set()
        self.reset()
        _pools.add(self)

    def reset(self) -> None:
        """Begins without workers; a forked child leaves its parent's workers to the parent."""
        for worker in self._alive:
            # Otherwise Popen would wait for a process that is no child of this one.
            worker.process.returncode = 0
            worker.pipe.close()
        self._alive = set()
        self._unavailable = ""
        # An entry for each worker that may run: None before its first job, then the worker; `ask` replaces one that has
        # ended. The entry that was used last is taken first, so that no more workers start than are needed.
        self._free: LifoQueue[_Worker | None] = LifoQueue()
        for _ in range(self.size):
            self._free.put(None)

    def ask(self, job: dict[str, Any], until: float = math.inf) -> dict[str, Any]:
        """The reply to `job`; if none came, {"outcome": "timeout" or "error", "detail": why}.

        Neither the start of a worker nor a busy machine uses up a deadline; a worker that waits for something is killed
        by the clock. `until` (`time.monotonic`) is the caller's own limit. The job of a worker that dies is asked once
        more, because what killed it may have come from outside. Raises `WorkerUnavailable`.
        """
        try:
            worker = self._free.get(timeout=None if until == math.inf else max(until - time.monotonic(), 0))
        except Empty:
            return {"outcome": "timeout", "detail": "the caller's time was up before a worker was free"}
        try:
            hard = job.get("hard", self.hard)
            seconds = math.inf if hard is None else _KILL * hard
            for _ in range(2):
                if worker not in self._alive:
                    if self._unavailable:
                        raise WorkerUnavailable(self._unavailable)
                    variables = environment()
                    if not self.is_ours:  # another Python, which should not find the packages of this one
                        del variables["PYTHONPATH"]
                    worker = _Worker(self.program, variables, self.logs, self.start)
                    self._alive.add(worker)
                try:
                    if not self._wait_until_ready(worker, until):
                        return {"outcome": "timeout", "detail": "no worker was ready in time"}
                    worker.pipe.send({**job, "soft": self.soft, "hard": hard})
                    reply = worker.reply(seconds, until)
                except TimeoutError:
                    self.lost += 1
                    self._end(worker)
                    when = "at the caller's limit" if time.monotonic() >= until else f"after {hard:g} s"
                    return {"outcome": "timeout", "detail": f"killed {when}"}
                except (EOFError, OSError):
                    self.lost += 1
                    with suppress(subprocess.TimeoutExpired):
                        worker.process.wait(1)
                    self._end(worker)
                    continue
                if reply.get("retire"):  # the worker should not be asked again
                    self._end(worker)
                return reply
            return {"outcome": "error", "detail": f"the worker died twice ({worker.process.returncode})"}
        except OSError as error:
            raise WorkerUnavailable(f"no process can be started: {error}") from error
        except BaseException:  # also Ctrl-C; a worker that still owes an answer cannot be asked anything else
            if worker is not None:
                self._end(worker)
            raise
        finally:
            self._free.put(worker)

    def _wait_until_ready(self, worker: _Worker, until: float) -> bool:
        """Whether a worker has sent its first message by `until`; kills a worker that is too late."""
        if not worker.ready:
            try:
                worker.ready = worker.receive(min(until, worker.start_deadline))
            except TimeoutError:
                if until > worker.start_deadline:
                    self._end(worker)
                return False
            if reason := worker.ready.get("unavailable"):
                self._unavailable = reason
                raise WorkerUnavailable(reason)
        return True

    def _end(self, worker: _Worker) -> None:
        """Kills a worker."""
        self._alive.discard(worker)
        worker.process.kill()
        worker.pipe.close()
        # A worker that has much memory to free takes longer to end; `subprocess` then reaps it later.
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(0.2)

    def close(self, for_good: bool = False) -> None:
        """Ends all workers; the next job starts new ones, or is refused if `for_good`."""
        self._unavailable = "the pool was closed" if for_good else ""
        for worker in list(self._alive):
            self._end(worker)


def _after_fork_in_child() -> None:
    """Frees the lock that was taken before the fork, and leaves the workers to the parent."""
    _starting.release()
    for pool in list(_pools):
        pool.reset()


os.register_at_fork(
    before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_after_fork_in_child
)


# ---- the inside of a worker process: `python -m verifiers.worker MODULE SETTINGS PIPE` ----


class SoftDeadline(BaseException):
    """A job has used up its processor time; no `except Exception` of a library stops it."""


def _serve(module: Any) -> None:
    """Answers jobs by a module; when the pipe closes, `_read_jobs` ends the process."""
    pipe = Connection(int(sys.argv[3]))
    jobs: SimpleQueue[dict] = SimpleQueue()
    threading.Thread(target=_read_jobs, args=(pipe, jobs), daemon=True).start()
    signal.signal(signal.SIGPROF, _give_up)
    if module.MEMORY is not None:
        with suppress(ValueError, OSError):  # the system has no such limit, or already a lower one
            resource.setrlimit(resource.RLIMIT_AS, (module.MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    answer = module.prepare(**json.loads(sys.argv[2]))
    pipe.send_bytes(b'{"ready": true}')
    while True:
        job = jobs.get()
        # If a long loop in C keeps Python from running and no pool is left to kill this process, the system ends it.
        signal.setitimer(signal.ITIMER_VIRTUAL, 0 if job["hard"] is None else job["hard"] + 1)
        pipe.send_bytes(json.dumps(_reply(answer, job)).encode())


def _read_jobs(pipe: Connection, jobs: SimpleQueue[dict]) -> None:
    """Queues every job; ends the process when the pipe closes."""
    try:
        while True:
            jobs.put(pipe.recv())
    finally:
        os._exit(1)  # 0 would raise while a user's code is called: see `exit_is_error`


def _give_up(*_: object) -> None:
    """Ends the present job: the system calls this when its processor time is used up."""
    raise SoftDeadline


def _reply(answer: Callable[[dict], dict], job: dict) -> dict:
    """The answer to one job; whatever goes wrong is an answer too."""
    try:
        try:
            signal.setitimer(signal.ITIMER_PROF, job["soft"] or 0)
            return answer(job)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except SoftDeadline:
        return {"outcome": "timeout", "detail": f"not decided within {job['soft']:g} s"}
    except MemoryError:
        return {"outcome": "error", "detail": "needs more memory than a worker may have", "retire": True}
    except Exception as error:
        return {"outcome": "error", "detail": f"{type(error).__name__}: {str(error)[:200]}"}


if __name__ == "__main__":
    refusal: dict[str, str] = {}  # in place of the message that the worker is ready
    try:
        _serve(importlib.import_module(sys.argv[1]))
    except ImportError as error:
        package = (error.name or "").partition(".")[0].replace("_", "-")
        refusal = {"unavailable": f"{package} cannot be imported ({error}); run: pip install {package}"}
    except Exception as error:  # an error of `prepare`; an error of a job is an answer
        refusal = {"unavailable": f"{type(error).__name__}: {str(error)[:1000]}"}
    if refusal:
        Connection(int(sys.argv[3])).send_bytes(json.dumps(refusal).encode())
