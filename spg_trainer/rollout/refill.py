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
    """The row of the canvas that it is."""
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
    """How many passes it has taken part in."""
    block_passes: int = 0
    """How many of these were of the active block."""
    post_passes: int = 0
    """How many of the active block's passes began without a masked token: they only edit."""
    prompt_computed: int = 0
    """The number of the pass that last computed the prompt."""
    slot: int = -1
    """Where in the buffers its keys and values are; -1 = nowhere yet."""

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
        self.rows = len(waiting)  # of the whole rollout

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
        written tokens were replaced in this pass; None = written tokens are never replaced.

        A block is over when it has no masked token left. With editing it goes on until a pass that began without
        one changes nothing, or until `POST_PASSES_LIMIT`; a row whose text is finished leaves no earlier than that.
        """
        edits = edited is not None
        for i, row in enumerate(rows):
            row.post_passes += not row.masked
            row.masked, row.passes, row.block_passes = left[i], row.passes + 1, row.block_passes + 1
            block_is_over = not row.masked
            if block_is_over and edits:
                changed_nothing = row.post_passes > 0 and not edited[i]
                block_is_over = changed_nothing or row.post_passes >= POST_PASSES_LIMIT
            if block_is_over:
                row.block, row.block_passes, row.post_passes = row.block + 1, 0, 0
            all_blocks_over = row.block == len(row.spans)
            if all_blocks_over or (ended[i] and (block_is_over or not edits)):
                self.in_flight.remove(row)
            elif block_is_over:
                row.masked = row.holes[row.block]

    def share_done(self) -> float:
        """What share of the steps of all rows is done, 0 to 1."""
        steps = self.sampling.steps_per_block
        in_flight = sum((r.block + min(1, r.block_passes / steps)) / len(r.spans) for r in self.in_flight)
        finished = self.rows - len(self.waiting) - len(self.in_flight)
        return (finished + in_flight) / self.rows

    def _needs_refresh(self, row: Row) -> bool:
        """Whether the row's next pass is a refresh: each where nothing is kept, else the first of each block."""
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
