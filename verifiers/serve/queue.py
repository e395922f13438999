"""Requests that wait for a worker process, which takes several at once."""

import asyncio
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from verifiers.worker import Workers, WorkerUnavailable

MAX_BATCH = 32  # the most requests that a worker takes at once
KILL_AFTER = 10.0  # seconds after the time limit of a batch at which a worker that has not answered is killed
MAX_BYTES = 1 << 28  # of all requests that are being answered


class Answer(NamedTuple):
    """An HTTP status and a JSON text, or the sentence that says why there is none, if the status is not 200.

    `verdicts` counts what was judged: (task, reason, how many).
    """

    status: int
    body: str
    verdicts: tuple[tuple[str, str, int], ...] = ()


class Queue:
    """The requests to `size` worker processes, whose answers are {"answers": [the fields of `Answer`, ...]}.

    module, settings: as in `verifiers.worker.Workers`; a job is {"requests": [(address, body), ...]}. seconds: from a
    request to its answer.
    """

    def __init__(self, module: str, settings: dict[str, Any], size: int, seconds: float) -> None:
        self.seconds = seconds
        # A new worker must be ready within 300 s.
        self.pool = Workers(module, size=size, soft=None, hard=None, start=300, logs=True, settings=settings)
        self.threads = ThreadPoolExecutor(size, thread_name_prefix="verifiers-serve")  # each asks a worker
        # What waits: a request as the worker gets it, and its answer.
        self.waiting: SimpleQueue[tuple[tuple[str, bytes], Future[Answer]]] = SimpleQueue()
        self.bytes = 0  # of all requests without an answer
        self.is_ending = False  # whether new requests are refused

    def start(self) -> None:
        """Starts all workers and waits until they are ready; raises `WorkerUnavailable`."""
        for reply in self.threads.map(lambda _: self.pool.ask({"requests": []}), range(self.pool.size)):
            if "answers" not in reply:
                raise WorkerUnavailable(f"A worker process cannot start: {reply['detail']}")

    def close(self) -> None:
        """Ends all workers, without waiting for their unfinished work."""
        self.pool.close(for_good=True)
        self.threads.shutdown(cancel_futures=True)

    async def ask(self, address: str, body: bytes) -> Answer:
        """The answer of a worker to a request, or status 503 if there is none within the limits."""
        if self.is_ending or self.bytes + len(body) > MAX_BYTES:
            return Answer(503, "The server is too busy, or ends. Send this later, or start more --workers.")
        answer: Future[Answer] = Future()
        self.bytes += len(body)
        self.waiting.put(((address, body), answer))
        self.threads.submit(self._answer_batch)
        try:
            async with asyncio.timeout(self.seconds):
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            late = f"Not answered within {self.seconds:g} s; send less at once, or start the server with a "
            return Answer(503, late + "longer --timeout or more --workers.")
        finally:
            self.bytes -= len(body)

    def _answer_batch(self) -> None:
        """Has one worker answer its share of what waits; does nothing if earlier calls have taken everything."""
        batch = []
        with suppress(Empty):
            for _ in range(min(math.ceil(self.waiting.qsize() / self.pool.size), MAX_BATCH)):
                batch.append(self.waiting.get_nowait())
        # Whoever gave up, because the time was up, has cancelled the answer.
        batch = [(request, answer) for request, answer in batch if answer.set_running_or_notify_cancel()]
        if not batch:
            return
        job = {"requests": [request for request, _ in batch]}
        reply: dict[str, Any] = {}
        with suppress(WorkerUnavailable):
            reply = self.pool.ask(job, time.monotonic() + self.seconds + KILL_AFTER)
        lost = Answer(503, "The worker process that judged this request died. Send it again.")
        for (_, answer), fields in zip(batch, reply.get("answers", [lost] * len(batch)), strict=True):
            answer.set_result(Answer(*fields))
