r"""Grids of digits in an answer, written in lines, tables, lists, with headings of rows, in bold type or TeX.

`cells_in(answer, size)` reads one; `last_grid(text, size)` finds the last one of a text that marks no answer.
"""

from __future__ import annotations

import re

from verifiers.reading.expressions import spoils
from verifiers.reading.signs import ZERO_WIDTH

_SEPARATORS = (
    r" \t\n\r\v\f|+,:\[\]`\"'${}&~()\-\xab\xbb\u2212\u3001\uff02\uff07\uff0b\uff0c\uff0d\uff3b\uff3d\uff40\uff5c"
    r"\x85\xa0\u1680\u2000-\u200a\u2010-\u201f\u2028\u2029\u202f\u205f\u3000\u2500-\u257f"
)
_PLAIN = re.compile(rf"[\d{_SEPARATORS}]++")
_DIGITS = re.compile(r"\d++")
_TEX = re.compile(
    r"\\(?:begin\{(?:array|tabular)\}\{[clr| ]*+\}|end\{(?:array|tabular)\}"
    r"|(?:begin|end)\{(?:[pbv]?matrix|smallmatrix|aligned|gathered)\}"
    r"|(?:boxed|fbox|mbox|text(?:bf|rm|sf|tt)?|math(?:bf|rm|sf|tt)|left|right|q?quad|hline)(?![A-Za-z])"
    r"|[\\,;:! ()\[\]\n])"
)
_PIECE = re.compile(
    rf"(?P<cells>\d++)|(?P<separator>[{_SEPARATORS}]++)|\b(?:row|r) *+(?P<row>\d{{1,2}})[ *]*+[:|]"
    r"|\bc(?P<column>\d{1,2})\b"
    r"|(?P<word>[A-Za-z]++)|(?P<slash>/)|(?P<end>[.\u3002\uff0e](?=[\s*`\"']*+\Z|\n))"
    r"|(?P<stars>(?<![^ \t\n\r|>])\*++(?![ \t\n\r|:.,<])(?!\Z)|(?<=[^ \t\n\r|>])\*++(?=[ \t\n\r|:.,<]|\Z))",
    re.IGNORECASE,
)
_TITLE = frozenset(
    "here is the so final completed solved answer solution result grid board puzzle sudoku text python".split()
)
"""Words of a title before the grid, "Here is the completed grid:", and languages of a fence, "```text"."""
_REASONS = frozenset(("because", "since"))
"""Words that begin a sentence behind the grid, which is not read: "because each row has 1 to 4"."""
_STRICT = {False: re.compile(r"\d++", re.ASCII), True: re.compile(r"(?:\d{1,2} )*+\d{1,2}", re.ASCII)}
_WITHOUT_WIDTH = dict.fromkeys(map(ord, ZERO_WIDTH))


def cells_in(answer: str, size: int, lenient: bool = True) -> list[int] | None:
    """The numbers of a grid of size * size cells; None if the answer has another count of them, or says anything else.

    Up to size 9 each digit is a cell. Strict: the digits alone, or from size 16 on numbers with one space between.
    """
    if not lenient:
        if not _STRICT[size > 9].fullmatch(answer):
            return None
        cells = [int(cell) for cell in (answer if size < 10 else answer.split(" "))]
        return cells if len(cells) == size * size else None
    if not answer.isascii():
        answer = answer.translate(_WITHOUT_WIDTH)
    digits = _DIGITS.findall(answer)
    if size < 10:
        digits = "".join(digits)
    if len(digits) < size * size:
        return None
    if not _PLAIN.fullmatch(answer):
        return _cells_among_words(answer, size)
    if len(digits) > size * size or (size > 9 and max(map(len, digits)) > 2):
        return None
    return [int(cell) for cell in digits]


def _cells_among_words(answer: str, size: int) -> list[int] | None:
    """`cells_in` with a title, headings, stars, points and slashes behind rows, and a reason behind the grid."""
    answer = _TEX.sub(" ", answer) if "\\" in answer else answer
    wanted, cells, columns, at = size * size, list[int](), 0, 0
    while piece := _PIECE.match(answer, at):  # `finditer` may try a long row of stars from each star
        at, kind = piece.end(), piece.lastgroup
        is_row_end = len(cells) % size == 0
        if kind == "cells":
            if size > 9 and len(piece[0]) > 2:
                return None
            cells += map(int, piece[0] if size < 10 else [piece[0]])
        elif kind == "row":
            if not is_row_end or int(piece["row"]) != len(cells) // size + 1:
                return None
        elif kind == "column":
            columns += 1
            if cells or int(piece["column"]) != columns:
                return None
        elif kind == "word":
            word = piece[0].lower()
            if len(cells) == wanted and word in _REASONS:
                return cells
            if cells or word not in _TITLE:
                return None
        elif kind == "slash":
            if not (is_row_end and 0 < len(cells) < wanted and answer.count("/") == size - 1):
                return None
        elif kind == "end" and not (cells and is_row_end):
            return None
        if len(cells) > wanted:
            return None
    is_whole = at == len(answer) and len(cells) == wanted and columns in (0, size)
    return cells if is_whole else None


_RUN = re.compile(r"(?<![A-Za-z0-9_.])\d[\d \t\n\r|,+\[\]()*`_=/-]*+")
_OTHER = frozenset(("or", "column", "columns", "columns:"))
"""Words of its line by which a grid is left open, or is not written in rows."""
_LABEL = re.compile(r"\b(?:row|r) ?\d{1,2}[ *]*+[:|]", re.IGNORECASE)


def last_grid(text: str, start: int, end: int, size: int) -> tuple[int, int]:
    """(start, end) of the last grid of size * size filled cells in text[start:end]; -1, -1 if there is none.

    A grid with blanks, 0, is a puzzle. One that the words of its line deny or change is no answer: "It is not 4321...".
    """
    without_labels = _LABEL.sub(lambda label: " " * len(label[0]), text)
    found = None
    for run in _RUN.finditer(without_labels, start, end):
        numbers = _DIGITS.findall(run[0])
        cells = "".join(numbers) if size < 10 else numbers
        if len(cells) == size * size and "0" not in cells:
            found = run
    if found is None:
        return -1, -1
    start = found.start()
    end = start + len(found[0].rstrip(" \t\n\r|,+[(*`_=/-"))
    before = text[text.rfind("\n", 0, start) + 1 : start]
    if spoils(before) or not _OTHER.isdisjoint(before.lower().split()) or text[end : end + 1] == "?":
        return -1, -1
    return start, end
