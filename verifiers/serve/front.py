"""The side of a server that clients see: connections, the token, limits, metrics. What is asked, workers answer.

`Front` is an ASGI application without a framework, and `run` puts it behind uvicorn. A request is answered with what
was asked for, or with one sentence: 401 without the token, 404 and 405 for another address or method, 408 for a body
that is too slow, 413 for one that is too large, 422 for one that cannot be used, 503 where the server is too busy, the
time is up, or a worker died.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import signal
import socket
import sys
import time
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from verifiers.serve.workers import Answer, Question, Workers

if TYPE_CHECKING:
    import uvicorn

READ_SECONDS = 20.0  # in which a request must have arrived
IDLE_SECONDS = 75.0  # for which a connection may wait for its next request
HEAD_BYTES = 1 << 16  # of a request line and its headers
WAITING_BYTES = 1 << 28  # of all requests that are being answered
WAITING_REQUESTS = 10_000
TOKEN_VARIABLE = "SPG_SERVE_TOKEN"
LOOPBACK = ("localhost", "::1")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """What one request may have: the bytes of its body, and the seconds from its arrival to its answer."""

    body: int = 16 << 20
    seconds: float = 60.0


class Reply(NamedTuple):
    """What goes back to a client."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Handler(NamedTuple):
    """What answers a request: a function of its body, and the name of the address in metrics."""

    answer: Callable[[bytes], Awaitable[Reply]]
    label: str
    is_open: bool = False
    """Whether it is answered without the token."""


def error(status: int, text: str, *headers: tuple[bytes, bytes]) -> Reply:
    """A reply that is one sentence."""
    return Reply(status, json.dumps({"error": text}).encode() + b"\n", headers=headers)


CLOSE = (b"connection", b"close")  # what is left of a body that nobody reads is not worth waiting for
BASIC = (b"www-authenticate", b'Basic realm="spg-trainer", charset="UTF-8"')


class Metrics:
    """What `/metrics` shows."""

    def __init__(self, workers: Workers) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        made = {"registry": self.registry}
        self.requests = Counter("spg_requests", "Requests answered.", ["address", "status"], **made)
        self.verdicts = Counter("spg_verdicts", "Completions judged.", ["task", "reason"], **made)
        self.seconds = Histogram("spg_request_seconds", "From a request to its answer.", ["address"], **made)
        self.judged = cache(self.verdicts.labels)  # to find a label again is most of what counting costs
        self.answered = cache(self.requests.labels)
        self.taken = cache(self.seconds.labels)
        lost = Gauge("spg_workers_lost_total", "Worker processes that died and were replaced.", **made)
        lost.set_function(lambda: workers.lost)
        waiting = Gauge("spg_waiting_requests", "Requests that no worker has yet.", **made)
        waiting.set_function(lambda: workers.waiting)

    def count(self, verdicts: Mapping[str, Mapping[str, int]]) -> None:
        """Count what a worker judged."""
        for task, reasons in verdicts.items():
            for reason, number in reasons.items():
                self.judged(task, reason).inc(number)

    def text(self) -> bytes:
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


