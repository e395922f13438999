"""Sudoku puzzles with one solution: made from solved grids, or read from our committed test files or a user's file.

A grid is a solved board, written as its digits row by row. Splits share no grid, so a model cannot have seen the answer
to an evaluation puzzle. Puzzles are drawn with private streams of `numpy.random.default_rng`, keyed by split and index.

4x4: there are 288 grids; each is known by its rank, its place among all of them in sorted order, and lists of ranks
divide them. 9x9: two grids count as one if renaming digits, e.g. 2 to 1 and 1 to 2, turns one into the other. So the
digits are first renamed in order of appearance (`renamed`), and a hash of the renamed grid decides its split.
"""

import re
from functools import cache
from itertools import chain, permutations, product
from pathlib import Path
from typing import Any

import numpy as np

from envs.errors import EnvError
from envs.files.datasets import read_files, read_packaged
from envs.splits import SPLIT_SIZES, STREAMS, SUDOKU_9X9, pick
from envs.sudoku.solver import random_grid, random_puzzle

TEST_RANKS = (
    5, 9, 12, 13, 25, 27, 30, 31, 32, 33, 35, 43, 47, 48, 55, 56, 57, 67, 71, 74, 75, 80, 82, 86, 89, 91, 94,
    99, 101, 102, 104, 105, 107, 110, 111, 114, 116, 118, 121, 131, 132, 133, 134, 135, 137, 138, 146, 149, 151,
    152, 153, 156, 157, 163, 164, 166, 167, 174, 183, 186, 188, 190, 192, 195, 197, 200, 203, 205, 214, 216, 217,
    219, 220, 221, 222, 224, 229, 234, 236, 238, 243, 245, 253, 256, 265, 273, 274, 276,
)  # fmt: skip
"""Ranks of the 88 4x4 grids that solve the 256 test puzzles of SPG (arXiv:2510.09541)."""

PAPER_BLANKS = {7: 82, 8: 83, 9: 76, 11: 12, 12: 3}
"""{number of blanks: how many of the 256 test puzzles of the papers d1 and SPG have so many}."""
TEST_BLANKS_9X9 = (8, 16)
"""The fewest and most blanks of 9x9 puzzles at level 1, and so in our committed test file."""

LEVELS: dict[int, dict[int, tuple[int, int] | None]] = {
    4: {1: None, 2: (9, 10), 3: (11, 11), 4: (12, 12)},
    9: {1: TEST_BLANKS_9X9, 2: (20, 32), 3: (36, 46), 4: (49, 54)},
}
"""{size: {level: fewest and most blanks}}; None = the papers' mix of 7 to 12."""

MAX_BLANKS = {4: 12, 9: 54}
"""{size: the most blanks}. 4x4: with more, no puzzle has a single solution; with 12, every grid has such a puzzle. 9x9:
with 54 nearly every order in which cells are blanked out leaves a single solution, from 57 on few orders do."""

_SEED_4X4, _SEED_9X9 = 4_040_404, 9_090_909
# The test stream was chosen among 2, 3, and so on: 4 is the first on whose puzzles `careless` in env.py, which looks at
# rows alone, is right as often as on the papers' puzzles (11 of 256).
_STREAMS_4X4 = STREAMS | {"test": 4}
_MAX_TRIES = 10_000
"""How often `fixed_set` draws another puzzle in place of one that it has already. It needs far fewer: with one blank,
the 20 grids of validation have 320 puzzles, and even the last of 256 is new after about 5 draws (320 / 65)."""


@cache
def grids() -> tuple[str, ...]:
    """All 288 solved 4x4 grids as 16 digits, row by row, sorted."""
    rows = list(permutations("1234"))
    # Pairs of neighbouring rows whose two boxes have each digit once. The box of a[:2] and b[:2] has each digit once if
    # the other half of b, b[2:], has the digits of a[:2].
    row_pairs = [
        (a, b) for a, b in product(rows, rows) if set(a[:2]) == set(b[2:]) and set(a[2:]) == set(b[:2])
    ]
    solved = []
    for upper_rows, lower_rows in product(row_pairs, row_pairs):
        columns = zip(*upper_rows, *lower_rows, strict=True)
        if all(len(set(column)) == 4 for column in columns):
            solved.append("".join(chain(*upper_rows, *lower_rows)))
    return tuple(sorted(solved))


