"""Worker processes for an asyncio server: waiting requests go to a worker together, and a lost worker is replaced.

`Workers` asks. `main` answers in a child at the other end of a socket, by the function that `prepare(settings)` of a
module returns. The bodies of requests and answers pass through as bytes; nothing is pickled. `verifiers.worker` is
another kind of pool: each of its threads waits for one question, and its limits are seconds of processor time.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple

from verifiers.worker import environment

AHEAD = 2  # batches that a worker has at once, so that it never waits for the next one
BATCH_SECONDS = 0.2  # a batch has about as many requests as a worker answers in this time
FIRST_RATE = 1e6  # bytes a second, until a first batch has been measured
MAX_BATCH = 512  # requests
START_SECONDS = 300.0  # within which a new worker must be ready
SWITCH_SECONDS = 0.0005  # after which Python lets another thread of a worker run
OBJECTS_BETWEEN_COLLECTIONS = 50_000  # new objects of a worker between two searches for cycles
KILL_AFTER = 10.0  # seconds after the time limit of a batch at which a worker that has not answered is killed
_SIZE = struct.Struct("!Q")


class Question(NamedTuple):
    """A request as a worker gets it."""

    address: str
    body: bytes


class Answer(NamedTuple):
    """An HTTP status and a body; `verdicts` counts what was judged, {task: {reason: count}}."""

    status: int
    body: bytes
    verdicts: dict[str, dict[str, int]]


LOST = Answer(
    503, b'{"error": "The worker process that judged this request died. Send it again."}\n', verdicts={}
)


class Unavailable(Exception):
    """No worker can start here; the text says why and what would help."""


class _Job:
    """A question that waits for its answer; `order` is its number among all questions."""

    __slots__ = ("future", "order", "question")

    def __init__(self, order: int, question: Question, future: asyncio.Future[Answer]) -> None:
        self.order, self.question, self.future = order, question, future


class _Batch(NamedTuple):
    """Questions that a worker got together. size: bytes of their bodies. sent: when, by `time.monotonic`."""

    jobs: list[_Job]
    address: str
    size: int
    sent: float


class _Worker:
    """One child, the socket to it, and the batches that it has not answered yet."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process, self.reader, self.writer = process, reader, writer
        self.under_way: deque[_Batch] = deque()
        self.kill_timer: asyncio.TimerHandle | None = None
        self.answered = 0.0  # when it last answered, by `time.monotonic`

    def watch(self, seconds: float) -> None:
        """Kills the child unless it answers its first batch under way, if there is one, within `seconds` from now."""
        self.stop_watching()
        if self.under_way:
            self.kill_timer = asyncio.get_running_loop().call_later(seconds, self.kill)

    def stop_watching(self) -> None:
        if self.kill_timer is not None:
            self.kill_timer.cancel()
            self.kill_timer = None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()


