"""All that the tests ask of two gloo processes, done by one pair a session."""

import functools
import gc
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from tests.common import process_cases, process_errors
from tests.common.family_cases import untrained
from tests.common.trainer_cases import child_environment, made_once

FILES = ("rank-0.pt", "rank-1.pt")
"""What each process leaves of its work, in the folder of `process_cases` and in `ERRORS` below it."""
ERRORS = "errors"
SEGMENTATION_FAULT = "SIGSEGV"
"""What torch says of it. One was seen in hundreds of runs, within an all-gather of gloo; Python code causes none."""


def _fill(folder: Path) -> None:
    """What the two leave, and `failure.txt` with the error that has ended them early, "" for none."""
    for family in process_cases.FAMILIES:
        untrained(family)
        untrained(family, kv_heads=2)  # here, as the second of several processes writes no model
    failure = _failure(folder)
    if SEGMENTATION_FAULT in failure:
        warnings.warn(
            f"One of two processes crashed in native code, so both run once more: {failure}", stacklevel=2
        )
        shutil.rmtree(folder)
        failure = _failure(folder)
    (folder / "failure.txt").write_text(failure)


def _failure(folder: Path) -> str:
    """Runs the two in a new folder; returns the error that has ended them early."""
    (folder / ERRORS).mkdir(parents=True)
    command = [sys.executable, "-m", "tests.common.two_processes", str(folder)]
    with tempfile.TemporaryFile("w+") as log:
        try:
            code = subprocess.run(
                command, env=child_environment(), stdout=log, stderr=log, timeout=800
            ).returncode
        except subprocess.TimeoutExpired:
            code = "none, they were still running"
        log.seek(0)
        return f"exit code: {code}\n{log.read()}" if code else ""


def _run() -> tuple[Path, str]:
    """The folder that the two filled, and the error that has ended them early."""
    folder = made_once("processes", _fill)
    return folder, (folder / "failure.txt").read_text()


def two_processes() -> Path:
    """The folder that they filled by `process_cases`."""
    folder, failure = _run()
    if failure and not all((folder / file).is_file() for file in FILES):
        raise RuntimeError(failure)
    return folder


@functools.cache
def left_by(rank: int) -> dict[str, Any]:
    """What the first (0) or the second (1) kept of its work; read only."""
    return torch.load(two_processes() / FILES[rank])


def outcomes(name: str) -> tuple[Any, Any]:
    """What a case of `process_errors` came to in the first and the second, which called one another equally often."""
    folder, failure = _run()
    files = [folder / ERRORS / file for file in FILES]
    found = [torch.load(file) if file.is_file() else {} for file in files]
    if failure and not all(name in of_one for of_one in found):
        raise RuntimeError(failure)
    (first, calls), (second, calls_of_second) = (of_one[name] for of_one in found)
    assert calls == calls_of_second
    return first, second


def in_each_process(rank: int, folder: Path, port: int) -> None:
    """The errors come last: a process that one of them leaves waiting spoils no other result."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    with patch.object(os, "fsync"):
        process_cases.in_each_process(folder)
        process_errors.in_each_process(folder / ERRORS)
    torch.distributed.destroy_process_group()  # or a thread of gloo may abort the process as it ends


if __name__ == "__main__":
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # peft imports it for long, and nobody here has 4 bits
    import peft  # noqa: F401  imports for seconds; here for both

    gc.freeze()  # as in conftest.py, and so is what follows
    gc.set_threshold(20_000)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    # Forked, so that what takes seconds to import is imported once for both.
    torch.multiprocessing.start_processes(
        in_each_process, (Path(sys.argv[1]), number), 2, start_method="fork"
    )
