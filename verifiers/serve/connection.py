"""A client's connection: its requests are read one after another, and their answers written in the same order.

This protocol replaces uvicorn's own, which serves any ASGI application but takes three times as long for a request.
uvicorn still listens, ends connections when the server ends, and speaks WebSocket. The limits that a user sets, such as
--max-body, have their defaults in command.py.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools

from verifiers.serve.front import CLOSE, Handler, Reply, error

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

    from verifiers.serve.front import Front

READ_SECONDS = 20.0  # the time in which a request must have arrived
IDLE_SECONDS = 75.0  # how long a connection waits for its next request, and for its client to read an answer
# The most bytes of a request line with its headers, and of the headers behind a body in chunks.
HEAD_BYTES = 1 << 16


class Request:
    """A request whose headers have arrived, with the parts of its body that have arrived.

    label: the name of its address in metrics. found: its handler, or the reply that refuses it.
    """

    __slots__ = ("began", "found", "is_head", "keeps", "label", "parts", "path", "size")

    def __init__(self, path: str, label: str, found: Handler | Reply, is_head: bool, keeps: bool) -> None:
        self.path, self.label, self.found = path, label, found
        self.is_head = is_head
        self.keeps = keeps  # whether the connection stays open for further requests
        self.parts: list[bytes] = []
        self.size = 0  # how many bytes of the body have arrived, also if they were thrown away
        self.began = time.perf_counter()


class Connection(asyncio.Protocol):
    """One connection. It is closed if a request takes too long to arrive, or is too large."""

    def __init__(self, config: Config, server_state: ServerState, app_state: Any = None, _loop: Any = None):
        self.config, self.state = config, server_state
        self.front: Front = config.app  # type: ignore[assignment]
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.transport: Any = None  # asyncio's transport; None when the client is gone
        self.timer: asyncio.TimerHandle | None = None  # for a request or, if none has begun, for the next one
        self.times_request = False  # whether the timer is for a request that has begun
        # Whether a request has begun and not ended. A connection is opened for a request, so this is true at first.
        self.has_begun = True
        # How many bytes have arrived of a head that has not ended; None while data is parsed that also has other bytes.
        self.head_bytes: int | None = 0
        self.request: Request | None = None  # the request whose body is arriving
        # Requests that can be answered, but not before earlier ones are, or before the client reads.
        self.arrived: deque[Request] = deque()
        self.answering = False
        self.is_full = False  # whether the client is not reading what was written
        self.unread_timer: asyncio.TimerHandle | None = None  # set while the client does not read
        # Whether to close behind the next answer, because the server ends, or a request is late.
        self.is_ending = False
        self.upgrades = False  # whether the connection becomes a WebSocket

    # ---- what the event loop calls ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.state.connections.add(self)
        self._set_timer()

    def connection_lost(self, _: Exception | None) -> None:
        self.state.connections.discard(self)
        self._stop_timer()
        self._stop_unread_timer()
        self.transport, self.request = None, None
        self.arrived.clear()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self.upgrades:
                self._hand_over()
                return
        except httptools.HttpParserError:
            self._refuse_bytes("Invalid HTTP request received.")
        if self.transport is None or self.transport.is_closing():
            return
        self.head_bytes = 0 if self.head_bytes is None else self.head_bytes + len(data)
        if self.head_bytes > HEAD_BYTES:
            self._refuse_bytes("The headers of this request are too long.")
        if self.arrived:
            self.transport.pause_reading()
        self._set_timer()

    def pause_writing(self) -> None:
        self.is_full = True
        self._set_unread_timer()

    def resume_writing(self) -> None:
        self.is_full = False
        self._stop_unread_timer()
        self._answer_next()

    def shutdown(self) -> None:
        """Ends after the request that is being read or answered, if there is one. uvicorn calls this."""
        self.is_ending = True
        has_request = self.answering or self.arrived or self.request
        if not has_request and self.transport is not None:
            self.transport.close()

    # ---- what the parser calls ----

    def on_message_begin(self) -> None:
        self.has_begun, self.times_request = True, False
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.request is None:  # headers behind a body in chunks are ignored
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.head_bytes = None
        headers = dict(self.headers)
        method = self.parser.get_method().decode("ascii")
        if self.parser.should_upgrade() and headers.get(b"upgrade", b"").lower() == b"websocket":
            self.upgrades = not (self.answering or self.arrived)
            if not self.upgrades:
                text = "A WebSocket must not be asked for before earlier requests on the same connection are answered."
                refusal = error(400, text, CLOSE)
                self._enqueue(Request(path="", label="other", found=refusal, is_head=False, keeps=False))
            return
        address = httptools.parse_url(self.url)
        path = address.path.decode("ascii")
        path = unquote(path) if "%" in path else path
        # By HTTP/1.0, a connection stays open only if the answer says so, which no answer here does.
        keeps = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        query = (address.query or b"").decode("latin-1")
        label, found = self.front.admitted(method, path, query, headers)
        self.request = Request(path, label, found, is_head=method == "HEAD", keeps=keeps)
        is_asked_to_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        if isinstance(found, Reply):  # without waiting for the body
            self._enqueue(self.request)
        elif is_asked_to_continue and not self.answering:  # else this would stand before an earlier answer
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        self.head_bytes = None
        request = self.request
        if request is None:  # it is refused already
            return
        request.size += len(part)
        if request.size <= self.front.limits.body:
            request.parts.append(part)
            return
        # A body that is too large, by up to a factor of two, is read to its end and thrown away: a client that cannot
        # send all of its body would see a broken connection in place of the answer.
        request.parts.clear()
        if request.size > 2 * self.front.limits.body:
            self._refuse_body(request)

    def on_message_complete(self) -> None:
        self.has_begun, self.head_bytes = False, None
        if (request := self.request) is None:
            return
        if request.size > self.front.limits.body:
            self._refuse_body(request)
        else:
            self._enqueue(request)

    # ---- requests and answers ----

    def _refuse_body(self, request: Request) -> None:
        """Refuses a request whose body is too large."""
        problem = f"The body is larger than {self.front.limits.body >> 20} MB"
        request.found = error(
            413, f"{problem}; send several requests, or start the server with a larger --max-body.", CLOSE
        )
        self._enqueue(request)

    def _enqueue(self, request: Request) -> None:
        """Puts a request that can be answered behind those that wait, and answers what can be answered now."""
        self.request = None
        self.arrived.append(request)
        self._answer_next()

    def _answer_next(self) -> None:
        """Answers the requests that wait, up to the first that takes time."""
        while self.arrived and not self.answering and not self.is_full and self.transport is not None:
            request = self.arrived.popleft()
            if isinstance(request.found, Reply):
                self._write(request, request.found)
            else:
                self.answering = True
                answering = self.loop.create_task(self._answer(request, request.found))
                self.state.tasks.add(answering)
                answering.add_done_callback(self.state.tasks.discard)

    async def _answer(self, request: Request, handler: Handler) -> None:
        """Answers a request that takes time, and then the next ones."""
        parts = request.parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        reply = await self.front.answer(handler, request.path, body)
        self.answering = False
        self._write(request, reply)
        if self.transport is not None and not self.transport.is_closing():
            self._answer_next()
            if not self.arrived:
                self.transport.resume_reading()
            self._set_timer()

    def _write(self, request: Request, reply: Reply) -> None:
        """Writes an answer; closes the connection behind it if it is not to stay open."""
        self.front.count(request.label, reply.status, request.began)
        if self.transport is None or self.transport.is_closing():  # the client is gone
            return
        keeps = request.keeps and not self.is_ending and CLOSE not in reply.headers
        head = _head(reply.status, reply.kind, reply.headers, keeps)
        body = b"" if request.is_head else reply.body
        self.transport.write(b"%b%d\r\n\r\n%b" % (head, len(reply.body), body))
        if not keeps:
            self.arrived.clear()
            self.transport.close()

    def _refuse_bytes(self, text: str) -> None:
        """Answers bytes that are no HTTP request with 400, after the answers to earlier requests, and closes."""
        if self.transport is not None and not self.transport.is_closing():
            self.has_begun, self.head_bytes = False, None
            reply = Reply(400, text.encode(), "text/plain; charset=utf-8", (CLOSE,))
            self._enqueue(Request(path="", label="other", found=reply, is_head=False, keeps=False))

    def _hand_over(self) -> None:
        """Leaves the connection to uvicorn's WebSocket, which reads the request again."""
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            head += [name, b": ", value, b"\r\n"]
        protocol = self.config.ws_protocol_class(config=self.config, server_state=self.state, app_state={})
        self._stop_timer()
        self.state.connections.discard(self)
        protocol.connection_made(self.transport)
        protocol.data_received(b"".join([*head, b"\r\n"]))
        self.transport.set_protocol(protocol)

    # ---- time ----

    def _set_timer(self) -> None:
        """Sets the time in which a request that has begun must arrive or, if none has, the next one must begin."""
        if self.arrived:  # nothing is read until these requests are answered
            self._stop_timer()
            self.times_request = False
            return
        if self.has_begun and self.times_request and self.timer is not None:
            return  # the timer goes on
        self._stop_timer()
        self.times_request = self.has_begun
        if self.answering and not self.has_begun:
            return  # the client waits for the server
        self.timer = self.loop.call_later(READ_SECONDS if self.has_begun else IDLE_SECONDS, self._end_late)

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _end_late(self) -> None:
        """Refuses the request whose body is late. If no body is awaited, closes the connection behind the next answer.

        If there is no request to answer either, the connection is closed at once.
        """
        self.timer = None
        if self.request is None:
            if self.answering or self.arrived:
                self.is_ending = True
            elif self.transport is not None:
                self.transport.close()
            return
        self.request.found = error(408, f"The body did not arrive within {READ_SECONDS:g} s.", CLOSE)
        self._enqueue(self.request)

    def _set_unread_timer(self) -> None:
        """Sets the time in which a client must read some of what was written."""
        self._stop_unread_timer()
        unread_bytes = self.transport.get_write_buffer_size()
        self.unread_timer = self.loop.call_later(IDLE_SECONDS, self._end_unread, unread_bytes)

    def _stop_unread_timer(self) -> None:
        if self.unread_timer is not None:
            self.unread_timer.cancel()
            self.unread_timer = None

    def _end_unread(self, unread_bytes: int) -> None:
        """Ends a connection whose client has read nothing since `unread_bytes` were left to read."""
        if self.transport.get_write_buffer_size() < unread_bytes:  # the client reads slowly
            self._set_unread_timer()
        else:
            self.transport.abort()  # `close` would wait for the client


@lru_cache(256)
def _head(status: int, kind: str, headers: tuple[tuple[bytes, bytes], ...], keeps: bool) -> bytes:
    """The head of an answer, up to the header with the number of its bytes."""
    if not keeps and CLOSE not in headers:
        headers = (*headers, CLOSE)
    lines = [
        b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode()),
        b"content-type: " + kind.encode(),
    ]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"content-length: "])
