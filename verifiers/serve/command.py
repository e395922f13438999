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
from verifiers.errors import CommandError

if TYPE_CHECKING:
    import uvicorn

    from verifiers.serve.front import Front
    from verifiers.serve.queue import Queue

# The packages without which nothing is served; uvloop only makes serving faster.
PACKAGES = ("starlette", "uvicorn", "httptools", "websockets", "prometheus_client")
_EPILOG = """\
addresses:
  POST /verify/TASK      {"completion": ..., REFERENCE} or {"completions": [...], REFERENCE: [...]}, as `verify` and
                         `verify_batch` take them
  POST /verl             the arguments of verl's compute_score
  POST /openrlhf/TASK    what OpenRLHF sends to --reward.remote_url
  POST /verify, /seed_session, /aggregate_metrics    NeMo-Gym's resources server
  GET  /health, /metrics

example:
  python -m verifiers serve --port 8000 &
  curl -s http://127.0.0.1:8000/verify/gsm8k -d '{"completion": "<answer>18</answer>", "answer": "18"}'

SIGTERM and Ctrl-C answer what was accepted, and end the server.
Exit status: 0 after a signal, 2 if it cannot start.
"""


TOKEN_VARIABLE = "SPG_SERVE_TOKEN"


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
    add = parser.add_argument
    text = "the completions that a request may have (4096)"
    add("--max-completions", metavar="N", type=number_between(1, 10**6), default=4096, help=text)
    text = "compiles the kernels that judge large batches before it serves, if they are not on disk"
    add("--prepare", action="store_true", help=text)
    options = parser.parse_args(arguments)

    def front_of(queue: Queue, token: str, max_body: int) -> Front:
        from verifiers.serve.addresses import VerdictsFront

        return VerdictsFront(queue, token, max_body)

    settings = {
        "seconds": options.timeout,
        "max_completions": options.max_completions,
        "load_kernels": options.prepare,
    }
    return run_command(options, "verdicts", "verifiers.serve.judging", settings, front_of)


def add_serving_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that every server has."""
    add = parser.add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="the address to listen at (127.0.0.1, which only this machine reaches)",
    )
    add("--port", type=number_between(0, 65535), default=8000, help="the port (8000); 0 takes a free one")
    text = "the number of processes that judge (1)"
    add("--workers", metavar="N", type=number_between(1, 1024), default=1, help=text)
    text = (
        "answers only requests with this token (`Authorization: Bearer`, or http://:TOKEN@HOST:PORT); by default "
        "that of the environment variable SPG_SERVE_TOKEN, which other users cannot see"
    )
    add("--token", help=text)
    text = "the megabytes that a request may have (16)"
    add("--max-body", metavar="MB", type=number_between(1, 1024), default=16, help=text)
    text = "the seconds that a request may take (60); then it is answered with 503"
    add("--timeout", metavar="S", type=number_between(1, 86400), default=60, help=text)


def run_command(
    options: argparse.Namespace,
    what: str,
    module: str,
    settings: dict[str, Any],
    front_of: Callable[[Queue, str, int], Front],
) -> int:
    """Serves as the options say, until a signal; returns the exit status.

    what: what the server answers with, as messages name it, e.g. "verdicts". module, settings: of the workers, as
    `Queue` takes them. front_of: makes the application from the queue, the token and the bytes that a body may have.
    """
    missing = [package.replace("_", "-") for package in PACKAGES if find_spec(package) is None]
    if missing:
        sys.stderr.write(
            f"error: serving needs {' and '.join(missing)}; run: pip install {' '.join(missing)}\n"
        )
        return 2
    from verifiers.serve.queue import Queue
    from verifiers.worker import WorkerUnavailable

    token = os.environ.get(TOKEN_VARIABLE, "") if options.token is None else options.token
    queue = None
    # uvicorn handles signals while it runs, and raises them again at its end.
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        is_given_empty = options.token == ""  # by mistake: without --token, it may be empty
        fits_an_address = token.isascii() and not any(letter <= " " or letter == "@" for letter in token)
        if is_given_empty or not fits_an_address:
            raise CommandError(
                "--token must be letters, digits and signs that an address may have, without a space or @"
            )
        listening = _listening(options.host, options.port)
        if not is_loopback(options.host):
            who = "who knows the token" if token else "without a token (see --token)"
            text = f"--host {options.host}: every machine that reaches this one can ask for {what}, {who}, unencrypted"
            sys.stderr.write(f"warning: {text}.\n")
        queue = Queue(module, settings, options.workers, float(options.timeout))
        queue.start()
        host = f"[{options.host}]" if ":" in options.host else options.host  # IPv6 stands in brackets
        address = f"http://{host}:{listening.getsockname()[1]}"
        server = _server_of(front_of(queue, token, options.max_body << 20), options)
        sys.stderr.write(f"Serving {what} at {address} (Ctrl-C ends it).\n")
        sys.stderr.flush()
        server.run(sockets=[listening])
    except (CommandError, WorkerUnavailable) as error:
        sys.stderr.write(f"error: {str(error).rstrip('.')}.\n")
        return 2
    except KeyboardInterrupt:  # either signal
        return 0
    finally:
        if queue is not None:
            queue.close()
        signal.signal(signal.SIGTERM, earlier)
    return 0


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens at this address; raises `CommandError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommandError(f"cannot listen at {host}:{port}: {reason}; try another --port") from error


def _server_of(front: Front, options: argparse.Namespace) -> uvicorn.Server:
    """uvicorn's server, which waits for the front before it closes connections."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await front.finish()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        front,
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=options.max_body << 20,
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        access_log=False,
        timeout_keep_alive=75,
        log_level="error",
        timeout_graceful_shutdown=options.timeout + 1,
    )
    return Server(config)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at `host`."""
    return host in ("localhost", "::1") or host.startswith("127.")
