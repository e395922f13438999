"""Where mode `flexible` finds an answer of Countdown or Sudoku if lenient mode found none. Every scan is linear."""

from __future__ import annotations

from verifiers.extract import read_tags
from verifiers.flexible import UNREAD

_DIGITS, _BLANKS = b"0123456789", b" \t"
_IN_EXPRESSION = _DIGITS + _BLANKS + b"+-*/()=."
# An expression begins with a digit or an opening bracket, and ends with a digit or a closing bracket.
_MAY_NOT_BEGIN = _BLANKS + b"+-*/)=."
_MAY_NOT_END = _BLANKS + b"+-*/(=."
_IN_GRID = _DIGITS + _BLANKS + b"|,.+-[]()/_="
"""What a line of a grid may hold: digits, and what stands between cells, `| 4 | 3 | 2 | 1 |`."""


def last_expression(data: bytes, reason: int, low: int, high: int) -> tuple[int, int]:
    """(start, end) of the last run of numbers, signs and brackets with an operation in it; -1, -1 if there is none.

    A run stays in one line. reason: the reason of lenient mode. low, high: where the part that lenient mode judged
    begins and ends; -1 = it judged none, so all text behind a block of reasoning is searched.
    """
    if reason not in UNREAD:
        return -1, -1
    if low < 0:
        low, high = _behind_reasoning(data)
    found = -1, -1
    i = low
    while i < high:
        end = i
        while end < high and data[end] in _IN_EXPRESSION:
            end += 1
        run = data[i:end]
        start = i + len(run) - len(run.lstrip(_MAY_NOT_BEGIN))
        stop = i + len(run.rstrip(_MAY_NOT_END))
        if stop > start + 1 and any(sign in data[start:stop].partition(b"=")[0] for sign in b"+-*/"):
            found = start, stop
        i = end + 1
    return found


def last_grid(data: bytes, reason: int, low: int, high: int) -> tuple[int, int]:
    """(start, end) of the last block of lines that hold only digits and what stands between cells; -1, -1 if none do.

    reason, low, high: as in `last_expression`.
    """
    if reason not in UNREAD:
        return -1, -1
    if low < 0:
        low, high = _behind_reasoning(data)
    start = end = -1
    i, begun = low, False
    while i < high:
        after = data.find(b"\n", i, high)
        after = high if after < 0 else after
        line = data[i:after].strip()
        fits = bool(line) and _is_grid_line(line)
        if fits and any(48 <= byte <= 57 for byte in line):
            if not begun:
                start, begun = i, True
            end = after
        elif not fits:
            begun = False
        i = after + 1
    return start, end


def _behind_reasoning(data: bytes) -> tuple[int, int]:
    """(start, end) of what a completion writes behind its block of reasoning, up to the first end token."""
    end_of_text, end_of_reasoning, *_ = read_tags(data, 0, len(data))
    return end_of_reasoning, end_of_text


def _is_grid_line(line: bytes) -> bool:
    """True if a line has only characters of `_IN_GRID`, apart from a heading such as `Row 2:` or `3 |`."""
    heading = 0
    if line[:1].lower() == b"r":
        heading = 3 if line[:3].lower() == b"row" else 1
    number = line[heading:].lstrip(_BLANKS)
    digits = len(number) - len(number.lstrip(_DIGITS))
    behind = number[digits:].lstrip(_BLANKS)
    rest = line
    if digits in (1, 2) and behind[:1] in (b":", b"|"):
        rest = behind[1:]
    return not rest.translate(None, _IN_GRID)
