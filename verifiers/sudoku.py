"""Sudoku of any square size: does this grid solve that puzzle, whatever solution was stored for it?

Reference: `puzzle`, a string of n * n cells in reading order, `0` or `.` for a blank. n = 1, 4 or 9: one
digit per cell; n = 16, 25, 36 or 49: numbers with white space, commas or pipes between. See
docs/verifiers/sudoku.md.

The functions without an underscore are plain Python that numba also compiles as it stands. Up to n = 9 every digit
of an answer is a cell. From n = 16 on a cell is a run of digits, which ends at any character that is not of zero
width. Rows, columns and boxes are bit masks (bit v = digit v), so n stays below 64.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from verifiers import batch, characters
from verifiers.characters import (
    BACKSLASH,
    BEYOND_ASCII,
    COLON,
    NEWLINE,
    RIGHT_BRACE,
    SLASH,
    SPACE,
    STAR,
    decimal_digit,
    decode,
    is_one_of,
    read_word,
    rows,
)
from verifiers.errors import invalid_reference
from verifiers.extract import ANY_CASE, FOUND, Bytes, is_space, locate, word_key, word_keys
from verifiers.sudoku_flaw import explain
from verifiers.sudoku_unmarked import last_grid
from verifiers.verdicts import GRAMMAR, MALFORMED, OK, RULE_BROKEN, TEXT, WRONG, encoded

Cells = list[int]  # or, where compiled, an array of int64
References = tuple[Bytes, tuple[int, ...]]  # all puzzles, and where each begins and the last one ends

_PIPE = ord("|")
SIZE_LIMIT = 49  # the largest n
CELLS_LIMIT = SIZE_LIMIT * SIZE_LIMIT
_WIDTH_LIMIT = 2  # digits of a number in a cell
INVALID = -1  # the size of a text that is no puzzle
SEPARATOR, NOTHING, POINT, BLANK, FOREIGN = range(10, 15)  # kinds of characters; 0..9 is a digit
PUZZLE, STRICT, LENIENT = range(3)  # notations of grids; see `read_cells`

_TEX_WORDS = word_keys(
    "boxed fbox mbox text textbf textrm textsf texttt mathbf mathrm mathsf mathtt left right quad qquad hline"
)
r"""Commands that may stand around a grid or in it: `\boxed{\text{4321}}`."""
_TEX_BEGIN, _TEX_END = word_key("begin"), word_key("end")
_TEX_TABLES = word_keys("array tabular")
r"""Environments behind whose name braces list the columns: `\begin{array}{cccc}`."""
_TEX_FRAMES = word_keys("matrix pmatrix bmatrix vmatrix smallmatrix aligned gathered")
r"""Environments without such a list: `\begin{matrix}`."""
_TEX_COLUMNS = tuple(b"{clr| ")
"""What stands in such a list before the brace that closes it."""
_TEX_SIGNS = tuple(b"\\,;:! ()[]\n")
"""Signs that may follow a backslash in a grid: two backslashes end a row."""

_ROW, _COLUMN = word_keys("row r"), word_keys("c")
"""The words in the headings of rows, "Row 2:", and of columns, "C1 C2 C3 C4"."""
_REASONS = word_keys("because since")
"""Words that begin a sentence behind the grid, which is not read: "because each row has 1 to 4"."""
_TITLE = word_keys(
    "here is the so final completed solved answer solution result grid board puzzle sudoku text python"
)
"""Words of a title before the grid, "Here is the completed grid:", and languages of a fence, "```text"."""
_OPENERS = tuple(b" \t\n\r|>")
_CLOSERS = tuple(b" \t\n\r|:.,<")
"""Signs that may stand before asterisks that open bold type (`_OPENERS`), or behind asterisks that close it."""

_ASCII_KINDS = {
    **dict.fromkeys(b" \t\n\v\f\r|+-,:[]`\"'${}&~", SEPARATOR),
    **{ord("."): POINT},
    **{48 + digit: digit for digit in range(10)},
}
_ASCII = bytes(_ASCII_KINDS.get(byte, FOREIGN) for byte in range(128))
# Characters beyond ASCII that are no digits, in rows (first, last, kind).
_WIDE = (
    *rows(POINT, characters.IDEOGRAPHIC_STOP, 0xFF0E),
    *rows(NOTHING, *characters.ZERO_WIDTH),
    *rows(SEPARATOR, *characters.SPACES, *characters.THIN_SPACES),
    # Line ends, dashes, quotes, fullwidth forms of the ASCII ones.
    *rows(
        SEPARATOR, 0xAB, 0xBB, 0x2212, 0x3001, 0xFF02, 0xFF07, 0xFF0B, 0xFF0C, 0xFF0D, 0xFF3B, 0xFF3D, 0xFF40
    ),
    *((0x2010, 0x201F, SEPARATOR), (0x2500, 0x257F, SEPARATOR), (0xFF5C, 0xFF5C, SEPARATOR)),
)


def _no_cells() -> Cells:
    return [0] * CELLS_LIMIT


@dataclass(slots=True)
class Scratch:
    """Memory for one verdict: the grid of the answer, the grid of the puzzle, and the masks of `fill_masks`."""

    cells: Cells = field(default_factory=_no_cells)
    puzzle: Cells = field(default_factory=_no_cells)
    masks: Cells = field(default_factory=lambda: [0] * (6 * SIZE_LIMIT))


# What the message about an invalid puzzle says of it.
_A_PUZZLE = (
    "is no puzzle that can be solved: 1, 16 or 81 digits, or 256, 625, 1296 or 2401 numbers with spaces, commas or "
    "pipes between, 0 or . for a blank, no digit above n and none twice in a row, column or box"
)


def classify(code: int) -> int:
    """The kind of a character in a lenient answer: its digit, or SEPARATOR, NOTHING, POINT, FOREIGN."""
    if code < 0x80:
        return _ASCII[code] + 0  # `verifiers.extract` says why a zero is added
    for first, last, kind in _WIDE:
        if first <= code <= last:
            return kind
    digit = decimal_digit(code)
    return digit if digit >= 0 else FOREIGN


def skip_tex(data: Bytes, i: int, end: int) -> int:
    """Position after the TeX command whose backslash stands before i; -1 if a grid may not have that command."""
    key, after = read_word(data, i, end)
    if key == 0:
        return i + 1 if i < end and data[i] in _TEX_SIGNS else -1
    if key != _TEX_BEGIN and key != _TEX_END:
        return after if key in _TEX_WORDS else -1
    name, after = read_word(data, after + 1, end)  # behind what should be a brace; it is not checked
    table = name in _TEX_TABLES
    closed = after < end and data[after] == RIGHT_BRACE
    after += 1
    if table and key == _TEX_BEGIN:
        while after < end and data[after] in _TEX_COLUMNS:
            after += 1
        closed = closed and after < end and data[after] == RIGHT_BRACE
        after += 1
    return after if closed and (table or name in _TEX_FRAMES) else -1


def read_writing(
    data: Bytes, start: int, i: int, end: int, size: int, count: int, kind: int
) -> tuple[int, int]:
    """(SEPARATOR, position after it) of the writing that begins with the character before i; FOREIGN if no grid has it.

    Writing is what is neither a cell nor a separator. kind: of that character, POINT or FOREIGN. count: how many cells
    stand before the writing. A point may end a row, "Row 1: 4 3 2 1.". Slashes may stand between rows, "4321 / 1243 /
    3412 / 2134". Words and asterisks are left to `skip_writing`.
    """
    if kind == POINT:
        is_last_cell_of_row = count > 0 and count % size == 0
        ends_line_or_grid = count == size * size or (i < end and data[i] == NEWLINE)
        return (SEPARATOR if is_last_cell_of_row and ends_line_or_grid else FOREIGN), i
    if data[i - 1] == SLASH and 0 < count < size * size and count % size == 0:
        slashes = 0
        for place in range(start, end):
            slashes += data[place] == SLASH
        if slashes == size - 1:
            return SEPARATOR, i
    if data[i - 1] < BEYOND_ASCII:
        after = skip_writing(data, start, i - 1, end, size, count)
        if after >= 0:
            return SEPARATOR, after
    return FOREIGN, i


def skip_writing(data: Bytes, start: int, i: int, end: int, size: int, count: int) -> int:
    """Position after the writing at i, where `count` cells have been read, if a grid may have it there; else -1.

    A grid may have bold type, and "Row 2:" where its second row begins. Before the first cell it may have a title, the
    language of a fence, or the headings of all columns, "C1 C2 C3 C4". Behind the last cell a sentence may say why.
    """
    if data[i] == STAR:
        return skip_stars(data, start, i, end)
    key, after = read_word(data, i, end, ANY_CASE)
    if is_one_of(key, _ROW):
        return skip_label(data, after, end, count // size + 1) if count % size == 0 else -1
    if count == size * size and is_one_of(key, _REASONS):
        return end
    if count == 0 and is_one_of(key, _COLUMN):
        return skip_columns(data, i, end, size)
    return after if count == 0 and is_one_of(key, _TITLE) else -1


def skip_columns(data: Bytes, i: int, end: int, size: int) -> int:
    """Position after the headings "C1 C2 C3 C4" or "C1 | C2 | C3 | C4" of all columns; -1 if they are not all there."""
    number = 1
    while number <= size:
        while i < end and (is_space(data[i]) or data[i] == _PIPE):
            i += 1
        key, after = read_word(data, i, end, ANY_CASE)
        value, i = 0, after
        while i < end and 48 <= data[i] <= 57 and value < 100:
            value = value * 10 + data[i] - 48
            i += 1
        if not is_one_of(key, _COLUMN) or value != number:
            return -1
        number += 1
    return i


def skip_stars(data: Bytes, start: int, i: int, end: int) -> int:
    """Position after the stars at i if they open or close bold type, else -1."""
    opens = i == start or data[i - 1] in _OPENERS
    while i < end and data[i] == STAR:
        i += 1
    closes = i == end or data[i] in _CLOSERS
    return i if opens != closes else -1


def skip_label(data: Bytes, i: int, end: int, number: int) -> int:
    """Position after the `2:`, `2 |` or `2 **:` of "Row 2:" if the row's number is `number`, else -1."""
    while i < end and data[i] == SPACE:
        i += 1
    value = 0
    while i < end and 48 <= data[i] <= 57 and value < 100:
        value = value * 10 + data[i] - 48
        i += 1
    while i < end and (data[i] == SPACE or data[i] == STAR):
        i += 1
    closed = i < end and (data[i] == COLON or data[i] == _PIPE)
    return i + 1 if closed and value == number else -1


