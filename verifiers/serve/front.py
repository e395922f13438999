"""What clients see of a server: addresses, the token, limits and metrics. Workers make the answers.

A request is answered with its result, or with {"error": one sentence} and a status:

- 401: the token is missing or wrong
- 404, 405: there is no such address, or it takes another method
- 408, 413: the body is too slow or too large
- 422: the body cannot be used
- 500: the server failed on the request
- 503: the server is too busy, the time is up, or a worker died
"""

import asyncio
import hmac
import json
import time
from base64 import b64decode
from contextlib import suppress
from functools import cache
from typing import Any

import uvicorn
from prometheus_client import Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from verifiers.errors import shown
from verifiers.serve.judging import FORMS
from verifiers.serve.queue import Queue

MAX_BODY = 1 << 26  # bytes
NO_TOKEN = "The token is missing or wrong: send `Authorization: Bearer TOKEN`, or http://:TOKEN@HOST:PORT."
# Labels are cached, since finding one is most of the cost of counting.
REQUESTS = cache(Counter("spg_requests", "Requests answered.", ["address", "status"]).labels)
SECONDS = cache(Histogram("spg_request_seconds", "From a request to its answer.", ["address"]).labels)
VERDICTS = cache(Counter("spg_verdicts", "Completions judged.", ["task", "reason"]).labels)
WORKERS_LOST = Gauge("spg_workers_lost_total", "Worker processes that died and were replaced.")
WAITING = Gauge("spg_waiting_requests", "Requests that no worker has yet.")


class Failed(HTTPException):
    """A worker could not answer."""


class Front(Starlette):
    """An ASGI application: the addresses of a server, and what they share.

    token: which all requests need but those for health; "" = none.
    """

    def __init__(self, queue: Queue, token: str) -> None:
        self.queue, self.token = queue, token
        routes = [Route("/health", self.health), Route("/metrics", self.show_metrics)]
        super().__init__(routes=routes, exception_handlers={HTTPException: self._refused})
        WORKERS_LOST.set_function(lambda: queue.pool.lost)
        WAITING.set_function(queue.waiting.qsize)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or takes a WebSocket connection; only with the token."""
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The name of an address is that of its function: clients may write any name behind /verify/.
                self.count(getattr(scope.get("endpoint"), "__name__", "other"), message["status"], began)
            await send(message)

        is_open = scope.get("method") == "GET" and scope["path"].endswith("/health")
        if is_open or self._has_token(dict(scope["headers"])):
            await super().__call__(scope, receive, counted)
        elif scope["type"] == "websocket":
            await WebSocketClose(1008, NO_TOKEN)(scope, receive, send)
        else:
            # Browsers then ask for a user name and a password, which is the token.
            basic = {"www-authenticate": 'Basic realm="spg-trainer", charset="UTF-8"'}
            await _refusal(401, NO_TOKEN, basic)(scope, receive, counted)

    def count(self, address: str, status: int, began: float) -> None:
        """Counts an answer. began: when its request began, by `time.perf_counter`."""
        REQUESTS(address, status).inc()
        SECONDS(address).observe(time.perf_counter() - began)

    def _has_token(self, headers: dict[bytes, bytes]) -> bool:
        """Whether a request has the token, as `Bearer TOKEN` or as the password of HTTP's basic authentication."""
        scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"basic":
            with suppress(ValueError):  # what is no base64 is compared as it stands
                value = b64decode(value).partition(b":")[2]
        # It takes as long for any value of this length.
        return not self.token or hmac.compare_digest(value, self.token.encode())

    async def body(self, request: Request) -> bytes:
        """The body of a request, within the limits; raises HTTPException."""
        body, size = bytearray(), 0
        try:
            async with asyncio.timeout(self.queue.seconds):
                # To its end: most clients read no answer before they sent all.
                async for part in request.stream():
                    size += len(part)
                    body += part if size <= MAX_BODY else b""
        except (TimeoutError, ClientDisconnect) as error:
            text = f"The body did not arrive within {self.queue.seconds:g} s."
            raise HTTPException(408, text, {"connection": "close"}) from error
        if size > MAX_BODY:
            raise HTTPException(413, f"The body is larger than {MAX_BODY >> 20} MB; send several requests.")
        return bytes(body)

    async def answer(self, address: str, body: bytes) -> str:
        """A worker's answer, a JSON text; counts the verdicts in it. Raises `Failed`."""
        status, text, verdicts = await self.queue.ask(address, body)
        if status != 200:
            raise Failed(status, text)
        for task, reason, number in verdicts:
            VERDICTS(task, reason).inc(number)
        return text

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "healthy"})

    async def show_metrics(self, _: Request) -> Response:
        return Response(generate_latest(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def nothing_at(self, path: str) -> str:
        """What 404 says of a path."""
        addresses = ", ".join(route.path_format for route in self.routes if isinstance(route, Route))
        return f"{shown(path)} is no address. There are {addresses}."

    async def _refused(self, request: Request, error: Any) -> Response:
        text = error.detail if "endpoint" in request.scope else self.nothing_at(request.url.path)
        return _refusal(error.status_code, text, error.headers)


def _refusal(status: int, text: str, headers: dict[str, str] | None) -> Response:
    """An answer that is one sentence."""
    return Response(json.dumps({"error": text}) + "\n", status, headers, "application/json")


def verdicts_front(queue: Queue, token: str) -> Front:
    """The application that answers requests for verdicts."""
    front = Front(queue, token)
    for form, (path, _) in FORMS.items():

        async def endpoint(request: Request, form: str = form) -> Response:
            address = f"{form}/{request.path_params.get('task', '')}"
            answer = await front.answer(address, await front.body(request))
            return Response(answer, media_type="application/json")

        endpoint.__name__ = form  # the address in metrics
        front.add_route(path, endpoint, methods=["POST"])
    return front


class Server(uvicorn.Server):
    """uvicorn's server, which answers what the queue has before it closes connections."""

    def __init__(self, front: Front) -> None:
        config = uvicorn.Config(
            front,
            lifespan="off",
            ws_max_size=MAX_BODY,
            access_log=False,
            log_level="error",
            timeout_keep_alive=75,  # trainers ask again after a while, over the same connection
            timeout_graceful_shutdown=int(front.queue.seconds) + 1,
        )
        super().__init__(config)
        self.queue = front.queue

    async def shutdown(self, sockets: Any = None) -> None:
        self.queue.is_ending = True  # uvicorn waits for answers over HTTP, but cuts WebSockets
        while self.queue.bytes and not self.force_exit:  # a second Ctrl-C does not wait
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)
