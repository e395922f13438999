"""9x9 Sudoku: grids from a random search, puzzles dug out of them, and which split owns which grid.

Grids that differ in the names of the digits only count as one: a hash of the grid with its digits renamed (the
first row reads 123456789) names its split, so no two splits share a grid, nor a renamed one. Problem i of a
split comes from `numpy.random.default_rng([9090909, stream of the split, i])` alone.
"""

from hashlib import blake2b

import numpy as np

from envs.sudoku_solver import random_grid, random_puzzle

MAX_BLANKS = 54
"""With 54 blanks nearly every order of digging still leaves one solution; from 57 on few do."""

_STREAMS = {"train": 0, "validation": 1, "test": 2}
_DOMAIN = 9_090_909  # keeps these streams apart from those of any other task
_TENTHS = ("train",) * 8 + ("validation", "test")


def renamed(grid: str) -> str:
    """The grid with its digits renamed in order of appearance, so that the first row reads 123456789."""
    return grid.translate(str.maketrans(grid[:9], "123456789"))


def split_of(grid: str) -> str:
    """The split that owns a solved grid: train 80%, validation 10%, test 10%."""
    digest = blake2b(renamed(grid).encode("ascii"), digest_size=8).digest()
    return _TENTHS[int.from_bytes(digest, "big") % 10]


def draw(
    split: str, index: int, blanks: tuple[int, int], excluded: frozenset[str], *, compiled: bool
) -> tuple[str, str]:
    """(puzzle, solution) number `index` of a split's stream, equal whether compiled or not.

    blanks: (low, high), each number in between equally likely. excluded: grids, as `renamed` gives them, that
    are passed over.
    """
    rng = np.random.default_rng([_DOMAIN, _STREAMS[split], index])
    wanted = int(rng.integers(blanks[0], blanks[1] + 1))
    while True:
        grid = random_grid(rng, 9, compiled=compiled)
        if split_of(grid) != split or renamed(grid) in excluded:
            continue
        puzzle = random_puzzle(rng, grid, wanted, compiled=compiled)
        if puzzle.count("0") == wanted:  # otherwise one solution needs more givens in this order
            return puzzle, grid