def read_cells(data: Bytes, start: int, end: int, size: int, cells: Cells, notation: int) -> bool:
    """Fill `cells` from a grid in one of the notations; True if it holds exactly size * size cells.

    STRICT is one line of digits (n > 9: numbers with one space between). LENIENT is any accepted notation. PUZZLE is a
    reference whose cells `read_puzzle` has counted; none of them may be greater than n.
    """
    wanted = size * size
    count = width = 0  # width: digits of the number being read, 0 between numbers
    i = start
    while i < end:
        byte = data[i] + 0
        i += 1
        if 48 <= byte <= 57:  # a digit
            kind = byte - 48
            if size < 10:  # a digit is a cell, as in most grids, which need nothing of what follows
                if count == CELLS_LIMIT or (notation == PUZZLE and kind > size):
                    return False
                cells[count] = kind
                count += 1
                continue
        elif notation == LENIENT and byte == BACKSLASH:
            i = skip_tex(data, i, end)
            kind = SEPARATOR if i >= 0 else FOREIGN
        elif notation == LENIENT:
            code, i = decode(data, i - 1)
            kind = classify(code)
            if kind >= POINT:
                kind, i = read_writing(data, start, i, end, size, count, kind)
        elif notation == PUZZLE:
            kind = BLANK if byte == 46 else SEPARATOR  # a point is a blank
        else:
            kind = SEPARATOR if byte == 32 and width and size > 9 else FOREIGN
        if kind <= 9:
            if width == _WIDTH_LIMIT:
                return False
            if width:
                cells[count - 1] = cells[count - 1] * 10 + kind
            elif count == CELLS_LIMIT:
                return False
            else:
                cells[count] = kind
                count += 1
            width += 1
            if notation == PUZZLE and cells[count - 1] > size:
                return False
        elif kind == BLANK:
            cells[count] = 0
            count += 1
        elif kind == FOREIGN:
            return False
        # The number ends. Up to n = 9, every digit ends it; the digits that come here are beyond ASCII.
        if kind != NOTHING and (size < 10 or kind > 9):
            width = 0
    return count == wanted


