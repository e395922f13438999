"""Requests that wait for a worker process: those for one address go to a worker together."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from verifiers.worker import Workers, WorkerUnavailable

BATCH_SECONDS = 0.2  # a batch has about as many requests as a worker answers in this time
FIRST_BATCH = 200_000.0  # the bytes of requests in a batch, until one has been measured
MAX_BATCH = 512  # requests
START_SECONDS = 300.0  # within which a new worker must be ready
KILL_AFTER = 10.0  # seconds after the time limit of a batch at which a worker that has not answered is killed
WAITING_BYTES = 1 << 28  # the most bytes of all requests that are being answered
WAITING_REQUESTS = 10_000  # the most requests that no worker has yet


class Answer(NamedTuple):
    """An HTTP status and a JSON text; `verdicts` counts what was judged, {task: {reason: count}}."""

    status: int
    body: str
    verdicts: dict[str, dict[str, int]]


def refusal(status: int, text: str) -> Answer:
    """An answer that is one sentence."""
    return Answer(status, json.dumps({"error": text}) + "\n", {})


class Queue:
    """The requests to `size` worker processes, whose answers are {"answers": [the fields of `Answer`, ...]}.

    module, settings: as in `verifiers.worker.Workers`; a job is {"address": ..., "bodies": [bytes, ...]}. seconds: from
    a request to its answer. All coroutines belong to one event loop.
    """

    def __init__(self, module: str, settings: dict[str, Any], size: int, seconds: float) -> None:
        self.seconds = seconds
        self.pool = Workers(
            module, size=size, soft=None, hard=None, start=START_SECONDS, logs=True, settings=settings
        )
        self.threads = ThreadPoolExecutor(size, thread_name_prefix="verifiers-serve")  # each asks a worker
        self.idle = size  # how many of these ask nothing
        self.bytes = 0  # of all requests without an answer
        # {address: its requests that no worker has yet, each a body and the future of its answer}
        self._waiting: dict[str, deque[tuple[bytes, asyncio.Future[Answer]]]] = {}
        self._batch_bytes: dict[str, float] = {}  # {address: the bytes of requests in a batch}
        self._tasks: set[asyncio.Task[None]] = set()  # which asyncio itself would forget

    def start(self) -> None:
        """Starts all workers and waits until they are ready; raises `WorkerUnavailable`."""
        first: dict[str, Any] = {"address": "", "bodies": []}
        for reply in self.threads.map(lambda _: self.pool.ask(first), range(self.pool.size)):
            if "answers" not in reply:
                raise WorkerUnavailable(f"A worker process cannot start: {reply['detail']}")

    def close(self) -> None:
        """Ends all workers, without waiting for their unfinished work."""
        self.pool.close(for_good=True)
        self.threads.shutdown()

    @property
    def waiting(self) -> int:
        """How many requests no worker has yet."""
        return sum(map(len, self._waiting.values()))

    async def ask(self, address: str, body: bytes) -> Answer:
        """The answer of a worker to a request, or status 503 if there is none within the limits."""
        if self.waiting >= WAITING_REQUESTS or self.bytes + len(body) > WAITING_BYTES:
            text = "The server is too busy. Send this again later, or start it with more --workers."
            return refusal(503, text)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, deque()).append((body, future))
        self.bytes += len(body)
        if self.idle:
            self.idle -= 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(self.seconds):
                return await future
        except TimeoutError:
            late = f"Not answered within {self.seconds:g} s; send less at once, or start the server with a "
            return refusal(503, late + "longer --timeout or more --workers.")
        finally:
            self.bytes -= len(body)

    async def _work(self) -> None:
        """Has one worker answer what waits, batch after batch, until nothing waits."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                address = next(iter(self._waiting))
                if not (batch := self._take_batch(address)):
                    continue
                bodies, began = [body for body, _ in batch], time.monotonic()
                job, until = {"address": address, "bodies": bodies}, began + self.seconds + KILL_AFTER
                reply: dict[str, Any] = {}
                with suppress(WorkerUnavailable):
                    reply = await loop.run_in_executor(self.threads, partial(self.pool.ask, job, until))
                answered = BATCH_SECONDS * sum(map(len, bodies)) / max(time.monotonic() - began, 1e-3)
                self._batch_bytes[address] = (
                    0.8 * self._batch_bytes.get(address, FIRST_BATCH) + 0.2 * answered
                )
                lost = refusal(503, "The worker process that judged this request died. Send it again.")
                answers = reply.get("answers", [lost] * len(batch))
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(Answer(*answer))
        finally:
            self.idle += 1

    def _take_batch(self, address: str) -> list[tuple[bytes, asyncio.Future[Answer]]]:
        """The next batch of an address: one request, and more up to its bytes; [] if all have given up."""
        waiting, batch = self._waiting.pop(address), []
        bytes_left = self._batch_bytes.get(address, FIRST_BATCH)
        while waiting and len(batch) < MAX_BATCH and (not batch or bytes_left >= len(waiting[0][0])):
            body, future = waiting.popleft()
            if not future.done():  # else its client has given up, or its time was up
                bytes_left -= len(body)
                batch.append((body, future))
        if waiting:
            self._waiting[address] = waiting  # behind the other addresses, whose turn is next
        return batch
