"""Requests that wait for a worker process, which takes several at once."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from verifiers.worker import Workers, WorkerUnavailable

MAX_BATCH = 32  # the most requests that a worker takes at once
START_SECONDS = 300.0  # within which a new worker must be ready
KILL_AFTER = 10.0  # seconds after the time limit of a batch at which a worker that has not answered is killed
MAX_BYTES = 1 << 28  # of all requests that are being answered


class Answer(NamedTuple):
    """An HTTP status and a JSON text; `verdicts` counts what was judged, {task: {reason: count}}."""

    status: int
    body: str
    verdicts: dict[str, dict[str, int]]


def refusal(status: int, text: str) -> Answer:
    """An answer that is one sentence."""
    return Answer(status, json.dumps({"error": text}) + "\n", {})


class Request(NamedTuple):
    """A request that waits. address, body: what the worker gets."""

    address: str
    body: bytes
    answer: Future[Answer]


class Queue:
    """The requests to `size` worker processes, whose answers are {"answers": [the fields of `Answer`, ...]}.

    module, settings: as in `verifiers.worker.Workers`; a job is {"requests": [(address, body), ...]}. seconds: from a
    request to its answer.
    """

    def __init__(self, module: str, settings: dict[str, Any], size: int, seconds: float) -> None:
        self.seconds = seconds
        self.pool = Workers(
            module, size=size, soft=None, hard=None, start=START_SECONDS, logs=True, settings=settings
        )
        self.threads = ThreadPoolExecutor(size, thread_name_prefix="verifiers-serve")  # each asks a worker
        self.waiting: SimpleQueue[Request | None] = SimpleQueue()  # None: the threads end
        self.bytes = 0  # of all requests without an answer
        self.is_ending = False  # whether new requests are refused

    def start(self) -> None:
        """Starts all workers and waits until they are ready; raises `WorkerUnavailable`."""
        nothing: dict[str, Any] = {"requests": []}
        for reply in self.threads.map(lambda _: self.pool.ask(nothing), range(self.pool.size)):
            if "answers" not in reply:
                raise WorkerUnavailable(f"A worker process cannot start: {reply['detail']}")
        for _ in range(self.pool.size):
            self.threads.submit(self._work)

    def close(self) -> None:
        """Ends all workers, without waiting for their unfinished work."""
        self.pool.close(for_good=True)
        self.waiting.put(None)
        self.threads.shutdown()

    async def ask(self, address: str, body: bytes) -> Answer:
        """The answer of a worker to a request, or status 503 if there is none within the limits."""
        if self.is_ending or self.bytes + len(body) > MAX_BYTES:
            text = "The server is too busy, or ends. Send this again later, or start it with more --workers."
            return refusal(503, text)
        request = Request(address, body, Future())
        self.bytes += len(body)
        self.waiting.put(request)
        try:
            async with asyncio.timeout(self.seconds):
                return await asyncio.wrap_future(request.answer)
        except TimeoutError:
            late = f"Not answered within {self.seconds:g} s; send less at once, or start the server with a "
            return refusal(503, late + "longer --timeout or more --workers.")
        finally:
            self.bytes -= len(body)

    def _work(self) -> None:
        """Has one worker answer what waits, batch after batch, until the queue is closed."""
        while None not in (batch := self._take_batch()):
            # Whoever gave up, because the time was up, has cancelled the future.
            batch = [request for request in batch if request.answer.set_running_or_notify_cancel()]
            job = {"requests": [(request.address, request.body) for request in batch]}
            reply: dict[str, Any] = {}
            with suppress(WorkerUnavailable):
                reply = self.pool.ask(job, time.monotonic() + self.seconds + KILL_AFTER)
            lost = refusal(503, "The worker process that judged this request died. Send it again.")
            for request, answer in zip(batch, reply.get("answers", [lost] * len(batch)), strict=True):
                request.answer.set_result(Answer(*answer))
        self.waiting.put(None)  # for the next thread

    def _take_batch(self) -> list[Any]:
        """The next request, once there is one, and a worker's share of those behind it."""
        batch = [self.waiting.get()]
        share = self.waiting.qsize() // self.pool.size
        with suppress(Empty):
            for _ in range(min(share, MAX_BATCH - 1)):
                batch.append(self.waiting.get_nowait())
        return batch
