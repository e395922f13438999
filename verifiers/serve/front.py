"""What clients see of a server: addresses, the token, limits and metrics. Workers make the answers.

A request is answered with its result, or with {"error": one sentence} and a status:

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
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from verifiers.serve.queue import Queue
from verifiers.serve.request_forms import Refused

READ_SECONDS = 20.0  # the time in which the body of a request must have arrived
# The connection is closed behind these, so that the rest of the body need not be read.
CLOSING = (401, 404, 405, 408, 413, 415)


class Front:
    """An ASGI application: the addresses of a server, and what they share.

    routes: the addresses, besides /health and /metrics. nothing: a function from the path of another address to what
    404 says. open_paths: those that need no token. max_body: bytes.
    """

    def __init__(
        self,
        queue: Queue,
        token: str,
        max_body: int,
        routes: Sequence[BaseRoute],
        nothing: Callable[[str], str],
        open_paths: Sequence[str] = ("/health",),
    ) -> None:
        self.queue, self.token, self.max_body = queue, token, max_body
        self.nothing, self.open_paths = nothing, open_paths
        common = [Route("/health", self.health), Route("/metrics", self.show_metrics)]
        handlers: dict[Any, Any] = {
            HTTPException: self._refused,
            Refused: self._refused,
            ClientDisconnect: self._left,
            Exception: self._failed,
        }
        self.addresses = Starlette(routes=[*common, *routes], exception_handlers=handlers)
        self.addresses.router.redirect_slashes = False
        self.metrics = CollectorRegistry()
        shared: dict[str, Any] = {"registry": self.metrics}
        requests = Counter("spg_requests", "Requests answered.", ["address", "status"], **shared)
        verdicts = Counter("spg_verdicts", "Completions judged.", ["task", "reason"], **shared)
        taken = Histogram("spg_request_seconds", "From a request to its answer.", ["address"], **shared)
        # Labels are cached, since finding one is most of the cost of counting.
        self.label_request, self.label_taken = cache(requests.labels), cache(taken.labels)
        self.label_verdict = cache(verdicts.labels)
        lost = Gauge("spg_workers_lost_total", "Worker processes that died and were replaced.", **shared)
        lost.set_function(lambda: queue.pool.lost)
        waiting = Gauge("spg_waiting_requests", "Requests that no worker has yet.", **shared)
        waiting.set_function(lambda: queue.waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or takes a WebSocket connection; only with the token."""
        began = time.perf_counter()
        is_allowed = self._is_allowed(dict(scope["headers"])) or scope["path"] in self.open_paths
        if scope["type"] == "websocket":
            closed = WebSocketClose(1008, "The token is missing or wrong.")
            await (self.addresses if is_allowed else closed)(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The name of an address is that of its function: clients may write any name behind /verify/.
                label = getattr(scope.get("endpoint"), "__name__", "other")
                self.count(label, message["status"], began)
            await send(message)

        if is_allowed:
            await self.addresses(scope, receive, counted)
            return
        text = (
            "The token is missing or wrong: send `Authorization: Bearer TOKEN`, or put it into the address, "
        )
        # Browsers then ask for a user name and a password, which is the token.
        basic = {"www-authenticate": 'Basic realm="spg-trainer", charset="UTF-8"'}
        await _error(401, text + "http://:TOKEN@HOST:PORT.", basic)(scope, receive, counted)

    def count(self, address: str, status: int, began: float) -> None:
        """Counts an answer. began: when its request began, by `time.perf_counter`."""
        self.label_request(address, status).inc()
        self.label_taken(address).observe(time.perf_counter() - began)

    def _is_allowed(self, headers: dict[bytes, bytes]) -> bool:
        """Whether a request has the token, as `Bearer TOKEN` or as the password of HTTP's basic authentication."""
        if not self.token:
            return True
        scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"basic":
            with suppress(ValueError):  # what is no base64 is compared as it stands
                value = b64decode(value).partition(b":")[2]
        return hmac.compare_digest(value, self.token.encode())  # takes as long for any value of this length

    async def body(self, request: Request) -> bytes:
        """The body of a request, within the limits; raises HTTPException."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, "The body must not be compressed.")
        parts, size = [], 0
        try:
            async with asyncio.timeout(READ_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size <= self.max_body:
                        parts.append(part)
                    # A body that is too large, by up to a factor of two, is read to its end: a client that cannot send
                    # all of its body would see a broken connection in place of the answer.
                    elif size > 2 * self.max_body:
                        break
        except TimeoutError as error:
            raise HTTPException(408, f"The body did not arrive within {READ_SECONDS:g} s.") from error
        if size > self.max_body:
            advice = "send several requests, or start the server with a larger --max-body."
            raise HTTPException(413, f"The body is larger than {self.max_body >> 20} MB; {advice}")
        return b"".join(parts)

    async def answer(self, address: str, body: bytes) -> Response:
        """A worker's answer; counts the verdicts in it."""
        answer = await self.queue.ask(address, body)
        for task, reasons in answer.verdicts.items():
            for reason, number in reasons.items():
                self.label_verdict(task, reason).inc(number)
        return Response(answer.body, answer.status, media_type="application/json")

    async def finish(self) -> None:
        """Is awaited after a signal, before connections are closed."""

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "healthy"})

    async def show_metrics(self, _: Request) -> Response:
        return Response(generate_latest(self.metrics), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _refused(self, request: Request, error: Any) -> Response:
        """The sentence of an `HTTPException` or a `Refused`."""
        text = error.detail
        if error.status_code == 405:
            text = f"This address takes {error.headers['Allow'].removesuffix(', HEAD')}."
        if error.status_code == 404 and "endpoint" not in request.scope:
            text = self.nothing(request.url.path)
        return _error(error.status_code, text, dict(error.headers or {}))

    async def _left(self, *_: Any) -> Response:
        """What is counted for a client that left before its body had arrived."""
        return Response(status_code=499)

    async def _failed(self, *_: Any) -> Response:
        """The sentence for a bug of ours, which uvicorn writes to the log."""
        return _error(500, "The server failed on this request; its log says more.")


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """A response that is one sentence."""
    close = {"connection": "close"} if status in CLOSING else {}
    return JSONResponse({"error": text}, status, {**(headers or {}), **close})
