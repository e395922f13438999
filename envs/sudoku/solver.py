"""Random grids and puzzles with one solution: plain functions that numba compiles, and their callers.

A board of size n has n*n cells in reading order, each 0 (blank) or a digit 1 to n. For each row, column and box a bit
mask says which digits it has (bit d - 1 = digit d). The search always continues in the blank with the fewest digits
left to try, the first of several. Compiling takes seconds once; the machine code is kept on disk.
"""

from collections.abc import Callable
from functools import cache
from math import isqrt

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_INTS = "int64[::1]"  # how numba calls `Ints`


def set_givens(cells: Ints, units: Ints, size: int, work: Ints) -> int:
    """Fills the masks and the list of blanks in `work`; returns the number of blanks, or -1 if two givens clash.

    units: for each cell the numbers of its row, column and box, as `_units` makes them. work: the working memory of the
    search, in three parts: for each of the 3n units a mask of its digits; the list of blank cells, at most n*n;
    and for each of these a mask of the digits that are left to try.
    """
    for unit in range(3 * size):
        work[unit] = 0
    blanks = 0
    for cell in range(size * size):
        if cells[cell] == 0:
            work[3 * size + blanks] = cell
            blanks += 1
            continue
        row, column, box = units[3 * cell], units[3 * cell + 1], units[3 * cell + 2]
        bit = 1 << (cells[cell] - 1)
        if (work[row] | work[column] | work[box]) & bit:
            return -1
        work[row] |= bit
        work[column] |= bit
        work[box] |= bit
    return blanks


def choose_blank(units: Ints, size: int, depth: int, blanks: int, work: Ints) -> None:
    """Of the blanks from place `depth` of their list on, swaps the one with the fewest digits left to that place.

    Notes the digits that are left for it. blanks: the length of the list, whose first `depth` cells are filled.
    """
    list_start, digits_start = 3 * size, 3 * size + size * size
    fewest, best_place, best_digits = size + 1, depth, 0
    for place in range(depth, blanks):
        cell = work[list_start + place]
        used = work[units[3 * cell]] | work[units[3 * cell + 1]] | work[units[3 * cell + 2]]
        digits = uncounted = ((1 << size) - 1) & ~used
        number = 0
        while uncounted and number < fewest:
            uncounted &= uncounted - 1  # clears its lowest bit
            number += 1
        if number < fewest:
            fewest, best_place, best_digits = number, place, digits
            if fewest < 2:
                break
    best_cell = work[list_start + best_place]
    work[list_start + best_place] = work[list_start + depth]
    work[list_start + depth] = best_cell
    work[digits_start + depth] = best_digits


def next_digit(left: int, start: int) -> int:
    """The bit of the smallest digit above `start` in the mask `left`, or of the smallest at all if none is above."""
    above = left >> start << start
    if above:
        left = above
    return left & -left  # its lowest bit


def fill(cells: Ints, units: Ints, size: int, starts: Ints, work: Ints) -> int:
    """Fills in the first solution of `cells`, and returns how many cells it filled; -1 and no change if there is none.

    The filled cells are the first in the list of blanks in `work`. starts: for each cell a digit from 0 to n - 1; the
    search first tries the digits above it, then the others. If all are 0, digits are tried in ascending order.
    """
    blanks = set_givens(cells, units, size, work)
    if blanks < 0:
        return -1
    list_start, digits_start = 3 * size, 3 * size + size * size
    depth = 0
    choose_blank(units, size, 0, blanks, work)
    while 0 <= depth < blanks:
        cell = work[list_start + depth]
        row, column, box = units[3 * cell], units[3 * cell + 1], units[3 * cell + 2]
        if cells[cell]:  # back from below: the digit here led to nothing
            bit = 1 << (cells[cell] - 1)
            work[row] ^= bit
            work[column] ^= bit
            work[box] ^= bit
            cells[cell] = 0
        if work[digits_start + depth] == 0:  # all digits have been tried here: back to the cell before
            depth -= 1
            continue
        bit = next_digit(work[digits_start + depth], starts[cell])
        work[digits_start + depth] ^= bit
        work[row] |= bit
        work[column] |= bit
        work[box] |= bit
        while bit:  # counts the cell up from 0 to the digit of the bit
            bit >>= 1
            cells[cell] += 1
        depth += 1
        if depth < blanks:
            choose_blank(units, size, depth, blanks, work)
    return depth


def dig(cells: Ints, units: Ints, size: int, wanted: int, order: Ints, starts: Ints, work: Ints) -> int:
    """Blanks out cells in `order` until `wanted` are blank; returns how many are.

    A cell keeps its digit if a second solution would come up without it.
    """
    list_start = 3 * size
    blanks = 0
    for cell in order:
        if blanks == wanted:
            break
        digit, filled = cells[cell], -1
        # The known solution has `digit` here. A second solution, if there is one, has another digit; it is found if
        # `filled` is not -1.
        for other in range(1, size + 1):
            if other != digit and filled < 0:
                cells[cell] = other
                filled = fill(cells, units, size, starts, work)
        for i in range(filled):  # removes the second solution again
            cells[work[list_start + i]] = 0
        if filled < 0:
            cells[cell] = 0
            blanks += 1
        else:
            cells[cell] = digit
    return blanks


def random_grid(rng: np.random.Generator, size: int) -> str:
    """A random solved grid as n*n digits: the first that a search finds if each cell begins at a random digit."""
    starts = rng.integers(size, size=size * size)
    cells = np.zeros_like(starts)
    _kernels()["fill"](cells, _units(size), size, starts, _workspace(size))
    return _text(cells)


def random_puzzle(rng: np.random.Generator, grid: str, blanks: int) -> str:
    """`grid` with cells blanked out in random order while one solution remains; at most `blanks` of them."""
    size = isqrt(len(grid))
    cells = np.array(list(map(int, grid)), np.int64)
    order = rng.permutation(len(grid))
    starts = np.zeros_like(cells)
    _kernels()["dig"](cells, _units(size), size, blanks, order, starts, _workspace(size))
    return _text(cells)


def _workspace(size: int) -> Ints:
    """The array `work` of the functions above; `set_givens` describes its parts."""
    return np.zeros(3 * size + 2 * size * size, np.int64)


def _text(cells: Ints) -> str:
    return "".join(map(str, cells.tolist()))


@cache
def _units(size: int) -> Ints:
    """For each cell three numbers, of its row (0 to n - 1), its column (n to 2n - 1) and its box (2n to 3n - 1)."""
    box_size = isqrt(size)
    numbers: list[int] = []
    for row in range(size):
        for column in range(size):
            box = row // box_size * box_size + column // box_size
            numbers += [row, size + column, 2 * size + box]
    return np.array(numbers, np.int64)


@cache
def _kernels() -> dict[str, Callable[..., int]]:
    """The compiled functions by name."""
    import numba
    from numba.extending import register_jitable

    from verifiers.kernels.disk_cache import compiled

    for helper in (set_givens, choose_blank, next_digit, fill):
        register_jitable(helper)
    signatures = {  # the types of the arguments, in their order
        fill: f"int64({_INTS}, {_INTS}, int64, {_INTS}, {_INTS})",
        dig: f"int64({_INTS}, {_INTS}, int64, int64, {_INTS}, {_INTS}, {_INTS})",
    }
    return {
        function.__name__: compiled(numba.njit(nogil=True)(function), signature)
        for function, signature in signatures.items()
    }
