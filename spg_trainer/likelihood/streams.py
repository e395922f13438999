"""The random streams from which the masks of completions are drawn.

A row is a completion of a batch. It is scored in several copies, each with other tokens masked, and each iteration of a
step draws new copies. A stream belongs to what shares its draws: one copy, all copies of a row, all iterations of a
row, or the copies of all rows that have the same number. A stream always gives the same numbers in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

import numpy as np

from spg_trainer.seeding import numpy_generator


class Streams(Protocol):
    """The streams of B rows. Each call returns a new generator, at the beginning of its stream."""

    def of_mask(self, row: int, mask: int) -> np.random.Generator:
        """For draws of one masked copy of a row alone."""

    def of_row(self, row: int) -> np.random.Generator:
        """For draws that all copies of a row share."""

    def of_iterations(self, row: int) -> np.random.Generator:
        """For draws that all copies of a row share in all iterations of a step."""

    def of_everyone(self, mask: int) -> np.random.Generator:
        """For draws that the copies of this number share in all rows of a step."""


@dataclass(frozen=True)
class KeyedStreams:
    """`Streams` that depend on a seed and on the key of a row, but not on the number of the row.

    So a completion has the same masks in any process and any place of the batch.
    """

    seed: int
    purpose: tuple[int | str, ...]
    """The part of the key that all masks of a step have, e.g. ("masks", step)."""
    row_keys: Sequence[tuple[int | str, ...]]
    """(B,) the part of the key that tells the rows apart, e.g. `Rows.noise_keys`."""
    update: tuple[int, ...] = ()
    """The part of the key that tells the iterations of a step apart: (iteration,), or () if there is only one."""

    # Masks are numbered from 0. The streams of a whole row have -1 and -2 in place of the number of a mask.

    def of_mask(self, row: int, mask: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.row_keys[row], *self.update, mask)

    def of_row(self, row: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.row_keys[row], *self.update, -1)

    def of_iterations(self, row: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, *self.row_keys[row], -2)

    def of_everyone(self, mask: int) -> np.random.Generator:
        return numpy_generator(self.seed, *self.purpose, "all", *self.update, mask)


class RowStreams:
    """The streams of one row. A stream that is asked for again is the same generator, and goes on where it was.

    Only `of_everyone` returns a new generator each time, at the beginning of its stream.
    """

    def __init__(self, streams: Streams, row: int) -> None:
        self.of_mask = cache(partial(streams.of_mask, row))
        self.of_row = cache(partial(streams.of_row, row))
        self.of_iterations = cache(partial(streams.of_iterations, row))
        self.of_everyone = streams.of_everyone
