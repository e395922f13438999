"""Processes that can be killed: a small pool of workers that answer jobs, each within a deadline.

Workers are plain `subprocess` children, started when first needed; what runs inside them is `verifiers.worker`. Any
thread may ask; a forked child closes what it inherited and starts workers of its own. No signal handler is set and
nothing assumes the main thread.

Our own pool, because those over `multiprocessing` (pebble 5.2 was measured) start none from a daemonic process, run
a script without a `__main__` guard again, and leave a busy child running when the parent is killed.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

from verifiers.worker import write_message

START_SECONDS = 60.0
_KILL = 0.9  # of the hard deadline: what is left is for ending a worker and starting the next
QUEUE_SECONDS = 60.0
_changing = threading.RLock()  # held while processes and pipes change hands, and across every fork
_pools: weakref.WeakSet[Workers] = weakref.WeakSet()


class WorkerDied(Exception):
    """The process ended before it answered; the text says how."""


class DeadlinePassed(Exception):
    """No answer before the deadline."""


class NotReady(Exception):
    """The worker was still starting at the deadline of the question; it keeps starting."""


class WorkerUnavailable(Exception):
    """No worker of this kind can run here; the text says what is missing."""


class _Worker:
    """One child process and the two pipes to it."""

    def __init__(self, module: str, quiet: bool) -> None:
        script = str(Path(__file__).resolve().with_name("worker.py"))
        self._process = subprocess.Popen(
            [sys.executable, "-P", script, module, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in a terminal is for us alone
        )
        self.pid = self._process.pid
        self._received = bytearray()
        self._jobs = 0
        self._started = time.monotonic()
        self.hello: dict[str, Any] | None = None
        self._poll = select.poll()
        self._poll.register(self._process.stdout, select.POLLIN)

    def wait_until_ready(self, deadline: float) -> None:
        """Read the first message: the worker is ready, or it never will be and why."""
        if self.hello is None:
            limit = self._started + START_SECONDS
            try:
                self.hello = self._read(min(limit, deadline))
            except DeadlinePassed:
                if deadline < limit:
                    raise NotReady from None
                raise
        if not self.hello["ready"]:
            raise WorkerUnavailable(self.hello["detail"])

    def ask(self, job: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Send a job and wait for its reply until `deadline` (on the monotonic clock)."""
        self._jobs += 1
        try:
            write_message(self._process.stdin.fileno(), {**job, "id": self._jobs})
        except (OSError, ValueError) as error:
            raise WorkerDied(f"the worker was gone ({error})") from error
        reply = self._read(deadline)
        if reply.get("id") != self._jobs:
            raise WorkerDied("the worker answered another question")
        return reply

    def _read(self, deadline: float) -> dict[str, Any]:
        while (end := self._received.find(b"\n")) < 0:
            self._receive(deadline)
        try:
            reply = json.loads(self._received[:end])
        except ValueError as error:
            raise WorkerDied("the worker wrote something that is no reply") from error
        del self._received[: end + 1]
        if "payload" in reply:
            size = reply["payload"]
            while len(self._received) < size:
                self._receive(deadline)
            reply["payload"] = bytes(self._received[:size])
            del self._received[:size]
        return reply

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not self._poll.poll(None if left == math.inf else left * 1000 + 1):
            raise DeadlinePassed
        try:
            data = os.read(self._process.stdout.fileno(), 1 << 20)
        except (OSError, ValueError):  # another thread closed the pool
            data = b""
        if not data:
            raise WorkerDied(f"the worker ended ({self._how()})")
        self._received += data

    def _how(self) -> str:
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "still closing"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        self._process.kill()
        self._close_pipes()
        try:
            self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            return  # it waits for a disk or frees much memory; `subprocess` collects it later

    def forget(self) -> None:
        """Let go of the parent's process in a forked child: close the copies of its pipes, nothing more."""
        self._process.returncode = 0
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()


