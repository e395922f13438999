"""The inside of a worker process: `python worker.py MODULE PATHS` imports MODULE and calls its `main`, which serves.

Jobs come in on standard input and replies leave on standard output, each as one line of JSON that bytes may follow.
A worker ends by itself when its standard input ends, also in the middle of a job, so it outlives neither the
interpreter that started it nor a kill -9 of that one. Where code holds the interpreter so that nothing else
runs (a huge power in C), the processor-time limit of the system ends it. No signal handler is set.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

START_SECONDS = 120


class SoftDeadline(BaseException):
    """Raised inside a job that has used up its soft deadline; no `except Exception` of a library stops it."""


class Unavailable(Exception):
    """This worker can never answer; the text says what is missing and how to get it."""


def write_message(stream: int, message: dict) -> None:
    """Write a message to a file descriptor: a line of JSON, in which `payload` is the number of bytes after it."""
    payload = message.get("payload", b"")
    header = {**message, "payload": len(payload)} if "payload" in message else message
    data = memoryview(json.dumps(header).encode() + b"\n" + payload)
    while data:
        data = data[os.write(stream, data) :]


def limit(resource_name: str, amount: int | None) -> None:
    """Let the system cap a resource of this process, where it can: RLIMIT_AS (bytes) or RLIMIT_CPU (seconds).

    None: as high as it may be.
    """
    try:
        import resource

        kind = getattr(resource, resource_name)
        hard = resource.getrlimit(kind)[1]
        if amount is None or hard != resource.RLIM_INFINITY:
            amount = hard if amount is None else min(amount, hard)
        resource.setrlimit(kind, (amount, hard))
    except (ImportError, AttributeError, ValueError, OSError):
        return


def limit_processor(seconds: float | None) -> None:
    """End this process after so many more seconds of processor time; None: no limit."""
    limit("RLIMIT_CPU", None if seconds is None else int(time.process_time() + seconds) + 1)


class SoftTimer:
    """Raises `SoftDeadline` in the main thread of this worker when a job has run for too long.

    Too long is `soft` seconds of processor time, so that a busy machine does not change verdicts, or most of
    the hard deadline by the clock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._target = threading.get_ident()
        self._due: float | None = None  # on the clock; None between jobs
        self._last = self._cpu = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def start(self, soft: float, hard: float) -> None:
        with self._lock:
            now = time.monotonic()
            self._cpu, self._last, self._due = time.process_time() + soft, now + 0.9 * hard, now + soft
        self._wake.set()

    def stop(self) -> None:
        """End a job; nothing is raised from here on."""
        with self._lock:
            self._due = None
            self._raise(None)

    def _raise(self, error: type[BaseException] | None) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._target), None if error is None else ctypes.py_object(error)
        )

    def _watch(self) -> None:
        while True:
            with self._lock:
                due = self._due
                now = time.monotonic()
                if due is not None and now >= due:
                    left = min(self._cpu - time.process_time(), self._last - now)
                    self._due = due = now + left if left > 0 else None
                    if due is None:
                        self._raise(SoftDeadline)
            self._wake.wait(None if due is None else max(0.0, due - time.monotonic()))
            self._wake.clear()


def _read_jobs(source: int, jobs: SimpleQueue[dict]) -> None:
    """Queue every job that comes from a file descriptor; end the process where they end."""
    try:
        stream = os.fdopen(source, "rb")
        while line := stream.readline():
            job = json.loads(line)
            if "payload" in job:
                job["payload"] = stream.read(job["payload"])
            jobs.put(job)
    finally:
        os._exit(0)


def _reply(timer: SoftTimer, answer: Callable[[dict], dict], job: dict) -> dict:
    """The answer to one job; whatever goes wrong is an answer too."""
    try:
        try:
            if job["soft"] is not None:
                timer.start(job["soft"], job["hard"])
            return answer(job)
        finally:
            timer.stop()
    except SoftDeadline:
        return {"outcome": "timeout", "detail": f"not decided within {job['soft']:g} s"}
    except MemoryError:
        return {"outcome": "error", "detail": "needs more memory than a worker may have", "retire": True}
    except RecursionError:
        return {"outcome": "error", "detail": "nested too deeply"}
    except Exception as error:
        return {"outcome": "error", "detail": f"{type(error).__name__}: {str(error)[:200]}"}


def _send(stream: int, message: dict) -> None:
    """Write a message; end the process where nobody listens any more, also while it starts."""
    try:
        write_message(stream, message)
    except OSError:
        sys.exit(0)


def serve(prepare: Callable[[], Callable[[dict], dict]], memory: int | None) -> None:
    """Answer jobs until standard input ends.

    `prepare` does the imports, then returns the function that answers a job; it raises `Unavailable`. `memory`: bytes
    of address space this process may have, None for no limit.
    """
    replies, source = os.dup(1), os.dup(0)
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 1)  # what a library prints must not look like a reply
    os.dup2(silence, 0)
    jobs: SimpleQueue[dict] = SimpleQueue()
    threading.Thread(target=_read_jobs, args=(source, jobs), daemon=True).start()
    limit_processor(START_SECONDS)
    if memory is not None:
        limit("RLIMIT_AS", memory)
    try:
        answer = prepare()
    except Unavailable as error:
        _send(replies, {"ready": False, "detail": str(error)})
        return
    _send(replies, {"ready": True})
    timer = SoftTimer()
    while True:
        job = jobs.get()
        limit_processor(job["hard"])
        reply = _reply(timer, answer, job)
        _send(replies, {**reply, "id": job["id"]})
        if reply.get("retire"):
            sys.exit(0)


def _start(module: str, paths: list[str]) -> None:
    """Run `main` of `module`, which may be beside this package or anywhere the starting process imports from.

    This package is loaded from the folder of this file, whatever else is named `verifiers` on the path.
    """
    folder = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        "verifiers", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["verifiers"] = package
    sys.path.extend(path for path in paths if path and path not in sys.path)
    spec.loader.exec_module(package)
    importlib.import_module(module).main()


if __name__ == "__main__":
    _start(sys.argv[1], json.loads(sys.argv[2]))