@cache
def split_ranks(split: str, excluded: frozenset[str] = frozenset()) -> tuple[int, ...]:
    """The ranks of a split's grids: 88 in test, every tenth of the other 200 in validation, the remaining 180 in train.

    excluded: grids that train and validation must not have. Raises EnvError if no grid is left.
    """
    if split == "test":
        return TEST_RANKS
    others = [rank for rank in range(288) if rank not in set(TEST_RANKS)]
    if split == "validation":
        chosen = others[::10]
    else:
        chosen = [rank for i, rank in enumerate(others) if i % 10 != 0]
    ranks = tuple(rank for rank in chosen if grids()[rank] not in excluded)
    if not ranks:
        raise EnvError(
            f"sudoku: every grid of {split} solves a puzzle of the file, so no problem is left for {split}. "
            "Give a file with fewer different solutions, or --env-args source=generated."
        )
    return ranks


@cache
def _cells_of_grids() -> np.ndarray:
    """(288, 16) uint8: the cells of all grids, as character codes."""
    return np.frombuffer("".join(grids()).encode(), np.uint8).reshape(-1, 16)


def _cut(rng: np.random.Generator, rank: int, blanks: int) -> str:
    """A 4x4 puzzle: grid number `rank` with random cells blanked out, drawn until it has a single solution."""
    all_grids = _cells_of_grids()
    grid = all_grids[rank]
    while True:
        is_clue = np.ones(16, bool)
        is_clue[rng.permutation(16)[:blanks]] = False
        # (288,) bool: which grids have these clues.
        solves_puzzle = (all_grids[:, is_clue] == grid[is_clue]).all(1)
        if solves_puzzle.sum() == 1:
            return "".join(chr(cell) if keep else "0" for cell, keep in zip(grid, is_clue, strict=True))


def read_blanks(blanks: str | int, size: int) -> tuple[int, int]:
    """ "4-11" -> (4, 11), 8 -> (8, 8); raises EnvError for anything but a range of blanks for that size."""
    parts = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", str(blanks))
    low = high = 0  # refused below, unless they are read
    if parts:
        low, high = int(parts[1]), int(parts[2] or parts[1])
    if not 1 <= low <= high <= MAX_BLANKS[size]:
        raise EnvError(
            f'sudoku: blanks={blanks!r:.80} is not a number or a range such as "4-11" within 1 to '
            f"{MAX_BLANKS[size]} (with more, few or no puzzles of this size have a single solution)."
        )
    return low, high


def blank_table(blanks: tuple[int, int] | None) -> list[int]:
    """The numbers of blanks for 4x4 puzzles: each puzzle draws an entry of this list, all equally likely.

    blanks: (low, high) gives each number from low to high once; None gives 256 entries, in the papers' proportions.
    E.g. (4, 6) -> [4, 5, 6].
    """
    if blanks is None:
        return [number for number, count in PAPER_BLANKS.items() for _ in range(count)]
    return list(range(blanks[0], blanks[1] + 1))


def train_puzzle(index: int, table: list[int], excluded: frozenset[str] = frozenset()) -> tuple[str, str]:
    """The 4x4 puzzle number `index` of the training stream, as (puzzle, solution).

    table: what `blank_table` returns. excluded: grids that must not be its solution.
    """
    rng = np.random.default_rng([_SEED_4X4, _STREAMS_4X4["train"], index])
    rank = pick(rng, split_ranks("train", excluded))
    blanks = pick(rng, table)
    return _cut(rng, rank, blanks), grids()[rank]


@cache
def fixed_set(
    split: str, blanks: tuple[int, int] | None = None, excluded: frozenset[str] = frozenset()
) -> tuple[tuple[str, str], ...]:
    """The 256 different 4x4 (puzzle, solution) pairs of `validation` or `test`, in their fixed order.

    Every entry of `blank_table` is used equally often, give or take one, and so is every grid, unless a puzzle would
    repeat. The papers' table gives 82 puzzles of 7 blanks, 83 of 8, 76 of 9, 12 of 11 and 3 of 12. Raises EnvError if
    the grids outside of `excluded` have too few such puzzles.
    """
    rng = np.random.default_rng([_SEED_4X4, _STREAMS_4X4[split]])
    count = SPLIT_SIZES[split]
    ranks, table = split_ranks(split, excluded), blank_table(blanks)
    blanks_of_puzzles = rng.permutation([table[i % len(table)] for i in range(count)]).tolist()
    ranks_of_puzzles = rng.permutation([ranks[i % len(ranks)] for i in range(count)]).tolist()
    puzzles: dict[str, str] = {}
    for rank, num_blanks in zip(ranks_of_puzzles, blanks_of_puzzles, strict=True):
        tries = 0
        while (puzzle := _cut(rng, rank, num_blanks)) in puzzles:
            tries += 1
            if tries > _MAX_TRIES:
                raise EnvError(
                    f"sudoku: the file leaves {len(ranks)} grids to {split}, too few for {count} different "
                    f"puzzles of {num_blanks} blanks. Ask for more blanks, or give a file with fewer solutions."
                )
            rank = pick(rng, ranks)  # another grid: this one may have no other such puzzle
        puzzles[puzzle] = grids()[rank]
    return tuple(puzzles.items())


