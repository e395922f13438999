"""The side of a server that clients see: connections, the token, limits, metrics. Workers make the answers.

uvicorn reads requests and asks a `Front`, an ASGI application. A request is answered with its result, or with a
sentence and a status:

- 401: the token is missing or wrong
- 404, 405: there is no such address, or it takes another method
- 408, 413, 415: the body is too slow, too large, or compressed
- 422: the body cannot be used
- 500: the server failed on the request
- 503: the server is too busy, the time is up, or a worker died
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from verifiers.serve.workers import Answer, Question, Workers

WAITING_BYTES = 1 << 28  # the most bytes of all requests that are being answered
READ_SECONDS = 20.0  # the time in which the body of a request must have arrived
WAITING_REQUESTS = 10_000  # the most requests that no worker has yet
TOKEN_VARIABLE = "SPG_SERVE_TOKEN"
LOOPBACK = ("localhost", "::1")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """The limits of a request: bytes of its body, and seconds from its arrival to its answer."""

    body: int = 16 << 20
    seconds: float = 60.0


class Reply(NamedTuple):
    """An answer to a client."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Handler(NamedTuple):
    """The handler of a request: a function of its body, and the name of the address in metrics."""

    answer: Callable[[bytes], Awaitable[Reply]]
    label: str
    is_open: bool = False
    """Whether a request is answered without the token."""


def error(status: int, text: str, *headers: tuple[bytes, bytes]) -> Reply:
    """A reply that is one sentence."""
    return Reply(status, json.dumps({"error": text}).encode() + b"\n", headers=headers)


CLOSE = (b"connection", b"close")
# Asks for a user name and a password, which is the token.
BASIC = (b"www-authenticate", b'Basic realm="spg-trainer", charset="UTF-8"')


class Metrics:
    """The metrics that `/metrics` shows."""

    def __init__(self, workers: Workers) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        shared = {"registry": self.registry}
        self.requests = Counter("spg_requests", "Requests answered.", ["address", "status"], **shared)
        self.verdicts = Counter("spg_verdicts", "Completions judged.", ["task", "reason"], **shared)
        self.seconds = Histogram(
            "spg_request_seconds", "From a request to its answer.", ["address"], **shared
        )
        # Functions from labels to what counts under them, cached since finding a label is most of the cost of counting.
        self.judged = cache(self.verdicts.labels)
        self.answered = cache(self.requests.labels)
        self.taken = cache(self.seconds.labels)
        lost = Gauge("spg_workers_lost_total", "Worker processes that died and were replaced.", **shared)
        lost.set_function(lambda: workers.lost)
        waiting = Gauge("spg_waiting_requests", "Requests that no worker has yet.", **shared)
        waiting.set_function(lambda: workers.waiting)

    def count(self, verdicts: Mapping[str, Mapping[str, int]]) -> None:
        """Counts a worker's verdicts, {task: {reason: how many}}."""
        for task, reasons in verdicts.items():
            for reason, number in reasons.items():
                self.judged(task, reason).inc(number)

    def text(self) -> bytes:
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


