"""numba's cache of compiled loops on disk: a file that cannot be read counts as missing, and processes take turns.

A power cut or a network file system can leave files empty or cut, and numba would then raise an error every time it
reads them (numba#10434). If two processes save at once, numba can keep the code of one under the key of the other,
because it numbers the files of an index without a lock. Importing this file imports numba.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from numba.core.caching import FunctionCache

LOCK = "verifiers-compiling.lock"


class LoopCache(FunctionCache):
    """The cache of one function, used instead of the one that `numba.njit(cache=True)` makes.

    Raises RuntimeError if no folder for it can be written.
    """

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The compiled code for a signature; None if it is not on disk or cannot be read."""
        try:
            return super().load_overload(signature, context)
        except Exception as error:  # any error that pickle or LLVM raises on a cut file
            _warn("has a file that cannot be read", self.cache_path, error)
            with suppress(OSError):
                self.flush()  # otherwise saving would read the same index
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keeps compiled code on disk; if that is not possible, only this process can use it."""
        try:
            super().save_overload(signature, result)
        except Exception as error:  # the disk is full, or the index could not be emptied either
            _warn("cannot be written", self.cache_path, error)


def _warn(problem: str, folder: str, error: Exception) -> None:
    text = "numba's cache in %s %s (%s: %.200s): the loop is compiled anew."
    logging.getLogger("verifiers").warning(text, folder, problem, type(error).__name__, error)


@contextmanager
def turn(folder: str | None, only_to_load: bool) -> Iterator[bool]:
    """Waits until no other process compiles into a cache folder, and keeps others from compiling there.

    Yields whether this process has its turn. With `only_to_load`, the process does not wait but yields False if another
    one is compiling, and others may load too. Nobody waits if there is no folder, or if the folder cannot be written or
    has no locks, as on some network file systems.
    """
    with ExitStack() as stack:
        has_turn = True
        with suppress(OSError):
            if folder is not None:
                lock = stack.enter_context(open(os.path.join(folder, LOCK), "a"))
                try:
                    shared_or_none = fcntl.LOCK_SH | fcntl.LOCK_NB
                    fcntl.flock(lock, shared_or_none if only_to_load else fcntl.LOCK_EX)
                except BlockingIOError:
                    has_turn = False
        yield has_turn
