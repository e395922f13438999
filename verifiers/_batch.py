"""Many strings as one byte buffer, and work on them in threads, slice by slice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Packed = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]

# Worth a thread; a larger buffer is new pages from the system every time, at three times the cost.
SLICE_CHARACTERS = 1 << 17
MAX_WORKERS = 8


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


def pack(texts: Sequence[str]) -> Packed:
    """UTF-8 bytes of all texts in one read-only buffer (uint8), and where each begins: (N + 1,) int64."""
    import numpy as np

    joined = "".join(texts)
    parts: Sequence[str | bytes] = texts
    if joined.isascii():
        raw = joined.encode()
    else:
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        raw = b"".join(parts)  # type: ignore[arg-type]
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=offsets[1:])
    return np.frombuffer(raw or b"\0", np.uint8), offsets


def slices(texts: Sequence[str]) -> Iterator[slice]:
    """Cut N texts into slices of about SLICE_CHARACTERS characters, one text at least."""
    import numpy as np

    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    start, done = 0, 0
    while start < len(texts):
        stop = max(start + 1, int(np.searchsorted(ends, done + SLICE_CHARACTERS, side="right")))
        yield slice(start, stop)
        start, done = stop, int(ends[stop - 1])


def for_each_slice(
    texts: Sequence[str], prepare: Callable[[slice], tuple], work: Callable[..., object]
) -> None:
    """Call `work(*prepare(rows))` for each slice: `prepare` here, one after the other, `work` in threads."""
    parts = list(slices(texts))
    workers = min(len(parts), MAX_WORKERS, _cpus())
    if workers < 2:
        for rows in parts:
            work(*prepare(rows))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="verifiers") as pool:
        for future in [pool.submit(work, *prepare(rows)) for rows in parts]:
            future.result()


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
