"""The command `python -m verifiers serve`, and what `python -m envs serve` has in common with it."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from verifiers.command.flags import Parser, number_between

if TYPE_CHECKING:
    import uvicorn

    from verifiers.serve.front import Front
    from verifiers.serve.queue import Queue

# The packages without which nothing is served; uvloop only makes serving faster.
PACKAGES = ("starlette", "uvicorn", "httptools", "websockets", "prometheus_client")
TOKEN_VARIABLE = "SPG_SERVE_TOKEN"
_EPILOG = """\
addresses:
  POST /verify/TASK      {"completion": ..., REFERENCE} or {"completions": [...], REFERENCE: [...]}, as `verify` and
                         `verify_batch` take them
  POST /verl             the arguments of verl's compute_score
  POST /openrlhf/TASK    what OpenRLHF sends to --reward.remote_url
  POST /verify, /seed_session, /aggregate_metrics    NeMo-Gym's resources server
  GET  /health, /metrics
"""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = Parser(
        prog="python -m verifiers serve",
        description="Answers requests for verdicts over HTTP.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_serving_flags(parser)
    options = parser.parse_args(arguments)

    def front_of(queue: Queue, token: str) -> Front:
        from verifiers.serve.addresses import VerdictsFront

        return VerdictsFront(queue, token)

    return run_command(options, "verdicts", "verifiers.serve.judging", {"seconds": options.timeout}, front_of)


def add_serving_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that every server has."""
    add = parser.add_argument
    text = "the address to listen at (127.0.0.1, which only this machine reaches)"
    add("--host", default="127.0.0.1", help=text)
    add("--port", type=number_between(0, 65535), default=8000, help="the port (8000); 0 takes a free one")
    text = "the number of processes that judge (1)"
    add("--workers", metavar="N", type=number_between(1, 1024), default=1, help=text)
    text = (
        "answers only requests with this token (`Authorization: Bearer`, or http://:TOKEN@HOST:PORT); by default "
        "that of the environment variable SPG_SERVE_TOKEN, which other users cannot see"
    )
    add("--token", default=os.environ.get(TOKEN_VARIABLE) or None, type=_token, help=text)
    text = "the seconds that a request may take (60); then it is answered with 503"
    add("--timeout", metavar="S", type=number_between(1, 86400), default=60, help=text)


def _token(text: str) -> str:
    if not text:  # perhaps a variable of the shell that is not set; without --token, everybody is answered
        raise argparse.ArgumentTypeError("the token is empty")
    return text


def run_command(
    options: argparse.Namespace,
    what: str,
    module: str,
    settings: dict[str, Any],
    front_of: Callable[[Queue, str], Front],
) -> int:
    """Serves as the options say, until a signal; returns the exit status.

    what: what the server answers with, as messages name it, e.g. "verdicts". module, settings: of the workers, as
    `Queue` takes them. front_of: makes the application from the queue and the token ("" = none).
    """
    missing = [package.replace("_", "-") for package in PACKAGES if find_spec(package) is None]
    if missing:
        return _refuse(f"serving needs {' and '.join(missing)}; run: pip install {' '.join(missing)}")
    from verifiers.serve.queue import Queue
    from verifiers.worker import WorkerUnavailable

    host, token = options.host, options.token or ""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, options.port), family=family, backlog=2048)
    except OSError as error:
        return _refuse(f"cannot listen at {host}:{options.port}: {error.strerror}; try another --port")
    if not is_loopback(host):
        who = "who knows the token" if token else "without a token (see --token)"
        text = f"every machine that reaches this one can ask for {what}, {who}, unencrypted"
        sys.stderr.write(f"warning: --host {host}: {text}.\n")
    queue = Queue(module, settings, options.workers, float(options.timeout))
    # uvicorn handles signals while it runs, and raises them again at its end.
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        queue.start()
        name = f"[{host}]" if ":" in host else host  # IPv6 stands in brackets
        address = f"http://{name}:{listening.getsockname()[1]}"
        server = _server_of(front_of(queue, token), queue)
        sys.stderr.write(f"Serving {what} at {address} (Ctrl-C ends it).\n")
        sys.stderr.flush()
        server.run(sockets=[listening])
    except WorkerUnavailable as error:
        return _refuse(str(error).rstrip("."))
    except KeyboardInterrupt:  # either signal
        return 0
    finally:
        queue.close()
        signal.signal(signal.SIGTERM, earlier)
    return 0


def _refuse(text: str) -> int:
    """Says why the server cannot start; returns the exit status."""
    sys.stderr.write(f"error: {text}.\n")
    return 2


def _server_of(front: Front, queue: Queue) -> uvicorn.Server:
    """uvicorn's server, which answers what the queue has before it closes connections."""
    import asyncio

    import uvicorn

    from verifiers.serve.front import MAX_BODY

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # uvicorn waits for answers over HTTP, but cuts WebSockets.
            queue.is_ending = True
            while queue.bytes and not self.force_exit:  # a second Ctrl-C does not wait
                await asyncio.sleep(0.01)
            await super().shutdown(sockets)

    config = uvicorn.Config(
        front,
        lifespan="off",
        ws_max_size=MAX_BODY,
        access_log=False,
        log_level="error",
        timeout_keep_alive=75,  # trainers ask again after a while, over the same connection
        timeout_graceful_shutdown=int(queue.seconds) + 1,
    )
    return Server(config)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at `host`."""
    return host in ("localhost", "::1") or host.startswith("127.")
