"""numba's cache of kernels on disk: a file that cannot be read counts as missing, and so does code of other sources.

A power cut or a network file system can leave files empty or cut, and numba would then raise an error every time it
reads them (numba#10434). It also numbers the files of an index without a lock, so that two processes could keep the
code of one source or processor under the key of the other. Here the names of the files say for what the code is.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.registry import cpu_target
from numba.core.sigutils import normalize_signature


class _NotCached(Exception):
    """A function is not on disk, and is not to be compiled."""


def sources_of(function: Callable[..., Any]) -> list[Path]:
    """The files that a function may be compiled from: all of its folder."""
    return sorted(Path(function.__code__.co_filename).parent.glob("*.py"))


class KernelCache(FunctionCache):
    """The cache of one function. Raises RuntimeError if no folder for it can be written."""

    only_cached = False

    def __init__(self, function: Callable[..., None]) -> None:
        super().__init__(function)
        sources = b"".join(path.read_bytes() for path in sources_of(function))
        processor = repr(cpu_target.target_context.codegen().magic_tuple()).encode()
        name = f"{self._impl.filename_base}-{zlib.crc32(processor, zlib.crc32(sources)):08x}"
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = IndexDataCacheFile(self._cache_path, name, stamp)

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The compiled code for a signature; None if it is not on disk or cannot be read."""
        result = None
        try:
            result = super().load_overload(signature, context)
        except Exception as error:  # any error that pickle or LLVM raises on a cut file
            _warn("has a file that cannot be read", self.cache_path, error)
            with suppress(OSError):
                self.flush()  # otherwise saving would read the same index
        if result is None and self.only_cached:
            raise _NotCached
        return result

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keeps compiled code on disk; if that is not possible, only this process can use it."""
        try:
            super().save_overload(signature, result)
        except Exception as error:  # the disk is full, or the index could not be emptied either
            _warn("cannot be written", self.cache_path, error)


def _warn(problem: str, folder: str, error: Exception) -> None:
    text = "numba's cache in %s %s (%s: %.200s): the kernel is compiled anew."
    logging.getLogger("verifiers").warning(text, folder, problem, type(error).__name__, error)


def compiled(function: Any, signature: str, only_cached: bool = False) -> Callable[..., None] | None:
    """A function that numba has decorated, compiled for one signature, from the disk cache if it is there.

    Returns None with `only_cached` if it is not there. If no cache folder can be written, the function is compiled for
    this process only.
    """
    arguments, _ = normalize_signature(signature)
    cache = None
    with suppress(RuntimeError, OSError):  # the cache has no folder, or one that cannot be written
        cache = function._cache = KernelCache(function.py_func)
        cache.only_cached = only_cached
    if cache is None and only_cached:
        return None
    with suppress(_NotCached):
        function.compile(arguments)
        function.disable_compile()
        return function
    return None
