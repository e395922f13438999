"""What holds wherever code of a user is called: it gets values of its own, and its exit is an error.

A reward function may use up a list, or put the completion behind the chat that it is given, and code that a model wrote
may call `exit()`. Neither may change the data of a run, or end the run without a word.
"""

import copy
import hashlib
import importlib.util
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from verifiers.errors import VerifierError

_end_process = os._exit
_UNCHANGEABLE = frozenset((str, int, float, bool, type(None), bytes))


class CodeExited(Exception):
    """A user's code called `exit()`, `sys.exit()` or `os._exit(0)`, or raised SystemExit."""


@contextmanager
def exit_is_error() -> Iterator[None]:
    """Inside, a SystemExit becomes CodeExited, which ends a command as any other error of the code does.

    `os._exit(0)` raises SystemExit inside, in any thread. With another status it ends the process as always, since no
    one takes that for success, and in a process that the code has forked, since that one has no result.
    """
    _enter(1)
    try:
        yield
    except SystemExit as error:
        code = "" if error.code is None else repr(error.code)
        exited = CodeExited(f"the code called exit() or raised SystemExit({code})")
        raise exited.with_traceback(error.__traceback__) from None
    finally:
        _enter(-1)


class _Guard:
    """How often the guard is entered and not yet left, by all threads together, and in which process it was last."""

    lock, depth, process = threading.Lock(), 0, 0


def _enter(times: int) -> None:
    with _Guard.lock:
        _Guard.depth += times
        _Guard.process = os.getpid()
        os._exit = _exit if _Guard.depth else _end_process


def _exit(status: int) -> NoReturn:
    if status != 0 or not _Guard.depth or os.getpid() != _Guard.process:
        _end_process(status)
    raise SystemExit(status)


def run_file(path: str) -> None:
    """Runs a user's Python file as a module, which may import files beside it; raises VerifierError."""
    if not os.path.isfile(path):
        raise VerifierError(f"There is no file {path}. Give the path of a Python file.")
    name = f"verifiers_own_{hashlib.sha256(path.encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # it is named .py
    sys.path.append(os.path.dirname(path))
    try:
        with exit_is_error():
            spec.loader.exec_module(module)  # type: ignore[union-attr]
    except VerifierError:
        raise
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{line.filename}, line {line.lineno}"
        raise VerifierError(f"{path} cannot be loaded: {type(error).__name__}: {error} ({where}).") from error


def own_copy(value: Any) -> Any:
    """The value, with a copy of each list, dict, set, tuple and array in it; anything else in it is shared."""
    kind = type(value)
    if kind in _UNCHANGEABLE:
        return value
    if kind is dict:
        return {key: item if type(item) in _UNCHANGEABLE else own_copy(item) for key, item in value.items()}
    if kind is list:
        return [item if type(item) in _UNCHANGEABLE else own_copy(item) for item in value]
    if kind is tuple:
        return tuple(map(own_copy, value))
    if isinstance(value, list | dict | set | bytearray):  # also their subclasses, such as a defaultdict
        return copy.deepcopy(value)
    if kind.__module__ == "numpy" and hasattr(value, "copy"):
        return value.copy()
    return value
