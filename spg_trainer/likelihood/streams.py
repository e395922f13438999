"""Where the masks of completions take their randomness from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

import numpy as np

from spg_trainer.seeding import numpy_generator


class Streams(Protocol):
    """Where the masks of some rows take their randomness from; asked for the same stream again, it begins anew."""

    def of_mask(self, row: int, mask: int) -> np.random.Generator:
        """For one masked copy of a row alone."""

    def of_row(self, row: int) -> np.random.Generator:
        """For what all copies of a row have in common."""

    def of_iterations(self, row: int) -> np.random.Generator:
        """For what the copies of a row have in common in all updates of a step."""

    def of_everyone(self, mask: int) -> np.random.Generator:
        """For what this copy of each row of the step has in common."""


@dataclass(frozen=True)
class KeyedStreams:
    """`Streams` that depend on what they are for, as all of `spg_trainer.seeding`, and not on where a row stands."""

    seed: int
    purpose: tuple[int | str, ...]
    """What all masks of a step are for, e.g. ("masks", step)."""
    rows: Sequence[tuple[int | str, ...]]
    """B, what tells the rows apart, e.g. `Place.keys`."""
    update: tuple[int, ...] = ()
    """The number of the update in its step; empty where there is one only."""

    def of_mask(self, row: int, mask: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.rows[row], *self.update, mask)

    def of_row(self, row: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.rows[row], *self.update, -1)

    def of_iterations(self, row: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.rows[row], -2)

    def of_everyone(self, mask: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, "all", *self.update, mask)


class RowStreams:
    """The streams of one row. Asked for again, each goes on where it was; only that of everyone begins anew."""

    def __init__(self, streams: Streams, row: int) -> None:
        self.of_mask = cache(partial(streams.of_mask, row))
        self.of_row = cache(partial(streams.of_row, row))
        self.of_iterations = cache(partial(streams.of_iterations, row))
        self.of_everyone = streams.of_everyone