def renamed(grid: str) -> str:
    """A 9x9 grid with its digits renamed in order of appearance, so that the first row reads 123456789."""
    return grid.translate(str.maketrans(grid[:9], "123456789"))


def draw_9x9(split: str, index: int, blanks: tuple[int, int], excluded: frozenset[str]) -> tuple[str, str]:
    """9x9 (puzzle, solution) number `index` of a split's stream.

    blanks: (low, high), each number in between equally likely. excluded: grids, as `renamed` gives them.
    """
    rng = np.random.default_rng([_SEED_9X9, STREAMS[split], index])
    wanted = int(rng.integers(blanks[0], blanks[1] + 1))
    while True:
        grid = random_grid(rng, 9)
        split_of_grid = SUDOKU_9X9(renamed(grid))
        if split_of_grid != split or renamed(grid) in excluded:
            continue
        puzzle = random_puzzle(rng, grid, wanted)
        # `random_puzzle` blanks cells in a random order while one solution remains, so it may end with fewer blanks.
        if puzzle.count("0") == wanted:
            return puzzle, grid


@cache
def test_puzzles(size: int = 4) -> tuple[tuple[str, str], ...]:
    """The 256 (puzzle, solution) pairs of our committed test file, in order; at 4x4 they are fixed_set("test")."""
    rows = read_packaged("sudoku/test.jsonl" if size == 4 else "sudoku/test-9x9.jsonl")
    return tuple((row["puzzle"], row["solution"]) for row in rows)


@cache
def read_puzzles(path: str, size: int = 4) -> tuple[tuple[str, str], ...]:
    """The (puzzle, solution) pairs of a file, one {"puzzle": "0310...", "solution": "4312..."} a line.

    The columns may begin with a capital, as in d1's CSV file. Raises EnvError, naming the line, for a line that is no
    JSON object, or whose solution does not solve a puzzle of this size.
    """
    rows = read_files("sudoku", [Path(path)], ("puzzle", "solution"), in_small_letters)
    return tuple(_read_row(where, values, size) for where, values in rows)


def in_small_letters(values: dict[str, Any]) -> dict[str, Any]:
    """A row with the columns `puzzle` and `solution`, even if the file calls them `Puzzle` and `Solution`.

    All columns also keep their own names; if a file has both `Puzzle` and `puzzle`, the latter is taken.
    """
    return {str(name).lower(): value for name, value in values.items()} | values


def _read_row(where: str, values: dict[str, Any], size: int) -> tuple[str, str]:
    """(puzzle, solution) of a row; raises EnvError, which begins with `where`, for one that cannot be used."""
    from verifiers import verify

    digits = "123456789"[:size]
    puzzle, solution = values["puzzle"], values["solution"]
    for name, text, allowed in (("puzzle", puzzle, "0" + digits), ("solution", solution, digits)):
        if not isinstance(text, str) or len(text) != size * size or not set(text) <= set(allowed):
            other_size = 9 if size == 4 else 4
            wanted = (
                f"{size * size} digits from {allowed[0]} to {size}, 0 = blank; see also size={other_size}"
            )
            raise EnvError(f"sudoku: {where} has the {name} {text!r:.100}; it must be {wanted}.")
    # The solution is checked alone, on an empty board, and then against the puzzle.
    legal = verify("sudoku", f"<answer>{solution}</answer>", puzzle="0" * len(puzzle)).correct
    keeps_givens = all(digit in ("0", cell) for digit, cell in zip(puzzle, solution, strict=True))
    if not (legal and keeps_givens):
        raise EnvError(f"sudoku: {where} has the solution {solution}, which does not solve {puzzle}.")
    return puzzle, solution
