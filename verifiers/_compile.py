"""Compiling row loops with numba: only when a batch is worth it, cached on disk where the disk allows."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

from verifiers import _extract

PLAIN_ROWS = 256  # what is as quickly judged without compiled code as numba is imported
_registered: set[Any] = set()
_lock = Lock()
_patience = 0


def be_patient(rows: int) -> None:
    """Let this process judge so many rows without compiled code, whatever the size of the batches."""
    global _patience
    _patience = rows


def is_worthwhile(texts: Sequence[str], characters: int) -> bool:
    """True for a batch that is worth compiled code, of which up to `characters` need none."""
    global _patience
    if len(texts) <= PLAIN_ROWS and sum(map(len, texts)) <= characters:
        return False
    _patience -= len(texts)
    return _patience < 0


def numba_is_there() -> bool:
    """True if numba can be imported; finding out imports it."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def stamp(*modules: ModuleType) -> int:
    """A checksum of the sources of `modules`.

    numba's disk cache notices a change of the file that holds the compiled function, not of the files it
    calls into, so that function closes over this number: numba keys its cache by what a function closes over.
    """
    crc = 0
    for module in modules:
        crc = zlib.crc32(Path(str(module.__file__)).read_bytes(), crc)
    return crc


def compile_rows(
    make: Callable[[int], Callable], signature: str, helpers: Iterable[Callable], mark: int
) -> Callable:
    """Compile `make(mark)` for one signature, with `helpers` (and the extraction rule) callable from inside.

    The compiled function releases the GIL and may make no array of its own: without numba's counting of
    references it is a fifth faster. Where no cache folder can be written it is compiled for this process only.
    """
    import numba
    from numba.extending import overload, register_jitable

    with _lock:
        if _extract.find_byte not in _registered:
            overload(_extract.find_byte)(lambda data, byte, start, end: _extract.find_byte_in_array)
            _registered.add(_extract.find_byte)
        for helper in (*_extract.COMPILED, *helpers):
            if helper not in _registered:
                register_jitable(helper)
                _registered.add(helper)
        try:
            return numba.njit(signature, nogil=True, _nrt=False, cache=True)(make(mark))
        except (RuntimeError, OSError):  # no folder for the cache, or one that cannot be written
            return numba.njit(signature, nogil=True, _nrt=False)(make(mark))
