"""Many completions at once: packed into one byte buffer and judged by compiled loops, in threads, slice by slice.

numba is imported, and a loop compiled, only for a batch that is worth it; the result is cached on disk where the
disk allows. Everything here works without numba too, row by row.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from inspect import isfunction
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any

from verifiers import extract
from verifiers.extract import locate
from verifiers.verdicts import REASONS, TIERS, Reason, Tier, Verdict, Verdicts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Packed = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
    Columns = tuple[
        npt.NDArray[np.int8], npt.NDArray[np.int8], npt.NDArray[np.float64], npt.NDArray[np.int64]
    ]

Judged = tuple[int, int, float, int, int]  # reason, tier, score, start and end of the judged text

# Worth a thread; a larger buffer is new pages from the system every time, at three times the cost.
SLICE_CHARACTERS = 1 << 17
MAX_THREADS = 8
MIN_COMPILED_ROWS = 256  # so many are judged as quickly without compiled code as numba is imported
MIN_COMPILED_CHARACTERS = 1 << 20
TEXTS = "Array(uint8, 1, 'C', readonly=True), int64[::1]"  # numba's types of what `pack` returns
COLUMNS = "int8[::1], int8[::1], float64[::1], int64[:, ::1]"  # and of `Columns`
_OK = Reason.OK.code
_registered: set[Any] = set()
_lock = Lock()
_rows_before_compiling = 0


def as_text(completion: object) -> str | None:
    """`completion` as an exact `str`, whatever a subclass overrides, or None if it is no string."""
    if type(completion) is str:
        return completion
    return str.__str__(completion) if issubclass(type(completion), str) else None


def as_texts(completions: list[object]) -> tuple[list[str], list[int]]:
    """The completions as exact strings, and the rows that are none (they are "" in the list)."""
    if set(map(type, completions)) <= {str}:
        return completions, []  # type: ignore[return-value]
    texts = [as_text(completion) for completion in completions]
    return [text or "" for text in texts], [row for row, text in enumerate(texts) if text is None]


def verify_one(completion: object, judge: Callable[[bytes], Judged]) -> Verdict:
    """The verdict of `judge` on a completion; "" is judged for what is no text, so that the reference is checked."""
    text = as_text(completion)
    data = (text or "").encode("utf-8", "surrogatepass")
    reason, tier, score, start, end = judge(data)
    if text is None:
        return Verdict(False, 0.0, None, Reason.MALFORMED, Tier.TEXT)
    extracted = data[start:end].decode("utf-8", "surrogatepass") if start >= 0 else None
    return Verdict(reason == _OK, score, extracted, REASONS[reason], TIERS[tier])


def verify_many(
    completions: list[object],
    judge_row: Callable[[bytes, int], Judged],
    judge_all: Callable[[Callable, list[str], Columns], None],
    kernel: Callable[[], Callable | None],
    compile_above: int = MIN_COMPILED_CHARACTERS,
) -> Verdicts:
    """The verdicts on N completions: `judge_row(data, row)` each, or `judge_all(kernel(), texts, columns)` at once.

    `judge_all` fills the columns reason, tier, score (N,) and spans (N, 2).
    """
    import numpy as np

    texts, not_text = as_texts(completions)
    n = len(texts)
    reason, tier, score, spans = columns = (
        np.empty(n, np.int8),
        np.empty(n, np.int8),
        np.empty(n, np.float64),
        np.empty((n, 2), np.int64),
    )
    compiled = kernel() if is_worth_compiling(texts, compile_above) else None
    if compiled is not None:
        judge_all(compiled, texts, columns)
    else:
        for row, text in enumerate(texts):
            judged = judge_row(text.encode("utf-8", "surrogatepass"), row)
            reason[row], tier[row], score[row], spans[row, 0], spans[row, 1] = judged
    reason[not_text], tier[not_text] = Reason.MALFORMED.code, Tier.TEXT.code
    return Verdicts(reason == _OK, score, reason, tier, spans, texts)


def pack(texts: Sequence[str], starts: npt.NDArray[np.int64] | None = None) -> Packed:
    """UTF-8 bytes of all texts in one read-only buffer (uint8), and where each begins: (N + 1,) int64.

    `starts`: where each would begin if every character were one byte, if that is known already.
    """
    import numpy as np

    joined = "".join(texts)
    if joined.isascii():
        raw = joined.encode()
        starts = starts_of(texts) if starts is None else starts
    else:
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        raw = b"".join(parts)
        starts = starts_of(parts)
    return np.frombuffer(raw or b"\0", np.uint8), starts


def starts_of(parts: Sequence) -> npt.NDArray[np.int64]:
    """Where each of N parts begins when they are joined, and where the last one ends: (N + 1,) int64."""
    import numpy as np

    starts = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=starts[1:])
    return starts


def packed_slices(texts: Sequence[str]) -> Iterator[tuple[slice, Packed]]:
    """N texts in slices that end where SLICE_CHARACTERS more characters have been reached: (rows, those packed)."""
    import numpy as np

    starts = starts_of(texts)
    cuts = starts.searchsorted(np.arange(SLICE_CHARACTERS, starts[-1], SLICE_CHARACTERS))
    start = 0
    for stop in (*np.unique(cuts).tolist(), len(texts)):
        if start < stop:
            rows = slice(start, stop)
            yield rows, pack(texts[rows], starts[start : stop + 1] - starts[start])
        start = stop


def for_each_slice(texts: Sequence[str], rest: Callable[[slice], tuple], work: Callable[..., object]) -> None:
    """Call `work(data, starts, *rest(rows))` for each packed slice: packed here, one by one, judged in threads."""
    slices = packed_slices(texts)
    threads = min(1 + sum(map(len, texts)) // SLICE_CHARACTERS, MAX_THREADS, _cpus())
    if threads < 2:
        for rows, packed in slices:
            work(*packed, *rest(rows))
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="verifiers") as pool:
        for future in [pool.submit(work, *packed, *rest(rows)) for rows, packed in slices]:
            future.result()


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def delay_compilation(rows: int) -> None:
    """Let this process judge so many rows without compiled code, whatever the size of the batches."""
    global _rows_before_compiling
    _rows_before_compiling = rows


def is_worth_compiling(texts: Sequence[str], characters: int = MIN_COMPILED_CHARACTERS) -> bool:
    """True for a batch of many rows or of more than so many characters."""
    global _rows_before_compiling
    if len(texts) <= MIN_COMPILED_ROWS and sum(map(len, texts)) <= characters:
        return False
    _rows_before_compiling -= len(texts)
    return _rows_before_compiling < 0


def source_checksum(*modules: ModuleType) -> int:
    """A checksum of the sources of `modules`."""
    checksum = 0
    for module in modules:
        checksum = zlib.crc32(Path(str(module.__file__)).read_bytes(), checksum)
    return checksum


def compile_loop(make: Callable[[int], Callable], signature: str, *modules: ModuleType) -> Callable | None:
    """Compile `make(checksum)` for one signature, with the functions of `modules` and of `extract` callable from it.

    None where numba cannot be imported. numba's disk cache notices a change of the file that holds the compiled
    function, not of the files it calls into; so that function must close over `checksum`, that of their sources:
    numba keys its cache by what a function closes over. The compiled function releases the GIL and may make no
    array of its own: without numba's counting of references it is a fifth faster. Where no cache folder can be
    written it is compiled for this process only.
    """
    try:
        import numba
        from numba.extending import overload, register_jitable
    except ImportError:
        return None
    with _lock:
        if extract.find_byte not in _registered:
            overload(extract.find_byte)(lambda data, byte, start, end: extract.find_byte_in_array)
            _registered.add(extract.find_byte)
        for module in (extract, *modules):
            for function in vars(module).values():
                ours = isfunction(function) and function.__module__ == module.__name__
                if ours and function not in _registered:
                    register_jitable(function)
                    _registered.add(function)
        function = make(source_checksum(extract, *modules))
        try:
            return numba.njit(signature, nogil=True, _nrt=False, cache=True)(function)
        except (RuntimeError, OSError):  # no folder for the cache, or one that cannot be written
            return numba.njit(signature, nogil=True, _nrt=False)(function)


def locate_all(
    texts: list[str], lenient: bool
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """`extract.locate` for N texts: its status (N,), if from a box (N,), start and end in UTF-8 bytes (N, 2)."""
    import numpy as np

    n = len(texts)
    status, boxed, spans = np.empty(n, np.int8), np.empty(n, np.bool_), np.empty((n, 2), np.int64)
    kernel = _locate_kernel() if is_worth_compiling(texts) else None
    if kernel is not None:
        for_each_slice(texts, lambda rows: (lenient, status[rows], boxed[rows], spans[rows]), kernel)
        return status, boxed, spans
    for row, text in enumerate(texts):
        data = text.encode("utf-8", "surrogatepass")
        status[row], spans[row, 0], spans[row, 1], boxed[row] = locate(data, 0, len(data), lenient)
    return status, boxed, spans


def _make_locate(checksum: int) -> Callable[..., None]:
    def locate_rows(data, starts, lenient, status, boxed, spans):  # type: ignore[no-untyped-def]
        if checksum < 0:
            return
        for row in range(len(status)):
            start = starts[row]
            status[row], low, high, boxed[row] = locate(data, start, starts[row + 1], lenient)
            shift = start if low >= 0 else 0
            spans[row, 0], spans[row, 1] = low - shift, high - shift

    return locate_rows


@cache
def _locate_kernel() -> Callable[..., None] | None:
    return compile_loop(_make_locate, f"void({TEXTS}, boolean, int8[::1], boolean[::1], int64[:, ::1])")