class Workers:
    """`size` children that answer questions by `prepare(settings)` of `module`; all methods belong to one event loop.

    seconds: the time limit of a question, after which a worker must have answered it. settings: values that JSON has.
    """

    def __init__(self, module: str, settings: dict[str, Any], size: int, seconds: float) -> None:
        self.module, self.settings, self.size, self.seconds = module, settings, size, seconds
        self.lost = 0  # how many workers died, also while they were starting to replace another
        self.waiting_bytes = 0  # of all questions without an answer, also of those that workers have
        # {address: its questions that no worker has yet}; each address is answered in batches of its own.
        self._waiting: dict[str, deque[_Job]] = {}
        self._rates: dict[str, float] = {}  # {address: bytes of questions that a worker answers in a second}
        self._ready: list[_Worker] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._asked = 0
        self._closing = False

    async def start(self) -> None:
        """Starts all children and waits until they are ready; raises `Unavailable`."""
        starting = [asyncio.create_task(self._start_worker()) for _ in range(self.size)]
        try:
            workers = await asyncio.gather(*starting)
        except BaseException:
            for start in starting:
                start.cancel()
            raise
        self._tasks = [asyncio.create_task(self._keep_alive(worker)) for worker in workers]

    async def close(self) -> None:
        """Ends all children, without waiting for their unfinished work."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        for worker in self._ready:
            worker.writer.close()  # a child ends when its socket is closed
            worker.kill()
            await worker.process.wait()

    @property
    def waiting(self) -> int:
        """How many questions no worker has yet."""
        return sum(map(len, self._waiting.values()))

    async def ask(self, question: Question, seconds: float | None = None) -> Answer:
        """The answer to a question, or status 503 if its worker dies; raises TimeoutError after `seconds`, if given."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._asked += 1
        self._waiting.setdefault(question.address, deque()).append(_Job(self._asked, question, future))
        self.waiting_bytes += len(question.body)
        # A timer costs a fifth of `asyncio.timeout`.
        timer = None if seconds is None else loop.call_later(seconds, _give_up, future)
        self._dispatch()
        try:
            return await future
        finally:
            self.waiting_bytes -= len(question.body)
            if timer is not None:
                timer.cancel()

    def _dispatch(self) -> None:
        """Sends waiting questions to living workers that have fewer than AHEAD batches, the longest wait first."""
        while self._waiting:
            free = [
                worker
                for worker in self._ready
                if len(worker.under_way) < AHEAD and not worker.writer.is_closing()
            ]
            if not free:
                return
            address = min(self._waiting, key=lambda name: self._waiting[name][0].order)
            jobs = self._take_batch(address)
            if jobs:
                least_busy = min(free, key=lambda worker: len(worker.under_way))
                self._send(least_busy, address, jobs)

    def _take_batch(self, address: str) -> list[_Job]:
        """The next batch of an address: one question, and more until a worker has enough for BATCH_SECONDS.

        Questions whose askers have given up are left out, so that the batch may be empty.
        """
        waiting, jobs = self._waiting[address], []
        bytes_left = self._rates.get(address, FIRST_RATE) * BATCH_SECONDS
        while waiting and len(jobs) < MAX_BATCH and (not jobs or bytes_left >= len(waiting[0].question.body)):
            job = waiting.popleft()
            if not job.future.done():  # else the asker has given up
                bytes_left -= len(job.question.body)
                jobs.append(job)
        if not waiting:
            del self._waiting[address]
        return jobs

    def _send(self, worker: _Worker, address: str, jobs: list[_Job]) -> None:
        """Sends questions to a worker, as one batch."""
        bodies = [job.question.body for job in jobs]
        worker.under_way.append(_Batch(jobs, address, sum(map(len, bodies)), time.monotonic()))
        worker.writer.write(packed([address] * len(jobs), bodies))
        if len(worker.under_way) == 1:  # else `_receive` watches this batch once the one before is answered
            worker.watch(self.seconds + KILL_AFTER)

    async def _start_worker(self) -> _Worker:
        """A child that is ready; raises `Unavailable`."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                __name__,
                self.module,
                str(theirs.fileno()),
                json.dumps(self.settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment(),
                start_new_session=True,  # Ctrl-C in a terminal is for the server alone
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = _Worker(process, reader, writer)
        try:
            heads, _ = await asyncio.wait_for(_next_message(reader), START_SECONDS)
            reason = heads[0]  # why the child cannot answer; "" if it is ready
        except (TimeoutError, EOFError, OSError) as error:
            worker.kill()
            raise Unavailable("A worker process ended, or was not ready in time, when it started.") from error
        except BaseException:
            worker.kill()
            raise
        if reason:
            worker.kill()
            raise Unavailable(reason)
        self._ready.append(worker)
        return worker

    async def _keep_alive(self, worker: _Worker) -> None:
        """Takes the answers of a worker, and replaces it if it dies."""
        while not self._closing:
            self._dispatch()
            with suppress(EOFError, OSError):
                await self._receive(worker)
            self._ready.remove(worker)
            worker.stop_watching()
            worker.kill()
            worker.writer.close()
            self.lost += 1
            for batch in worker.under_way:
                _settle(batch, [LOST] * len(batch.jobs))
            worker.under_way.clear()
            await worker.process.wait()
            pause = 0.1
            while True:
                try:
                    worker = await self._start_worker()
                    break
                except (Unavailable, OSError) as error:
                    if isinstance(error, Unavailable):  # the new worker died before it was ready
                        self.lost += 1
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 5.0)

    async def _receive(self, worker: _Worker) -> None:
        """Takes answers until the child is gone, which raises an error."""
        while True:
            heads, bodies = await _next_message(worker.reader)
            batch = worker.under_way.popleft()
            worker.watch(self.seconds + KILL_AFTER)
            # A worker begins a batch when it has the batch and has answered the one before.
            began = max(batch.sent, worker.answered)
            worker.answered = time.monotonic()
            rate = batch.size / max(worker.answered - began, 1e-4)
            earlier = self._rates.get(batch.address)
            self._rates[batch.address] = rate if earlier is None else 0.8 * earlier + 0.2 * rate
            _settle(
                batch,
                [Answer(status, body, count) for (status, count), body in zip(heads, bodies, strict=True)],
            )
            self._dispatch()


def _give_up(future: asyncio.Future[Answer]) -> None:
    """Makes `Workers.ask` raise TimeoutError, unless the answer has come."""
    if not future.done():
        future.set_exception(TimeoutError())


def _settle(batch: _Batch, answers: Sequence[Answer]) -> None:
    """Gives the answers of a batch to those who asked."""
    for job, answer in zip(batch.jobs, answers, strict=True):
        if not job.future.done():
            job.future.set_result(answer)


def packed(heads: Sequence[Any], bodies: Sequence[bytes]) -> bytes:
    """A message: its size, the size of its head, the head (JSON: heads and the sizes of the bodies), the bodies.

    heads: for each question its address, or for each answer its status and counts of verdicts. The size of a message
    does not count the bytes of the size itself.
    """
    head = json.dumps([heads, [len(body) for body in bodies]]).encode()
    size = _SIZE.size + len(head) + sum(map(len, bodies))
    return b"".join([_SIZE.pack(size), _SIZE.pack(len(head)), head, *bodies])


def unpacked(message: bytes) -> tuple[list[Any], list[bytes]]:
    """(heads, bodies) of a message behind its size."""
    (head_size,) = _SIZE.unpack_from(message)
    start = _SIZE.size + head_size
    heads, sizes = json.loads(message[_SIZE.size : start])
    bodies = []
    for size in sizes:
        bodies.append(message[start : start + size])
        start += size
    return heads, bodies


async def _next_message(reader: asyncio.StreamReader) -> tuple[list[Any], list[bytes]]:
    """(heads, bodies) of the next message."""
    (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
    return unpacked(await reader.readexactly(size))


# ---- the inside of a worker process: `python -m verifiers.serve.workers MODULE SOCKET SETTINGS` ----


def main(module: str, descriptor: str, settings: str) -> None:
    """Answers batches until the socket closes, even in the middle of a batch."""
    connection = socket.socket(fileno=int(descriptor))
    batches: SimpleQueue[bytearray] = SimpleQueue()
    threading.Thread(target=_read, args=(connection, batches), daemon=True).start()
    answer_all: Callable[[list[Question]], list[Answer]]
    try:
        answer_all = importlib.import_module(module).prepare(json.loads(settings))
    except Exception as error:  # whatever it is, the server says it and ends
        reason = str(error) or type(error).__name__
        connection.sendall(packed([reason], [b""]))
        return
    # Objects of a request are hardly ever in cycles; at Python's default pace, looking for cycles takes a tenth of the
    # time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    no_reason = ""  # for not being able to answer: the worker is ready
    connection.sendall(packed([no_reason], [b""]))
    # Another thread reads the next batch meanwhile, and must not wait long until Python lets it run.
    sys.setswitchinterval(SWITCH_SECONDS)
    while True:
        addresses, bodies = unpacked(batches.get())
        questions = [Question(address, body) for address, body in zip(addresses, bodies, strict=True)]
        answers = answer_all(questions)
        heads = [(answer.status, answer.verdicts) for answer in answers]
        connection.sendall(packed(heads, [answer.body for answer in answers]))


def _read(connection: socket.socket, batches: SimpleQueue[bytearray]) -> None:
    """Queues every batch; ends the process when the socket is closed."""
    try:
        while True:
            (size,) = _SIZE.unpack(_read_bytes(connection, _SIZE.size))
            batches.put(_read_bytes(connection, size))
    finally:
        os._exit(1)  # 0 would raise while a user's code is called: see `exit_is_error`


def _read_bytes(connection: socket.socket, size: int) -> bytearray:
    """Reads `size` bytes; raises EOFError if the socket is closed before."""
    message = bytearray(size)
    left = memoryview(message)
    while left:  # in one call, unless a signal comes: each call has to wait for its turn among threads
        num_read = connection.recv_into(left, 0, socket.MSG_WAITALL)
        if not num_read:
            raise EOFError
        left = left[num_read:]
    return message


if __name__ == "__main__":
    main(*sys.argv[1:])
