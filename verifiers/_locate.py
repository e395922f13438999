"""The extraction rule over many completions: `_extract.locate` for each, compiled where a batch is worth it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from verifiers import _batch, _compile, _extract
from verifiers._extract import locate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PLAIN_CHARACTERS = 1 << 20
_SIGNATURE = (
    "void(Array(uint8, 1, 'C', readonly=True), int64[::1], boolean, int8[::1], boolean[::1], int64[:, ::1])"
)


def locate_all(
    texts: list[str], lenient: bool
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """(FOUND or why not (N,), if it is from a box (N,), start and end in UTF-8 bytes (N, 2)) of all answers."""
    import numpy as np

    n = len(texts)
    found, boxed = np.empty(n, np.int8), np.empty(n, np.bool_)
    spans = np.empty((n, 2), np.int64)
    kernel = None
    if _compile.is_worthwhile(texts, _PLAIN_CHARACTERS):
        kernel = _kernel()
    if kernel is None:
        for row, text in enumerate(texts):
            data = text.encode("utf-8", "surrogatepass")
            found[row], spans[row, 0], spans[row, 1], boxed[row] = locate(data, 0, len(data), lenient)
        return found, boxed, spans

    def rest(rows: slice) -> tuple:
        return lenient, found[rows], boxed[rows], spans[rows]

    _batch.for_each_slice(texts, rest, kernel)
    return found, boxed, spans


def _make_kernel(mark: int) -> Callable[..., None]:
    """The loop over rows, to be compiled; it closes over `mark` for the sake of numba's cache."""

    def locate_rows(data, starts, lenient, found, boxed, spans):  # type: ignore[no-untyped-def]
        if mark < 0:
            return
        for row in range(len(found)):
            start = starts[row]
            found[row], low, high, boxed[row] = locate(data, start, starts[row + 1], lenient)
            shift = start if low >= 0 else 0
            spans[row, 0], spans[row, 1] = low - shift, high - shift

    return locate_rows


@cache
def _kernel() -> Callable[..., None] | None:
    """The compiled row loop, or None where numba cannot be imported."""
    if not _compile.numba_is_there():
        return None
    import sys

    mark = _compile.stamp(_extract, sys.modules[__name__])
    return _compile.compile_rows(_make_kernel, _SIGNATURE, (), mark)
