"""The life of a server: it starts its workers, listens, answers until a signal, and ends when all is answered."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from verifiers.serve.front import Front

if TYPE_CHECKING:
    import uvicorn


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


async def run(front: Front, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Starts the workers, serves until SIGTERM or SIGINT, answers accepted requests, and ends. Raises `Unavailable`.

    ready: is called once requests are answered.
    """
    server = _make_server(front)
    loop = asyncio.get_running_loop()
    stopping = asyncio.create_task(_stop_at_signal(front, server, loop))
    starting = asyncio.create_task(front.workers.start())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()  # raises if a worker cannot start
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
    """Waits for a signal, then for the answers to WebSockets, and lets the server end.

    A second signal ends the server at once.
    """
    stop, stop_at_once = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            stop_at_once.set()
            server.force_exit = True
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await stop.wait()
    front.draining = True
    with suppress(TimeoutError):
        async with asyncio.timeout(front.limits.seconds):
            while front.answering and not stop_at_once.is_set():
                await asyncio.sleep(0.01)
    server.should_exit = True


def _make_server(front: Front) -> uvicorn.Server:
    """uvicorn's server, without its own handling of signals."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self):  # type: ignore[no-untyped-def]
            yield  # `_stop_at_signal` handles signals

    config = uvicorn.Config(
        front,
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=front.limits.body,
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        access_log=False,
        timeout_keep_alive=75,
        log_level="error",
        timeout_graceful_shutdown=int(front.limits.seconds) + 1,
    )
    return Server(config)


def serve(front: Front, listening: socket.socket, banner: str) -> None:
    """Serves until a signal; `banner` is written to standard error once requests are answered. Raises `Unavailable`."""

    def ready() -> None:
        sys.stderr.write(banner)
        sys.stderr.flush()

    with suppress(ImportError):
        import uvloop

        return uvloop.run(run(front, listening, ready))
    return asyncio.run(run(front, listening, ready))
