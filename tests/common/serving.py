"""A server of ours in a process of its own, and requests to it over plain sockets."""

import http.client
import importlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from verifiers.worker import environment

SECONDS = 120
START = "import sys; import verifiers.serve.front as front; {changes}; from {package}.__main__ import main; "
START += "sys.exit(main(sys.argv[1:]))"


class Server:
    """A server that answers at `host` and `port`."""

    host = "127.0.0.1"

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port
        self.address = f"http://{self.host}:{port}"

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """(status, what came back, read as JSON if it is): body: bytes, or what is sent as JSON."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)
        try:
            connection.request(method, path, data, {name.replace("_", "-"): v for name, v in headers.items()})
            reply = connection.getresponse()
            text = reply.read().decode()
        finally:
            connection.close()
        with suppress(ValueError):
            return reply.status, json.loads(text)
        return reply.status, text

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        return self.request("POST", path, body, **headers)

    def raw(self, data: bytes, seconds: float = SECONDS, pause: float = 0.0, piece: int = 1 << 20) -> bytes:
        """What comes back, until the server closes, to bytes that are sent a piece at a time."""
        with socket.create_connection((self.host, self.port), timeout=seconds) as connection:
            with suppress(OSError):
                for start in range(0, len(data), piece):
                    connection.sendall(data[start : start + piece])
                    time.sleep(pause)
                connection.shutdown(socket.SHUT_WR)
            parts = []
            with suppress(ConnectionError):
                while part := connection.recv(1 << 16):
                    parts.append(part)
        return b"".join(parts)

    def metric(self, name: str, **headers: str) -> float:
        """The sum of a metric over its labels."""
        _, text = self.request("GET", "/metrics", **headers)
        lines = [line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def until(self, happened: Callable[[], bool], seconds: float = SECONDS) -> None:
        """Wait until something has happened."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"did not happen within {seconds:g} s"
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """The processes that judge."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    found.append(int(folder.name))
        return found


@contextmanager
def served(*words: str, package: str = "verifiers", changes: str = "", **variables: str) -> Iterator[Server]:
    """`python -m PACKAGE serve WORDS` at a free port; `changes`: statements about `front` that it runs first."""
    for needed in ("starlette", "uvicorn", "httptools", "websockets", "prometheus_client"):
        pytest.importorskip(needed)
    start = START.format(changes=changes or "pass", package=package)
    port = [] if "--port" in words else ["--port", "0"]
    command = [sys.executable, "-P", "-c", start, "serve", *words, *port]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**environment(), **variables}, cwd="/"
    ) as process:
        try:
            said = ""
            for line in process.stderr:
                said += line
                if line.startswith("Serving"):
                    break
            else:
                raise AssertionError(f"the server did not start: {said}")
            yield Server(process, int(line.split(" at ")[1].split()[0].rpartition(":")[2]))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert status == 0, f"the server ended with {status}"


def said_by(capsys: pytest.CaptureFixture[str], *words: str, package: str = "verifiers") -> tuple[int, str]:
    """(exit status, standard error) of a server that cannot start."""
    main = importlib.import_module(f"{package}.__main__").main
    try:
        status = main(["serve", *words])
    except SystemExit as exit:
        status = int(str(exit.code))
    return status, capsys.readouterr().err