@dataclass
class Front(ABC):
    """An ASGI application over workers. A subclass says which addresses there are."""

    workers: Workers
    limits: Limits
    token: str = ""
    answering: int = 0  # messages of WebSockets that are being answered; uvicorn counts requests itself
    draining: bool = False  # after a signal, when new messages are refused
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.workers)

    @abstractmethod
    def handler(self, method: str, path: str, query: str) -> Handler | Reply:
        """What answers a request, or a refusal."""

    async def websocket(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a WebSocket connection; without more, it is refused."""
        await send(
            {"type": "websocket.close", "code": 1008, "reason": "No WebSocket is served at this address."}
        )

    async def ask(self, address: str, body: bytes) -> Answer:
        """What a worker answers, within the limits; counts the verdicts."""
        if self.workers.waiting >= WAITING_REQUESTS or self.workers.waiting_bytes + len(body) > WAITING_BYTES:
            text = b'{"error": "The server is too busy. Send this again later, or start it with more --workers."}\n'
            return Answer(503, text, {})
        try:
            async with asyncio.timeout(self.limits.seconds):
                answer = await self.workers.ask(Question(address, body))
        except TimeoutError:
            late = f"Not answered within {self.limits.seconds:g} s; send less at once, or start the server with a "
            return Answer(503, error(503, late + "longer --timeout or more --workers.").body, {})
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
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _websocket(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if not self._is_allowed(dict(scope["headers"])):
            await send({"type": "websocket.close", "code": 1008, "reason": "The token is missing or wrong."})
        else:
            await self.websocket(scope, receive, send)

    async def _http(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers = dict(scope["headers"])
        found = self.common(scope["method"], scope["path"]) or self.handler(
            scope["method"], scope["path"], scope["query_string"].decode("latin-1")
        )
        label = found.label if isinstance(found, Handler) else "other"
        is_open = isinstance(found, Handler) and found.is_open
        if not is_open and not self._is_allowed(headers):
            text = "The token is missing or wrong: send `Authorization: Bearer TOKEN`, or put it into the address, "
            reply = error(401, text + "http://:TOKEN@HOST:PORT.", CLOSE, BASIC)
        elif isinstance(found, Reply):
            reply = found._replace(headers=(*found.headers, CLOSE))
        else:
            body = await self._body(headers, receive)
            if body is None:  # the client is gone
                return
            if isinstance(body, Reply):
                reply = body
            else:
                try:
                    reply = await found.answer(body)
                except (
                    Exception
                ) as unexpected:  # a bug of ours: the log says where, the client gets a sentence
                    log(f"{scope['path']} failed", unexpected)
                    reply = error(500, "The server failed on this request; its log says more.")
        self.metrics.answered(label, reply.status).inc()
        self.metrics.taken(label).observe(time.perf_counter() - began)
        kind, size = reply.kind.encode(), str(len(reply.body)).encode()
        sent = [(b"content-type", kind), (b"content-length", size), *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": sent})
        await send({"type": "http.response.body", "body": reply.body})

    def _is_allowed(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request has the token, as `Bearer TOKEN` or as the password of HTTP's basic authentication."""
        if not self.token:
            return True
        scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"basic":
            with suppress(ValueError):
                value = b64decode(value).partition(b":")[2]
        return hmac.compare_digest(value, self.token.encode())  # takes as long for any value of this length

    def _too_large(self) -> Reply:
        most = f"The body is larger than {self.limits.body >> 20} MB"
        return error(
            413, f"{most}; send several requests, or start the server with a larger --max-body.", CLOSE
        )

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | Reply | None:
        """The body of a request, a refusal, or None if the client went away."""
        if headers.get(b"content-encoding", b"identity") != b"identity":
            return error(415, "The body must not be compressed.", CLOSE)
        length = headers.get(b"content-length", b"")
        # A body that is up to twice as large as it may be is read to its end and thrown away: a client that cannot send
        # all of it would see a broken connection in place of the answer.
        is_too_large = length.isdigit() and int(length[:20]) > self.limits.body
        try:
            async with asyncio.timeout(READ_SECONDS):
                parts, size = [], 0
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    size += len(part)
                    is_too_large |= size > self.limits.body
                    if is_too_large:
                        parts = []
                        if size > 2 * self.limits.body or not message.get("more_body"):
                            return self._too_large()
                        continue
                    parts.append(part)
                    if not message.get("more_body"):
                        return parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError:
            return error(408, f"The body did not arrive within {READ_SECONDS:g} s.", CLOSE)


def log(text: str, unexpected: BaseException | None = None) -> None:
    """Write a line to the server's log, standard error."""
    import logging

    logging.getLogger("verifiers.serve").error(text, exc_info=unexpected)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at this address; raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    return listening


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at `host`."""
    return host in LOOPBACK or host.startswith("127.")


async def run(front: Front, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Start the workers, serve until SIGTERM or SIGINT, answer what was accepted, and end. Raises `Unavailable`.

    ready: is called when requests are answered.
    """
    server = _server(front)
    loop = asyncio.get_running_loop()
    stopping = asyncio.create_task(_stop_at_signal(front, server, loop))
    starting = asyncio.create_task(front.workers.start())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            ready()
            await serving
    finally:
        starting.cancel()
        stopping.cancel()
        await front.workers.close()


async def _stop_at_signal(front: Front, server: uvicorn.Server, loop: asyncio.AbstractEventLoop) -> None:
    """Wait for a signal, then for what WebSockets are being answered, and let the server end. A second one hurries."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def heard() -> None:
        (hurry if stop.is_set() else stop).set()
        server.force_exit = hurry.is_set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard)
    await stop.wait()
    front.draining = True
    with suppress(TimeoutError):
        async with asyncio.timeout(front.limits.seconds):
            while front.answering and not hurry.is_set():
                await asyncio.sleep(0.01)
    server.should_exit = True


def _server(front: Front) -> uvicorn.Server:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Connection(HttpToolsProtocol):
        """Closes a connection on which a request begins and its headers do not end, in time or in size."""

        head_bytes = 0
        cut: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.cut = self.loop.call_later(READ_SECONDS, transport.close)

        def data_received(self, data: bytes) -> None:
            if self.cut is None and (self.cycle is None or self.cycle.response_complete):
                self.head_bytes = 0
                self.cut = self.loop.call_later(READ_SECONDS, self.transport.close)
            if self.cut is not None:
                self.head_bytes += len(data)
            super().data_received(data)
            if self.cut is not None and self.head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The headers of this request are too long.")

        def on_headers_complete(self) -> None:
            self._in_time()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._in_time()
            super().connection_lost(exc)

        def _in_time(self) -> None:
            if self.cut is not None:
                self.cut.cancel()
                self.cut = None

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self):  # type: ignore[no-untyped-def]
            yield  # `_stop_at_signal` has them

    config = uvicorn.Config(
        front,
        http=Connection,
        ws="websockets-sansio",
        ws_max_size=front.limits.body,
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_level="error",
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(IDLE_SECONDS),
        timeout_graceful_shutdown=int(front.limits.seconds) + 1,
    )
    return Server(config)


def serve(front: Front, listening: socket.socket, banner: str) -> None:
    """Serve until a signal; `banner` is written to standard error when requests are answered. Raises `Unavailable`."""

    def ready() -> None:
        sys.stderr.write(banner)
        sys.stderr.flush()

    with suppress(ImportError):
        import uvloop

        return uvloop.run(run(front, listening, ready))
    return asyncio.run(run(front, listening, ready))
