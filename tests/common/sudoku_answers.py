"""Sudoku grids at random, and puzzles from them."""

import random


def solved_grid(rng: random.Random, box: int) -> list[int]:
    """A random n x n solution: the cyclic pattern with digits, rows and columns shuffled within their bands."""
    size = box * box
    order = [band * box + i for band in rng.sample(range(box), box) for i in rng.sample(range(box), box)]
    across = [band * box + i for band in rng.sample(range(box), box) for i in rng.sample(range(box), box)]
    names = rng.sample(range(1, size + 1), size)
    return [names[(box * (row % box) + row // box + column) % size] for row in order for column in across]


def blanked(rng: random.Random, cells: list[int]) -> str:
    shown = [cell if rng.random() < 0.5 else 0 for cell in cells]
    return " ".join(map(str, shown)) if len(cells) > 81 else "".join(map(str, shown))
