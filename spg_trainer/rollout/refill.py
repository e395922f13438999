"""Decides which rows take part in a pass: which enter, wait for a refresh, begin the next block, or leave.

A row is one completion with its prompt. Its tokens depend only on its own prompt and noise. So rows may be at different
blocks, wait for each other before a refresh (a pass that computes all columns, see `cache.py`), and replace rows that
have ended. Nothing here reads a tensor, which would make a GPU wait.
"""

from collections.abc import Sequence

from spg_trainer.rollout.cache import CACHES
from spg_trainer.settings.decoding import Sampling

POST_PASSES_LIMIT = 16
"""The most passes that editing may add to a block after its last token was unmasked: LLaDA2.1's `max_post_steps`."""


class Row:
    """How far a row has been decoded."""

    def __init__(self, number: int, padding: int, blocks: Sequence[tuple[int, int, int, bool]]) -> None:
        """number: its number on the canvas. padding: how many columns of padding stand before its first token.

        blocks: (start, stop, holes, first_has_own_pass) of each of its blocks, in the order and meaning of
        `open_block`. A block without holes, all of whose tokens a template gives, is left out.
        """
        self.number, self.padding, self.blocks = number, padding, blocks
        self.passes = 0
        """How many passes it has taken part in."""
        self.prompt_computed = 0
        """The number of the pass that last computed the prompt."""
        self.slot = -1
        """Where in the buffers its keys and values are (`cache.KeyValues`); -1 = nowhere yet."""
        self.open_block(0)

    def open_block(self, number: int) -> None:
        """Makes a block the active one."""
        self.block = number
        """The number of the active block in `blocks`."""
        self.start, self.stop, self.holes, self.first_has_own_pass = self.blocks[number]
        """The active block's first place and its end, counted from the completion's first token; how many of its places
        are to be written (all, or the holes of a template); and whether its first place is written before the others,
        in a pass of its own."""
        self.masked = self.holes
        """How many places of the active block are masked."""
        self.block_passes = 0
        """How many passes it has taken part in since the active block was opened."""
        self.post_passes = 0
        """How many of these passes began without a masked token, and so only edited."""

    @property
    def writes_first_only(self) -> bool:
        """Whether the coming pass writes only the first place of the active block."""
        return self.first_has_own_pass and self.block_passes == 0


class Refill:
    """The rows that wait for their first pass, and the rows in flight, of which there are at most `capacity`."""

    def __init__(self, waiting: list[Row], capacity: int, sampling: Sampling, num_all: int) -> None:
        """num_all: how many rows the whole rollout has, including those that a template fills completely."""
        self.num_all = num_all
        self.waiting, self.capacity, self.sampling = waiting, capacity, sampling
        self.in_flight: list[Row] = []
        self.num_decoded = len(waiting)
        """How many rows are decoded: all that have a hole."""

    def next_rows(self) -> tuple[list[Row], bool]:
        """(the rows of the next pass, whether it is a refresh for all of them); no rows if all rows have left."""
        # A refresh serves many rows at once: rows that need one pause until they are a quarter of those in flight. The
        # others go on. Rows of `waiting` enter with a refresh, their first pass, once a quarter of the capacity is
        # free. With `--cache blocks` a row is refreshed only when it enters, and no row pauses.
        if CACHES[self.sampling.cache] is None:  # nothing is kept, so every pass is a refresh
            to_refresh = list(self.in_flight)
        elif self.sampling.cache == "blocks":
            to_refresh = [row for row in self.in_flight if row.passes == 0]
        else:
            to_refresh = [row for row in self.in_flight if row.block_passes == 0]
            if 4 * len(to_refresh) < len(self.in_flight):
                return [row for row in self.in_flight if row.block_passes > 0], False
        free = self.capacity - len(self.in_flight)
        if self.waiting and 4 * free >= self.capacity:
            new, self.waiting = self.waiting[:free], self.waiting[free:]
            self.in_flight += new
            to_refresh += new
        return (to_refresh, True) if to_refresh else (list(self.in_flight), False)

    def advance(
        self, rows: list[Row], remaining: Sequence[int], ended: Sequence[bool], edited: Sequence[bool] | None
    ) -> None:
        """Counts a pass of some rows, opens their next blocks, and lets rows leave that are finished.

        remaining: how many places of each row's block are still masked. ended: whether the row's text is finished.
        edited: whether this pass replaced tokens; None = decoding does not edit.

        Without editing, a block is over when none of its places is masked, and a row leaves as soon as its text is
        finished. With editing, a block is over when a pass that began without a masked place has replaced nothing, or
        after `POST_PASSES_LIMIT` such passes; a row leaves only at the end of a block.
        """
        edits = edited is not None
        for i, row in enumerate(rows):
            if row.masked == 0:  # before this pass
                row.post_passes += 1
            row.masked = remaining[i]
            row.passes += 1
            row.block_passes += 1
            block_is_over = row.masked == 0
            if block_is_over and edits:
                replaced_nothing = row.post_passes > 0 and not edited[i]
                block_is_over = replaced_nothing or row.post_passes >= POST_PASSES_LIMIT
            all_blocks_over = block_is_over and row.block + 1 == len(row.blocks)
            if all_blocks_over or (ended[i] and (block_is_over or not edits)):
                self.in_flight.remove(row)
            elif block_is_over:
                row.open_block(row.block + 1)

    def finished(self) -> list[int]:
        """The numbers of the finished rows, those without a hole included."""
        going_on = {row.number for row in (*self.waiting, *self.in_flight)}
        return [number for number in range(self.num_all) if number not in going_on]

    def share_done(self) -> float:
        """An estimate of the share of the rollout that is done, 0 to 1."""
        steps = self.sampling.steps_per_block
        finished = self.num_decoded - len(self.waiting) - len(self.in_flight)
        # A row in flight counts by the share of its blocks and steps that it has done.
        shares = [(row.block + min(1, row.block_passes / steps)) / len(row.blocks) for row in self.in_flight]
        return (finished + sum(shares)) / self.num_decoded
