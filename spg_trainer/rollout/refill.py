"""Which rows take part in a pass: who enters, who waits for a refresh, whose block is over, and who leaves.

A row's tokens depend on its own prompt and noise alone: rows may be at different blocks, wait for each other before a
refresh, and take the place of others that have ended. Nothing here looks at the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from spg_trainer.rollout.cache import CACHES
from spg_trainer.settings.decoding import Sampling

POST_PASSES_LIMIT = 16
"""The most passes that editing may add to a block after its last token was unmasked: LLaDA2.1's `max_post_steps`."""


@dataclass(eq=False)
class Row:
    """How far a row has been decoded."""

    number: int
    """Of its prompt."""
    padding: int
    """Columns before its first token."""
    spans: Sequence[tuple[int, int]]
    """First place and end of each of its blocks; one that a template fills altogether is left out."""
    holes: Sequence[int]
    """How many places of each of these blocks are to be written: all, or what a template leaves."""
    masked: int
    """Masked tokens of the active block."""
    block: int = 0
    passes: int = 0
    """In all."""
    block_passes: int = 0
    """Of the active block."""
    post_passes: int = 0
    """Of the active block, those that began without a masked token."""
    prompt_computed: int = 0
    """The pass that last computed the prompt."""
    slot: int = -1
    """Of the buffers of keys and values; -1 = none yet."""

    @property
    def start(self) -> int:
        """First place of the active block."""
        return self.spans[self.block][0]

    @property
    def stop(self) -> int:
        """End of the active block."""
        return self.spans[self.block][1]


class Refill:
    """The rows that wait and the rows in flight, at most `capacity` of these."""

    def __init__(self, waiting: list[Row], capacity: int, sampling: Sampling) -> None:
        self.waiting, self.capacity, self.sampling = waiting, capacity, sampling
        self.in_flight: list[Row] = []
        self.rows = len(waiting)

    def next_rows(self) -> tuple[list[Row], bool]:
        """The rows of the next pass, and whether this is a refresh for all of them; no rows when all have left."""
        # A refresh is for many rows at once: rows that need one wait until they are a quarter of those in flight, and
        # the others go on. Waiting rows enter with a refresh, their first pass. With the exact cache of blocks a row
        # is refreshed once, when it enters, and nobody waits.
        due = [row for row in self.in_flight if self._needs_refresh(row)]
        if self.sampling.cache != "blocks" and 4 * len(due) < len(self.in_flight):
            return [row for row in self.in_flight if not self._needs_refresh(row)], False
        due += self._admit()
        return (due, True) if due else (list(self.in_flight), False)

    def advance(
        self, rows: list[Row], left: Sequence[int], ended: Sequence[bool], edited: Sequence[bool] | None
    ) -> None:
        """Counts a pass of some rows, opens their next blocks, and lets rows leave that are finished.

        left: masked tokens that each row's block still has. ended: whether the row's text is finished. edited: whether
        written tokens were replaced; a block then ends with a pass over written tokens alone that changes nothing.
        None = written tokens are never replaced.
        """
        for i, row in enumerate(rows):
            row.post_passes += not row.masked
            row.masked, row.passes, row.block_passes = left[i], row.passes + 1, row.block_passes + 1
            over = not row.masked
            if over and edited is not None:
                unchanged = row.post_passes > 0 and not edited[i]
                over = unchanged or row.post_passes >= POST_PASSES_LIMIT
            if over:
                row.block, row.block_passes, row.post_passes = row.block + 1, 0, 0
            if row.block == len(row.spans) or (ended[i] and (over or edited is None)):
                self.in_flight.remove(row)
            elif over:
                row.masked = row.holes[row.block]

    def share_done(self) -> float:
        """What share of the steps of all rows is done, 0 to 1."""
        steps = self.sampling.steps_per_block
        done = sum((r.block + min(1, r.block_passes / steps)) / len(r.spans) for r in self.in_flight)
        return (self.rows - len(self.waiting) - len(self.in_flight) + done) / self.rows

    def _needs_refresh(self, row: Row) -> bool:
        if self.sampling.cache == "blocks":
            return row.passes == 0
        return CACHES[self.sampling.cache] is None or row.block_passes == 0

    def _admit(self) -> list[Row]:
        """Waiting rows take the place of those that have ended, once these are a quarter of all."""
        free = self.capacity - len(self.in_flight)
        if not self.waiting or 4 * free < self.capacity:
            return []
        new, self.waiting = self.waiting[:free], self.waiting[free:]
        self.in_flight += new
        return new
