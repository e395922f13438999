"""Sudoku of 16 or 81 cells, by bit masks: grids of digits, maybe with blanks, commas or pipes; else READ."""

import numba

from verifiers.kernels.plain import ALONE, LOCATED, MARKS_ONLY, NO_ANSWER, READ, helper, is_space, locate

OK, WRONG, MALFORMED, RULE_BROKEN = 0, 1, 3, 4  # as in `verifiers.verdicts`
CELLS = 81
_POINT, _COMMA, _PIPE = tuple(b".,|")


@helper
def mark(cells, size, masks):
    """Marks every digit in its row, column and box; True if one of these holds a digit twice.

    masks: the digits seen by each row, column and box (bit v for digit v), then, 3 * 9 places on, those seen twice.
    """
    box = 2 if size == 4 else 3
    for unit in range(54):
        masks[unit] = 0
    twice = 0
    for row in range(size):
        for column in range(size):
            value = cells[row * size + column]
            if 1 <= value <= size:
                bit = 1 << value
                for unit in (row, 9 + column, 18 + row // box * box + column // box):
                    twice |= masks[unit] & bit
                    masks[27 + unit] |= masks[unit] & bit
                    masks[unit] |= bit
    return twice != 0


@helper
def read(data, low, high, lenient, cells):
    """How many cells data[low:high] has, the first of which fill `cells`; -1 if it has more than plain separators."""
    count = 0
    for i in range(low, high):
        byte = data[i] + 0
        if 48 <= byte <= 57:
            if count < CELLS:
                cells[count] = byte - 48
            count += 1
        elif not (lenient and (is_space(byte) or byte == _COMMA or byte == _PIPE)):
            return -1
    return count


@numba.njit(nogil=True)
def judge(data, starts, first, lenient, puzzles, puzzle_starts, reason, score, spans, scratch):
    """Fills reason, score and spans of the rows whose completions are data[starts[i]:starts[i + 1]].

    first: the row of the first completion in the batch. puzzles, puzzle_starts: the bytes of all puzzles of the batch.
    The score of a wrong grid is the share of blank cells that clash with no other cell.
    """
    cells, puzzle, masks = scratch[:CELLS], scratch[CELLS : 2 * CELLS], scratch[2 * CELLS :]
    for i in range(len(starts) - 1):
        reason[i] = READ
        begin, finish = puzzle_starts[first + i], puzzle_starts[first + i + 1]
        size = 4 if finish - begin == 16 else 9
        if finish - begin != size * size:
            continue
        legal = True
        for k in range(size * size):
            byte = puzzles[begin + k] + 0
            puzzle[k] = 0 if byte == _POINT else byte - 48
            legal = legal and 0 <= puzzle[k] <= size
        if not legal or mark(puzzle, size, masks):
            continue
        low, high, kind = locate(data, starts[i], starts[i + 1], MARKS_ONLY)
        if kind < 0 or not (lenient or kind == ALONE):
            continue
        if low < 0:
            reason[i], score[i], spans[i, 0], spans[i, 1] = NO_ANSWER, 0.0, -1, -1
            continue
        spans[i, 0], spans[i, 1] = low - starts[i], high - starts[i]
        count = read(data, low, high, lenient, cells)
        if count < 0:
            reason[i] = LOCATED
            continue
        if count != size * size:
            reason[i], score[i] = MALFORMED, 0.0
            continue
        kept = True
        for k in range(size * size):
            kept = kept and (puzzle[k] == 0 or puzzle[k] == cells[k])
        if not kept:
            reason[i], score[i] = RULE_BROKEN, 0.0
            continue
        clashes = mark(cells, size, masks)
        box = 2 if size == 4 else 3
        blanks = right = 0
        for k in range(size * size):
            if puzzle[k] == 0:
                row, column = k // size, k % size
                clash = masks[27 + row] | masks[36 + column] | masks[45 + row // box * box + column // box]
                blanks += 1
                right += 1 <= cells[k] <= size and clash >> cells[k] & 1 == 0
        solved = right == blanks and not clashes
        reason[i], score[i] = (OK, 1.0) if solved else (WRONG, right / blanks)
