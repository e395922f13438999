"""What mode `flexible` judges of Countdown and Sudoku where lenient mode reads no answer. Every scan is linear."""

from __future__ import annotations

import re

from verifiers.extract import read_tags
from verifiers.flexible import UNREAD

_EXPRESSION = re.compile(rb"[0-9(][0-9+\-*/() \t=.]*[0-9)]")
_GRID_LINE = re.compile(
    rb"[ \t]*(?:(?:row|r)?[ \t]*[0-9]{1,2}[ \t]*[:|])?[0-9 \t|,.+\-\[\]()/_=]*", re.IGNORECASE
)


def last_expression(data: bytes, reason: int, low: int, high: int) -> tuple[int, int]:
    """(start, end) of the last line's last text of numbers, signs and brackets that calculates, or -1s.

    reason, low, high: what lenient mode says of the completion, and of which part of it.
    """
    if reason not in UNREAD:
        return -1, -1
    if low < 0:
        high, low = read_tags(data, 0, len(data))[:2]
    found = -1, -1
    for match in _EXPRESSION.finditer(data, low, high):
        if any(sign in match[0].partition(b"=")[0] for sign in b"+-*/"):
            found = match.span()
    return found


def last_grid(data: bytes, reason: int, low: int, high: int) -> tuple[int, int]:
    """(start, end) of the last lines, one below the other, that hold digits and what stands between cells, or -1s.

    reason, low, high: what lenient mode says of the completion, and of which part of it.
    """
    if reason not in UNREAD:
        return -1, -1
    if low < 0:
        high, low = read_tags(data, 0, len(data))[:2]
    start = end = -1
    i, begun = low, False
    while i < high:
        after = data.find(b"\n", i, high)
        after = high if after < 0 else after
        line = data[i:after].strip()
        fits = bool(line) and _GRID_LINE.fullmatch(line) is not None
        if fits and any(48 <= byte <= 57 for byte in line):
            start, end, begun = (start if begun else i), after, True
        elif not fits:
            begun = False
        i = after + 1
    return start, end