def read_puzzle(data: Bytes, start: int, end: int, cells: Cells, masks: Cells) -> int:
    """Fill `cells` (0 = blank) from a puzzle and return its n, or INVALID."""
    digits = numbers = previous = 0
    for i in range(start, end):
        byte = data[i] + 0
        if 48 <= byte <= 57 or byte == 46:  # a digit, or a point for a blank
            digits += 1
            if byte == 46 or not 48 <= previous <= 57:
                numbers += 1
        elif byte not in (9, 10, 13, 32, 44, 124):  # white space, commas and pipes
            return INVALID
        previous = byte
    for size in (1, 4, 9, 16, 25, 36, 49):
        if size * size == (digits if size < 10 else numbers):
            valid = read_cells(data, start, end, size, cells, PUZZLE) and not fill_masks(cells, size, masks)
            return size if valid else INVALID
    return INVALID


def fill_masks(cells: Cells, size: int, masks: Cells) -> bool:
    """Mark every digit of a grid in its row, column and box; True if one of these units holds a digit twice.

    `masks` has 6 * size integers: the digits seen by each row, column and box, then those seen twice.
    Blanks and digits beyond n are left out.
    """
    for unit in range(6 * size):
        masks[unit] = 0
    seen_twice = 3 * size  # where the masks of digits seen twice begin
    box = int(size**0.5)
    i = 0
    twice = False
    for row in range(size):
        first_box = 2 * size + row // box * box  # the place in `masks` of the first box that this row crosses
        for stack in range(box):
            first_column = size + stack * box  # the place of the first column of the row's box number `stack`
            for column in range(first_column, first_column + box):
                value = cells[i]
                i += 1
                if 1 <= value <= size:
                    bit = 1 << value
                    if (masks[row] | masks[column] | masks[first_box + stack]) & bit:
                        twice = True
                        masks[seen_twice + row] |= masks[row] & bit
                        masks[seen_twice + column] |= masks[column] & bit
                        masks[seen_twice + first_box + stack] |= masks[first_box + stack] & bit
                    masks[row] |= bit
                    masks[column] |= bit
                    masks[first_box + stack] |= bit
    return twice


