"""Mode `flexible` for Sudoku: the last grid of a completion that marks no answer. Every scan is linear."""

from __future__ import annotations

from verifiers.characters import BEYOND_ASCII, says_one_of
from verifiers.extract import word_keys
from verifiers.flexible.answer import searched

_DIGITS, _BLANKS, _EMPHASIS = b"0123456789", b" \t", b"*`"
_IN_GRID = _DIGITS + _BLANKS + b"|,.+-[]()/_="
"""What a line of a grid may hold: digits, and what stands between cells, `| 4 | 3 | 2 | 1 |`."""
_BETWEEN_IN_ONE_LINE = _BLANKS + b"|,-[]()/"
_IN_ONE_LINE = _DIGITS + _BETWEEN_IN_ONE_LINE
"""What a grid behind words, all in one line, may hold: "The answer is 4321 1243 3412 2134."."""
_AROUND_GRID = _BLANKS + b"*`$\"'"
"""What may stand around such a grid: a blank, bold type, quotes."""
_LARGEST_DIGITS = {16: ord("4"), 81: ord("9")}
"""{cells of a grid in one line: its largest digit}. A grid with blank cells, `0`, is a puzzle and no answer."""
_DENIALS = word_keys("not no never cannot t wrong incorrect impossible or column columns")
"""Words of a line whose grid is no answer, t as in "isn't"; "or" leaves it open, and columns are not rows."""


def last_grid(data: bytes, reason: int, low: int, high: int) -> tuple[int, int]:
    """(start, end) of the last block of lines that hold only digits and what stands between cells.

    A line that ends in a whole grid is such a block, too. (-1, -1) if the text has no such block. reason, low, high:
    the reason of lenient mode, and where the text begins and ends that lenient mode judged (-1 = nowhere).
    """
    i, high = searched(data, reason, low, high)
    start = end = -1
    begun = False
    while i < high:
        after = data.find(b"\n", i, high)
        after = high if after < 0 else after
        line = data[i:after].strip()
        fits = _is_grid_line(line)
        # A line that fits but has no digit, such as `---+---`, neither begins nor ends a block.
        if fits and any(byte in _DIGITS for byte in line):
            if not begun:
                start, begun = i, True
            end = after
        elif not fits:
            begun = False
            grid_start, grid_end = _grid_behind_words(data, i, after)
            if grid_start >= 0:
                start, end = grid_start, grid_end
        i = after + 1
    return start, end


def _is_grid_line(line: bytes) -> bool:
    """True if a line has only characters of `_IN_GRID`, stars and backticks, and maybe a heading before them.

    A heading is a number of one or two digits, alone or behind `Row` or `R`, with `:` or `|` behind it: `Row 2:`,
    `r2:`, `3 |`.
    """
    line = line.translate(None, _EMPHASIS).strip()
    word_length = 0  # of `Row` or `R`
    if line[:1].lower() == b"r":
        word_length = 3 if line[:3].lower() == b"row" else 1
    number = line[word_length:].lstrip(_BLANKS)
    num_digits = len(number) - len(number.lstrip(_DIGITS))
    behind = number[num_digits:].lstrip(_BLANKS)
    rest = line
    if num_digits in (1, 2) and behind[:1] in (b":", b"|"):
        rest = behind[1:]
    return bool(line) and not rest.translate(None, _IN_GRID)


def _grid_behind_words(data: bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the whole grid that ends the line data[start:end], apart from a stop and stars; or -1, -1."""
    line = data[start:end].rstrip(_AROUND_GRID + b".\r")
    words = line.rstrip(_IN_ONE_LINE)
    grid = line[len(words) :].lstrip(_BLANKS)
    first = len(line) - len(grid)
    digits = grid.translate(None, _BETWEEN_IN_ONE_LINE)
    largest = _LARGEST_DIGITS.get(len(digits))
    is_filled = largest is not None and ord("1") <= min(digits) and max(digits) <= largest
    # `x4321` is a name. A character beyond ASCII may stand right before a grid, since Chinese has no blanks there.
    is_apart = first == 0 or line[first - 1] in _AROUND_GRID + b":=" or line[first - 1] >= BEYOND_ASCII
    if not (is_filled and is_apart) or says_one_of(data, start, start + first, _DENIALS):
        return -1, -1
    return start + first, start + len(line)