class Workers:
    """Up to `size` processes that run `main()` of a module, shared by all threads of this process.

    `soft` and `hard` are the deadlines of a job in seconds, None for no deadline: at `soft` (of processor time) the
    worker itself is asked to give up; the reply comes within `hard`, for which a busy worker is killed shortly
    before and a new one started. `quiet` discards what workers write to standard error.
    """

    def __init__(
        self,
        module: str,
        *,
        size: int,
        soft: float | None = 1.0,
        hard: float | None = 3.0,
        quiet: bool = True,
    ) -> None:
        self.module, self.size, self.soft, self.hard, self.quiet = module, size, soft, hard, quiet
        self.reset()
        _pools.add(self)

    def reset(self) -> None:
        """Begin without workers; in a forked child those of the parent are left to it."""
        for worker in getattr(self, "_alive", ()):
            worker.forget()
        self._alive: set[_Worker] = set()
        self._unavailable = ""
        self._free: LifoQueue[_Worker | None] = LifoQueue()  # the last one used first: the rest never start
        for _ in range(self.size):
            self._free.put(None)

    def _start(self) -> _Worker:
        if not hasattr(select, "poll"):
            raise WorkerUnavailable("workers need select.poll, which this system does not have")
        try:
            with _changing:
                if self._unavailable:
                    raise WorkerUnavailable(self._unavailable)
                worker = _Worker(self.module, self.quiet)
                self._alive.add(worker)
                return worker
        except OSError as error:
            raise WorkerUnavailable(f"no process can be started: {error}") from error

    def _end(self, worker: _Worker) -> None:
        with _changing:
            self._alive.discard(worker)
            worker.kill()

    def ask(self, job: dict[str, Any], patient: bool = False) -> dict[str, Any]:
        """The reply to `job`, with `outcome` and `detail`; "timeout" or "error" where none came.

        A job and its reply are JSON, but for `payload`, which is bytes. The hard deadline runs from the moment a
        worker is free for this job, the start of a process included; one that is still starting by then goes on
        for the next question. For a `patient` caller it runs only while a worker that is ready works on the job,
        so that a busy machine decides no verdict. A worker that dies is replaced, and its job asked once more
        within the time that is left, because what killed it may have come from outside.

        Raises:
            WorkerUnavailable: no worker can run here.
        """
        if self._unavailable:
            raise WorkerUnavailable(self._unavailable)
        free = self._free
        worker = self._take()
        left = math.inf if self.hard is None else _KILL * self.hard
        again, asked = False, 0.0
        end = math.inf if patient else time.monotonic() + left
        try:
            while True:
                if worker not in self._alive:
                    worker = None
                    worker = self._start()
                try:
                    worker.wait_until_ready(end)
                    asked = time.monotonic()
                    due = min(asked + left, end)
                    hard = None if due == math.inf else due - asked
                    reply = worker.ask({**job, "soft": self.soft, "hard": hard}, due)
                    if reply.get("retire"):
                        worker = self._replace(worker)
                    return reply
                except NotReady:
                    return {"outcome": "timeout", "detail": f"no worker was ready within {self.hard:g} s"}
                except DeadlinePassed:
                    worker = self._replace(worker)
                    seconds = self.hard if asked else START_SECONDS
                    return {"outcome": "timeout", "detail": f"killed after {seconds:g} s"}
                except WorkerDied as error:
                    worker = self._replace(worker)
                    if again:
                        return {"outcome": "error", "detail": f"{error}, twice"}
                    left -= time.monotonic() - asked if asked else 0.0
                    again, asked = True, 0.0
        except BaseException as error:  # Ctrl-C too: a worker that still owes an answer is of no more use
            if worker is not None:
                self._end(worker)
                worker = None
                if isinstance(error, WorkerUnavailable):
                    self._unavailable = str(error)  # the next one would end the same way
            raise
        finally:
            free.put(worker)

    def _take(self) -> _Worker | None:
        """A worker that is free, or None for one that is still to be started."""
        try:
            return self._free.get(timeout=QUEUE_SECONDS)
        except Empty:  # all busy for long, or Ctrl-C hit a thread just as it took one: do not wait for ever
            return None

    def _replace(self, worker: _Worker) -> _Worker | None:
        """Kill a worker and let the next one start right now, so that the next job waits less."""
        self._end(worker)
        try:
            return self._start()
        except WorkerUnavailable:
            return None

    def pids(self) -> list[int]:
        """The processes that run for this process now."""
        return [worker.pid for worker in list(self._alive)]

    def close(self, for_good: bool = False) -> None:
        """End all workers; the next question starts new ones, or is refused where it is `for_good`."""
        with _changing:
            self._unavailable = "the pool was closed" if for_good else ""
            for worker in list(self._alive):
                self._end(worker)


def _after_fork_in_child() -> None:
    global _changing
    _changing = threading.RLock()
    for pool in list(_pools):
        pool.reset()


def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _changing.acquire(),
        after_in_parent=lambda: _changing.release(),
        after_in_child=_after_fork_in_child,
    )