@dataclass
class Front(ABC):
    """The application of a server; its answers are made by workers. A subclass defines the addresses."""

    workers: Workers
    limits: Limits
    token: str = ""
    answering: int = 0  # messages of WebSockets that are being answered; uvicorn counts requests itself
    draining: bool = False  # true after a signal, when new messages are refused
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.workers)

    @abstractmethod
    def handler(self, method: str, path: str, query: str) -> Handler | Reply:
        """The handler of a request, or a refusal."""

    async def websocket(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answers a WebSocket connection; by default it is refused."""
        await send(
            {"type": "websocket.close", "code": 1008, "reason": "No WebSocket is served at this address."}
        )

    async def ask(self, address: str, body: bytes) -> Answer:
        """A worker's answer, within the limits; counts the verdicts in the answer."""
        if self.workers.waiting >= WAITING_REQUESTS or self.workers.waiting_bytes + len(body) > WAITING_BYTES:
            text = b'{"error": "The server is too busy. Send this again later, or start it with more --workers."}\n'
            return Answer(503, text, verdicts={})
        try:
            answer = await self.workers.ask(Question(address, body), self.limits.seconds)
        except TimeoutError:
            late = f"Not answered within {self.limits.seconds:g} s; send less at once, or start the server with a "
            return Answer(503, error(503, late + "longer --timeout or more --workers.").body, verdicts={})
        self.metrics.count(answer.verdicts)
        return answer

    def common(self, method: str, path: str) -> Handler | None:
        """The handler of an address that every server has: its health and its metrics."""
        if method == "GET" and path == "/health":
            return Handler(self._health, path, is_open=True)
        if method == "GET" and path == "/metrics":
            return Handler(self._metrics, path)
        return None

    async def _health(self, _: bytes) -> Reply:
        return Reply(200, b'{"status": "healthy"}\n')

    async def _metrics(self, _: bytes) -> Reply:
        return Reply(200, self.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answers a request, or a WebSocket connection that has the token; uvicorn calls this."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
            return
        await receive()  # websocket.connect
        if not self._is_allowed(dict(scope["headers"])):
            await send({"type": "websocket.close", "code": 1008, "reason": "The token is missing or wrong."})
        else:
            await self.websocket(scope, receive, send)

    async def _http(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answers a request; nobody is answered if the client leaves before its body has arrived."""
        began, path = time.perf_counter(), scope["path"]
        query, headers = scope["query_string"].decode("latin-1"), dict(scope["headers"])
        label, reply = self.admitted(scope["method"], path, query, headers)
        if isinstance(reply, Handler):
            body = await self._body(receive)
            if body is None:
                return
            reply = body if isinstance(body, Reply) else await self.answer(reply, path, body)
        self.count(label, reply.status, began)
        size = str(len(reply.body)).encode()
        head = [(b"content-type", reply.kind.encode()), *reply.headers, (b"content-length", size)]
        await send({"type": "http.response.start", "status": reply.status, "headers": head})
        await send({"type": "http.response.body", "body": reply.body})

    async def _body(self, receive: Receive) -> bytes | Reply | None:
        """The body of a request, or a refusal; None if the client is gone."""
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(READ_SECONDS):
                # A body that is too large, by up to a factor of two, is read to its end and thrown away: a client that
                # cannot send all of its body would see a broken connection in place of the answer.
                while more and size <= 2 * self.limits.body:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size, more = size + len(parts[-1]), message.get("more_body", False)
                    if size > self.limits.body:
                        parts.clear()
                        parts.append(b"")
        except TimeoutError:
            return error(408, f"The body did not arrive within {READ_SECONDS:g} s.", CLOSE)
        if size > self.limits.body:
            problem = f"The body is larger than {self.limits.body >> 20} MB"
            return error(
                413, f"{problem}; send several requests, or start the server with a larger --max-body.", CLOSE
            )
        return b"".join(parts)

    def admitted(
        self, method: str, path: str, query: str, headers: Mapping[bytes, bytes]
    ) -> tuple[str, Handler | Reply]:
        """(label, answer): the name of a request's address in metrics, and the request's handler or a refusal.

        A refusal closes the connection, so that the rest of the body need not be read.
        """
        found = self.common(method, path) or self.handler(method, path, query)
        if isinstance(found, Reply):
            label, is_open = "other", False  # without the token, no client learns which addresses there are
            found = found._replace(headers=(*found.headers, CLOSE))
        else:
            label, is_open = found.label, found.is_open
        if not is_open and not self._is_allowed(headers):
            text = "The token is missing or wrong: send `Authorization: Bearer TOKEN`, or put it into the address, "
            return label, error(401, text + "http://:TOKEN@HOST:PORT.", CLOSE, BASIC)
        if isinstance(found, Handler) and headers.get(b"content-encoding", b"identity") != b"identity":
            return label, error(415, "The body must not be compressed.", CLOSE)
        return label, found

    async def answer(self, handler: Handler, path: str, body: bytes) -> Reply:
        """The reply of a handler; if the handler raises, a reply that is one sentence."""
        try:
            return await handler.answer(body)
        except Exception as unexpected:  # a bug of ours: the log says where, the client gets a sentence
            log(f"{path} failed", unexpected)
            return error(500, "The server failed on this request; its log says more.")

    def count(self, label: str, status: int, began: float) -> None:
        """Counts an answer. began: when its request began, by `time.perf_counter`."""
        self.metrics.answered(label, status).inc()
        self.metrics.taken(label).observe(time.perf_counter() - began)

    def _is_allowed(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request has the token, as `Bearer TOKEN` or as the password of HTTP's basic authentication."""
        if not self.token:
            return True
        scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"basic":
            with suppress(ValueError):  # what is no base64 is compared as it stands
                value = b64decode(value).partition(b":")[2]
        return hmac.compare_digest(value, self.token.encode())  # takes as long for any value of this length


def log(text: str, unexpected: BaseException | None = None) -> None:
    """Writes a line to the server's log, standard error."""
    import logging

    logging.getLogger("verifiers.serve").error(text, exc_info=unexpected)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at `host`."""
    return host in LOOPBACK or host.startswith("127.")
