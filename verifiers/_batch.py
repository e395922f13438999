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


def pack(texts: Sequence[str], starts: npt.NDArray[np.int64] | None = None) -> Packed:
    """UTF-8 bytes of all texts in one read-only buffer (uint8), and where each begins: (N + 1,) int64.

    `starts`: where each would begin if every character were one byte, if that is known already.
    """
    import numpy as np

    joined = "".join(texts)
    if joined.isascii():
        raw = joined.encode()
        starts = _starts(texts) if starts is None else starts
    else:
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        raw = b"".join(parts)
        starts = _starts(parts)
    return np.frombuffer(raw or b"\0", np.uint8), starts


def _starts(parts: Sequence[str] | Sequence[bytes]) -> npt.NDArray[np.int64]:
    import numpy as np

    starts = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=starts[1:])
    return starts


def packed_slices(texts: Sequence[str]) -> Iterator[tuple[slice, Packed]]:
    """N texts in slices that end where SLICE_CHARACTERS more characters have been reached: (rows, those packed)."""
    import numpy as np

    starts = _starts(texts)
    cuts = starts.searchsorted(np.arange(SLICE_CHARACTERS, starts[-1], SLICE_CHARACTERS))
    start = 0
    for stop in (*np.unique(cuts).tolist(), len(texts)):
        if start < stop:
            rows = slice(start, stop)
            yield rows, pack(texts[rows], starts[start : stop + 1] - starts[start])
        start = stop


def for_each_slice(texts: Sequence[str], rest: Callable[[slice], tuple], work: Callable[..., object]) -> None:
    """Call `work(data, starts, *rest(rows))` for each packed slice: packed here, one after the other, judged
    in threads."""
    slices = packed_slices(texts)
    workers = min(1 + sum(map(len, texts)) // SLICE_CHARACTERS, MAX_WORKERS, _cpus())
    if workers < 2:
        for rows, packed in slices:
            work(*packed, *rest(rows))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="verifiers") as pool:
        for future in [pool.submit(work, *packed, *rest(rows)) for rows, packed in slices]:
            future.result()


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
