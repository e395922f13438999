"""The command `python -m verifiers serve`, and what `python -m envs serve` has in common with it."""

import os
import signal
import socket
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from verifiers.command.flags import Parser, number_between

# The packages without which nothing is served; uvloop only makes serving faster.
PACKAGES = ("starlette", "uvicorn", "httptools", "websockets", "prometheus_client")
TOKEN_VARIABLE = "SPG_SERVE_TOKEN"
_EPILOG = """\
addresses:
  POST /verify/TASK      {"completion": ..., REFERENCE: ...} as `verify` takes them, or lists as for `verify_batch`
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
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_serving_flags(parser)
    options = parser.parse_args(arguments)

    def front_of(queue: Any, token: str) -> Any:
        from verifiers.serve.front import verdicts_front

        return verdicts_front(queue, token)

    return run_command(options, "verdicts", "verifiers.serve.judging", {"seconds": options.timeout}, front_of)


def add_serving_flags(parser: ArgumentParser) -> None:
    """Adds the flags that every server has."""
    add = parser.add_argument
    text = "the address to listen at (127.0.0.1, which only this machine reaches)"
    add("--host", default="127.0.0.1", help=text)
    add("--port", type=number_between(0, 65535), default=8000, help="the port (8000); 0 takes a free one")
    text = "the number of processes that judge (1)"
    add("--workers", metavar="N", type=number_between(1, 1024), default=1, help=text)
    text = "answers only requests with this token (`Authorization: Bearer`, or http://:TOKEN@HOST:PORT); by default "
    text += "that of the environment variable SPG_SERVE_TOKEN, which other users cannot see"
    add("--token", default=os.environ.get(TOKEN_VARIABLE) or None, help=text)
    text = "the seconds that a request may take (60); then it is answered with 503"
    add("--timeout", metavar="S", type=number_between(1, 86400), default=60, help=text)


def run_command(
    options: Namespace, what: str, module: str, settings: dict[str, Any], front_of: Callable[[Any, str], Any]
) -> int:
    """Serves as the options say, until a signal; returns the exit status.

    what: what the server answers with, as messages name it, e.g. "verdicts". module, settings: of the workers, as
    `Queue` takes them. front_of: makes the `Front` from the `Queue` and the token ("" = none).
    """
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        return _refuse(f"serving needs {' and '.join(missing)}; run: pip install {' '.join(missing)}")
    if options.token == "":  # perhaps a variable of the shell that is not set; everybody would be answered
        return _refuse("the --token is empty")
    from verifiers.serve.front import Server
    from verifiers.serve.queue import Queue
    from verifiers.worker import WorkerUnavailable

    host, token = options.host, options.token or ""
    # IPv6 stands in brackets.
    family, name = (socket.AF_INET6, f"[{host}]") if ":" in host else (socket.AF_INET, host)
    try:
        listening = socket.create_server((host, options.port), family=family)
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
        sys.stderr.write(f"Serving {what} at http://{name}:{listening.getsockname()[1]} (Ctrl-C ends it).\n")
        Server(front_of(queue, token)).run(sockets=[listening])
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


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at `host`."""
    return host in ("localhost", "::1") or host.startswith("127.")
