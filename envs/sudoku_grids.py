"""The 288 solved 4x4 Sudoku grids, which split owns which of them, and how puzzles are cut out of them.

A grid is known by its rank: its place among all 288 when written as 16 digits and sorted. Splits share no
grid, so a model cannot have seen the answer to an evaluation puzzle. Puzzles are drawn with private streams
of `numpy.random.default_rng`, keyed by split and index, and always have exactly one solution.
"""

from functools import cache
from itertools import permutations, product

import numpy as np

from envs.errors import EnvError

TEST_RANKS = (
    5, 9, 12, 13, 25, 27, 30, 31, 32, 33, 35, 43, 47, 48, 55, 56, 57, 67, 71, 74, 75, 80,
    82, 86, 89, 91, 94, 99, 101, 102, 104, 105, 107, 110, 111, 114, 116, 118, 121, 131, 132, 133,
    134, 135, 137, 138, 146, 149, 151, 152, 153, 156, 157, 163, 164, 166, 167, 174, 183, 186, 188, 190,
    192, 195, 197, 200, 203, 205, 214, 216, 217, 219, 220, 221, 222, 224, 229, 234, 236, 238, 243, 245,
    253, 256, 265, 273, 274, 276,
)  # fmt: skip
"""Ranks of the 88 grids that solve the 256 test puzzles of SPG (arXiv:2510.09541)."""

PAPER_BLANKS = {7: 82, 8: 83, 9: 76, 11: 12, 12: 3}
"""How many of the papers' 256 test puzzles have how many blanks."""

MAX_BLANKS = 12
"""No 4x4 puzzle with fewer than four givens has a single solution; every grid has one with four."""

SPLIT_SIZES = {"train": 1_000_000, "validation": 256, "test": 256}
_STREAMS = {"train": 0, "validation": 1, "test": 4}
_DOMAIN = 4_040_404  # keeps these streams apart from those of any other task
_ALL_CELLS = (1 << 16) - 1
_MAX_TRIES = 10_000  # of 20 grids with one blank, 320 puzzles, the last of 256 takes some 20


@cache
def grids() -> tuple[str, ...]:
    """All 288 solved grids as 16 digits, row by row, sorted."""
    rows = list(permutations("1234"))
    pairs = [(a, b) for a, b in product(rows, rows) if set(a[:2]) == set(b[2:]) and set(a[2:]) == set(b[:2])]
    found = []
    for (a, b), (c, d) in product(pairs, pairs):
        if all(len({a[k], b[k], c[k], d[k]}) == 4 for k in range(4)):
            found.append("".join(a + b + c + d))
    return tuple(sorted(found))


@cache
def split_ranks(excluded: frozenset[str] = frozenset()) -> dict[str, tuple[int, ...]]:
    """The ranks of each split: test 88, validation every tenth of the 200 others, train the remaining 180.

    excluded: grids that train and validation go without.
    """
    others = [rank for rank in range(288) if rank not in set(TEST_RANKS)]
    ranks = {"train": [], "validation": [], "test": list(TEST_RANKS)}
    for place, rank in enumerate(others):
        if grids()[rank] not in excluded:
            ranks["train" if place % 10 else "validation"].append(rank)
    return {split: tuple(left) for split, left in ranks.items()}


def ranks_left(split: str, excluded: frozenset[str]) -> tuple[int, ...]:
    """The ranks of one split without the excluded grids; raises EnvError if there is none."""
    ranks = split_ranks(excluded)[split]
    if not ranks:
        raise EnvError(
            f"sudoku: every grid of {split} solves a puzzle of the file, so no problem is left for {split}. "
            "Give a file with fewer different solutions, or --env-args source=generated."
        )
    return ranks


@cache
def _differences() -> np.ndarray:
    """(288, 288) uint16: bit c of [g, h] is set where grids g and h differ in cell c."""
    digits = np.array([list(grid) for grid in grids()])
    return ((digits[:, None] != digits[None]) << np.arange(16)).sum(-1).astype(np.uint16)


def solutions(puzzle: str) -> list[str]:
    """Every grid that solves `puzzle`, sorted. puzzle: 16 digits, row by row, 0 = blank."""
    return [grid for grid in grids() if all(p in ("0", g) for p, g in zip(puzzle, grid, strict=True))]


def cut(rng: np.random.Generator, rank: int, blanks: int) -> str:
    """Blanks out `blanks` cells of a grid, uniform among the choices that leave exactly one solution."""
    differences = _differences()[rank]
    while True:
        hidden = rng.permutation(16)[:blanks].tolist()
        given = _ALL_CELLS
        for cell in hidden:
            given ^= 1 << cell
        # A grid agrees with all givens exactly when no cell where it differs is given; itself always does.
        if np.count_nonzero(differences & np.uint16(given)) == len(differences) - 1:
            cells = list(grids()[rank])
            for cell in hidden:
                cells[cell] = "0"
            return "".join(cells)


def blank_table(blanks: tuple[int, int] | None) -> list[int]:
    """Numbers of blanks, one per ticket: drawing a ticket uniformly draws the number of blanks.

    blanks: (low, high), each number in between equally likely; None = the papers' proportions, 256 tickets.
    """
    if blanks is None:
        return [number for number, count in PAPER_BLANKS.items() for _ in range(count)]
    return list(range(blanks[0], blanks[1] + 1))


def train_puzzle(index: int, table: list[int], excluded: frozenset[str] = frozenset()) -> tuple[str, str]:
    """(puzzle, solution) number `index` of the training stream: grid and number of blanks drawn freely."""
    rng = np.random.default_rng([_DOMAIN, _STREAMS["train"], index])
    ranks = ranks_left("train", excluded)
    rank = ranks[int(rng.integers(len(ranks)))]
    blanks = table[int(rng.integers(len(table)))]
    return cut(rng, rank, blanks), grids()[rank]


@cache
def fixed_set(
    split: str, blanks: tuple[int, int] | None = None, excluded: frozenset[str] = frozenset()
) -> tuple[tuple[str, str], ...]:
    """The 256 different (puzzle, solution) pairs of `validation` or `test`, in their fixed order.

    Every ticket of the table is used equally often, give or take one, and so is every grid, unless a puzzle
    would repeat; the papers' table gives 82 puzzles of 7 blanks, 83 of 8, 76 of 9, 12 of 11 and 3 of 12.
    Raises EnvError if the grids that `excluded` leaves have too few such puzzles.
    """
    rng = np.random.default_rng([_DOMAIN, _STREAMS[split]])
    size = SPLIT_SIZES[split]
    ranks, table = ranks_left(split, excluded), blank_table(blanks)
    tickets = rng.permutation([table[i % len(table)] for i in range(size)]).tolist()
    order = rng.permutation([ranks[i % len(ranks)] for i in range(size)]).tolist()
    puzzles: dict[str, str] = {}
    for rank, number in zip(order, tickets, strict=True):
        tries = 0
        while (puzzle := cut(rng, rank, number)) in puzzles:
            if (tries := tries + 1) > _MAX_TRIES:
                raise EnvError(
                    f"sudoku: the file leaves {len(ranks)} grids to {split}, too few for {size} different "
                    f"puzzles of {number} blanks. Ask for more blanks, or give a file with fewer solutions."
                )
            # Another grid: this one may have no other such puzzle.
            rank = ranks[int(rng.integers(len(ranks)))]
        puzzles[puzzle] = grids()[rank]
    return tuple(puzzles.items())