def grade(puzzle: Cells, cells: Cells, size: int, masks: Cells) -> tuple[int, float]:
    """(OK | WRONG | RULE_BROKEN, score) of a grid of n x n digits. RULE_BROKEN: a given digit was changed.

    Otherwise the score is the fraction of the puzzle's blank cells that hold a digit 1..n which no other cell of their
    row, column and box holds; the score is 1 exactly if the grid is solved.
    """
    for i in range(size * size):
        if puzzle[i] and puzzle[i] != cells[i]:
            return RULE_BROKEN, 0.0
    complete = not fill_masks(cells, size, masks)
    for i in range(size * size):
        complete = complete and 1 <= cells[i] <= size
    if complete:
        return OK, 1.0
    seen_twice = 3 * size
    box = int(size**0.5)
    blanks = right = i = 0
    for row in range(size):
        first_box = seen_twice + 2 * size + row // box * box
        for stack in range(box):
            first_column = seen_twice + size + stack * box
            for column in range(first_column, first_column + box):
                value, clue = cells[i], puzzle[i]
                i += 1
                if clue == 0:
                    blanks += 1
                    # `column` and `first_box` count from `seen_twice` on, too.
                    clash = masks[seen_twice + row] | masks[column] | masks[first_box + stack]
                    if 1 <= value <= size and not clash & (1 << value):
                        right += 1
    return WRONG, right / blanks


def judge_completion(
    data: Bytes, start: int, end: int, lenient: bool, references: References, row: int, scratch: Scratch
) -> batch.Judged:
    """The verdict on data[start:end]; its reason is INVALID if the reference is no puzzle. See `batch.RowLoop`."""
    puzzles, firsts = references
    cells, puzzle, masks = scratch.cells, scratch.puzzle, scratch.masks
    size = read_puzzle(puzzles, firsts[row], firsts[row + 1], puzzle, masks)
    if size < 0:
        return INVALID, TEXT, 0.0, -1, -1
    status, low, high, boxed = locate(data, start, end, lenient)
    if status != FOUND:
        return status, TEXT, 0.0, low, high
    notation = LENIENT if lenient else STRICT
    is_forbidden_box = boxed and not lenient  # in strict mode, the grid itself stands in the `<answer>` block
    if is_forbidden_box or not read_cells(data, low, high, size, cells, notation):
        return MALFORMED, GRAMMAR, 0.0, low, high
    reason, score = grade(puzzle, cells, size, masks)
    return reason, GRAMMAR, score, low, high


def _judge(data: bytes, lenient: bool, row: int | None, scratch: Scratch, puzzle: object) -> batch.Judged:
    """One completion without numba; raises for an invalid puzzle."""
    raw = encoded(_puzzle_text(puzzle, row))
    references, only_row = (raw, (0, len(raw))), 0
    judged = judge_completion(data, 0, len(data), lenient, references, only_row, scratch)
    reason = judged[0]
    if reason == INVALID:
        raise invalid_reference("puzzle", puzzle, _A_PUZZLE, row)
    return judged


def _puzzle_text(puzzle: object, row: int | None) -> str:
    if not isinstance(puzzle, str):
        raise invalid_reference("puzzle", puzzle, "is no string such as '0310200404001043'", row)
    return puzzle


_LOOP = batch.RowLoop(
    judge_completion,
    references=batch.TEXTS,
    scratch=Scratch,
    modules=(characters, sys.modules[__name__]),
)
TASK = batch.compiled_task(
    "sudoku", ("puzzle",), _LOOP, _judge, batch.pack_texts(_puzzle_text), explain, flexible=last_grid
)
