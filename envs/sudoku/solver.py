"""Random grids and puzzles with one solution: plain functions that numba compiles, and what calls them.

Cells hold 0 (blank) to n in reading order; rows, columns and boxes are bit masks (bit d - 1 = digit d). The search
always continues in the blank with the fewest digits left, the first such one. Compiling takes seconds once; the machine
code is kept on disk.
"""

import sys
from collections.abc import Callable
from functools import cache
from math import isqrt

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_INTS = "int64[::1]"


def set_givens(cells: Ints, units: Ints, size: int, work: Ints) -> int:
    """Fills the masks and the list of blanks in `work`; returns the number of blanks, or -1 if two givens clash.

    units: for each cell its row, column and box. work: 3n masks of used digits, then n*n blank cells, then for each of
    these a mask of the digits that are left to try.
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
    """Brings the blank with the fewest digits left to place `depth` of the list of blanks, and notes its digits."""
    list_start = 3 * size
    fewest, place, chosen = size + 1, depth, 0
    for i in range(depth, blanks):
        cell = work[list_start + i]
        used = work[units[3 * cell]] | work[units[3 * cell + 1]] | work[units[3 * cell + 2]]
        digits = uncounted = ((1 << size) - 1) & ~used
        number = 0
        while uncounted and number < fewest:
            uncounted &= uncounted - 1  # clears its lowest bit
            number += 1
        if number < fewest:
            fewest, place, chosen = number, i, digits
            if fewest < 2:
                break
    work[list_start + depth], work[list_start + place] = work[list_start + place], work[list_start + depth]
    work[list_start + size * size + depth] = chosen


def next_digit(left: int, start: int) -> int:
    """The bit of the smallest digit in `left` above `start`, else of the smallest one."""
    above = left >> start << start
    if above:
        left = above
    return left & -left


def fill(cells: Ints, units: Ints, size: int, starts: Ints, work: Ints) -> int:
    """Fills in the first solution of `cells`, and returns how many cells it filled; -1 and no change if there is none.

    starts: for each cell the digit (0 to n - 1) above which the search begins there; all 0 for ascending order.
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
        if work[digits_start + depth] == 0:
            depth -= 1
            continue
        bit = next_digit(work[digits_start + depth], starts[cell])
        work[digits_start + depth] ^= bit
        work[row] |= bit
        work[column] |= bit
        work[box] |= bit
        while bit:
            bit >>= 1
            cells[cell] += 1
        depth += 1
        if depth < blanks:
            choose_blank(units, size, depth, blanks, work)
    return depth


def dig(cells: Ints, units: Ints, size: int, wanted: int, order: Ints, starts: Ints, work: Ints) -> int:
    """Blanks out cells of a grid in `order` while one solution remains, up to `wanted`; returns how many these are."""
    blanks = 0
    for cell in order:
        if blanks == wanted:
            break
        digit, filled = cells[cell], -1
        # One solution is known; a second one would have another digit here.
        for other in range(1, size + 1):
            if other != digit and filled < 0:
                cells[cell] = other
                filled = fill(cells, units, size, starts, work)
        for i in range(filled):  # takes a second solution out again
            cells[work[3 * size + i]] = 0
        cells[cell] = digit
        if filled < 0:
            cells[cell] = 0
            blanks += 1
    return blanks


def random_grid(rng: np.random.Generator, size: int) -> str:
    """A solved grid as n*n digits: the first that a search with random beginnings finds on the empty board."""
    starts = rng.integers(size, size=size * size)
    cells = np.zeros_like(starts)
    _kernels()["fill"](cells, _units(size), size, starts, _workspace(size))
    return _text(cells)


def random_puzzle(rng: np.random.Generator, grid: str, blanks: int) -> str:
    """`grid` with cells blanked out in random order while one solution remains; at most `blanks` of them."""
    cells, size = np.array(list(map(int, grid)), np.int64), isqrt(len(grid))
    order, zeros = rng.permutation(len(grid)), np.zeros_like(cells)
    _kernels()["dig"](cells, _units(size), size, blanks, order, zeros, _workspace(size))
    return _text(cells)


def _workspace(size: int) -> Ints:
    """`work` of the functions above; `set_givens` says what stands where."""
    return np.zeros(3 * size + 2 * size * size, np.int64)


def _text(cells: Ints) -> str:
    return "".join(map(str, cells.tolist()))


@cache
def _units(size: int) -> Ints:
    """For each cell the numbers of its row (0 to n - 1), its column (from n on) and its box (from 2n on)."""
    box = isqrt(size)
    cells = ((cell // size, cell % size) for cell in range(size * size))
    return np.array(
        [u for r, c in cells for u in (r, size + c, 2 * size + r // box * box + c // box)], np.int64
    )


@cache
def _kernels() -> dict[str, Callable[..., int]]:
    """The compiled functions by name."""
    from verifiers.batch import compile_loop

    here, kernels = sys.modules[__name__], {}
    for function, further in ((fill, ""), (dig, f"int64, {_INTS}, ")):
        signature = f"int64({_INTS}, {_INTS}, int64, {further}{_INTS}, {_INTS})"
        # All that it calls stands in this file, so numba's cache notices every change without the checksum.
        kernels[function.__name__] = compile_loop(lambda checksum, f=function: f, signature, here)
    return kernels
