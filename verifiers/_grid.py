"""Reading and judging Sudoku grids, as plain Python that numba also compiles as it stands.

A grid is n x n with square boxes, n = 1, 4, 9, 16, 25, 36 or 49. Up to n = 9 every digit is a cell; from n =
16 on a cell is a number, a run of digits that anything but a zero-width character ends. Rows, columns and
boxes are bit masks (bit v = digit v), so n stays below 64.
"""

from verifiers._extract import Bytes
from verifiers._notation import FOREIGN, NOTHING, POINT, classify, decode, skip_tex

Cells = list[int]  # or, where compiled, an array of int64

MAX_SIZE = 49
MAX_CELLS = MAX_SIZE * MAX_SIZE
NOT_A_SIZE, BAD_CHARACTER, BAD_DIGIT, CLASH = -1, -2, -3, -4  # what can be wrong with a puzzle
SOLVED, WRONG, GIVEN_CHANGED = 0, 1, 2  # what can be said of a grid


def read_lenient(data: Bytes, start: int, end: int, size: int, cells: Cells) -> bool:
    """Fill `cells` from an answer in any accepted notation; True if it holds exactly size * size cells."""
    wanted = size * size
    count = width = 0  # width: digits of the number being read, 0 between numbers
    pointed = False
    i = start
    while i < end:
        byte = data[i] + 0
        if byte == 92:
            i = skip_tex(data, i, end)
            if i < 0:
                return False
            width = 0
            continue
        if 48 <= byte <= 57:
            kind = byte - 48
            i += 1
        else:
            code, i = decode(data, i)
            kind = classify(code)
        if 0 <= kind <= 9:
            if width == 2:
                return False
            if width:
                cells[count - 1] = cells[count - 1] * 10 + kind
            elif count == wanted:
                return False
            else:
                cells[count] = kind
                count += 1
            width += 1
        elif kind == POINT:
            if pointed or count < wanted:
                return False
            pointed = True
        elif kind == FOREIGN:
            return False
        if kind != NOTHING and (size < 10 or kind > 9):
            width = 0
    return count == wanted


def read_strict(data: Bytes, start: int, end: int, size: int, cells: Cells) -> bool:
    """Fill `cells` from one line of digits (n > 9: numbers, one space between); True if it is one."""
    wanted = size * size
    if size < 10:
        if end - start != wanted:
            return False
        for offset in range(wanted):
            digit = data[start + offset] - 48
            if not 0 <= digit <= 9:
                return False
            cells[offset] = digit
        return True
    count = width = 0
    for i in range(start, end):
        digit = data[i] - 48
        if 0 <= digit <= 9:
            if width == 2 or (width == 0 and count == wanted):
                return False
            if width:
                cells[count - 1] = cells[count - 1] * 10 + digit
            else:
                cells[count] = digit
                count += 1
            width += 1
        elif data[i] == 32 and width:
            width = 0
        else:
            return False
    return count == wanted


def puzzle_size(digits: int, numbers: int) -> int:
    """n for a puzzle of so many digits in so many runs, or NOT_A_SIZE."""
    for size in (1, 4, 9):
        if digits == size * size:
            return size
    for size in (16, 25, 36, 49):
        if numbers == size * size:
            return size
    return NOT_A_SIZE


def read_puzzle(data: Bytes, start: int, end: int, cells: Cells, masks: Cells) -> int:
    """Fill `cells` (0 = blank) from a puzzle and return its n, or what is wrong with it (a negative code)."""
    digits = numbers = 0
    previous = most = 0
    for i in range(start, end):
        byte = data[i] + 0
        if 48 <= byte <= 57 or byte == 46:
            if digits < MAX_CELLS:
                cells[digits] = max(0, byte - 48)
                most = max(most, byte - 48)
            digits += 1
            if byte == 46 or not 48 <= previous <= 57:
                numbers += 1
        elif byte not in (9, 10, 13, 32, 44, 124):
            return BAD_CHARACTER
        previous = byte
    size = puzzle_size(digits, numbers)
    if size < 0:
        return size
    if size > 9:
        most = read_numbers(data, start, end, cells)
    if most > size:
        return BAD_DIGIT
    return CLASH if fill_masks(cells, size, masks) else size


def read_numbers(data: Bytes, start: int, end: int, cells: Cells) -> int:
    """Fill `cells` from the numbers of a puzzle that has been counted; the greatest, or one too great."""
    count = width = most = 0
    for i in range(start, end):
        byte = data[i] + 0
        digit = byte - 48 if 48 <= byte <= 57 else 0
        if 48 <= byte <= 57 and width:
            if width == 2:
                return MAX_CELLS
            cells[count - 1] = cells[count - 1] * 10 + digit
            width += 1
        elif 48 <= byte <= 57 or byte == 46:
            cells[count] = digit
            count += 1
            width = 0 if byte == 46 else 1
        else:
            width = 0
    for i in range(count):
        most = max(most, cells[i])
    return most


def box_side(size: int) -> int:
    """The square root of n."""
    box = 1
    while box * box < size:
        box += 1
    return box


def fill_masks(cells: Cells, size: int, masks: Cells) -> bool:
    """Mark every digit of a grid in its row, column and box; True if a unit holds one twice.

    `masks` has 6 * size integers: the digits seen by each row, column and box, then those seen twice.
    Blanks and digits beyond n are left out.
    """
    for unit in range(6 * size):
        masks[unit] = 0
    again = 3 * size
    box = box_side(size)
    i = 0
    twice = False
    for row in range(size):
        block = 2 * size + row // box * box
        for stack in range(box):
            first = size + stack * box
            for column in range(first, first + box):
                value = cells[i]
                i += 1
                if 1 <= value <= size:
                    bit = 1 << value
                    in_row, in_column, in_box = (
                        masks[row] & bit,
                        masks[column] & bit,
                        masks[block + stack] & bit,
                    )
                    if in_row | in_column | in_box:
                        twice = True
                        masks[again + row] |= in_row
                        masks[again + column] |= in_column
                        masks[again + block + stack] |= in_box
                    masks[row] |= bit
                    masks[column] |= bit
                    masks[block + stack] |= bit
    return twice


def judge(puzzle: Cells, cells: Cells, size: int, masks: Cells) -> tuple[int, float]:
    """(SOLVED | WRONG | GIVEN_CHANGED, score) of a grid of n x n digits.

    The score of a grid that keeps the givens is the fraction of the puzzle's blank cells that hold a digit
    1..n which no other cell of their row, column and box holds; it is 1 exactly if the grid is solved.
    """
    for i in range(size * size):
        if puzzle[i] and puzzle[i] != cells[i]:
            return GIVEN_CHANGED, 0.0
    complete = not fill_masks(cells, size, masks)
    for i in range(size * size):
        complete = complete and 1 <= cells[i] <= size
    if complete:
        return SOLVED, 1.0
    again = 3 * size
    box = box_side(size)
    blanks = right = i = 0
    for row in range(size):
        block = again + 2 * size + row // box * box
        for stack in range(box):
            first = again + size + stack * box
            for column in range(first, first + box):
                value, given = cells[i], puzzle[i]
                i += 1
                if given == 0:
                    blanks += 1
                    clash = masks[again + row] | masks[column] | masks[block + stack]
                    if 1 <= value <= size and not clash & (1 << value):
                        right += 1
    return WRONG, right / blanks


COMPILED = (
    read_lenient,
    read_strict,
    puzzle_size,
    read_puzzle,
    read_numbers,
    box_side,
    fill_masks,
    judge,
)
