"""What a pass computes: which columns of which rows, in which calls of the model, and what it attends to.

Work that cannot change a token is left out: the last layer outside the places that are drawn, padding common to the
rows of a call, all but one of several rows that look the same to the model at a refresh. Under block-causal attention
what stands behind attention's block is not computed at all.
"""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from spg_trainer.architecture.pattern import visible
from spg_trainer.models.policy import Policy
from spg_trainer.models.states import base_model, hidden_states
from spg_trainer.rollout.cache import POSITIONS_PER_THREAD, Access, KeyValues, window
from spg_trainer.rollout.canvas import Canvas
from spg_trainer.rollout.refill import Row
from spg_trainer.settings.decoding import Sampling


class Columns:
    """Computes hidden states of a canvas, and keeps keys and values in `store` if there is one."""

    def __init__(
        self,
        policy: Policy,
        canvas: Canvas,
        sampling: Sampling,
        store: KeyValues | None,
        rows_per_forward: int | None,
    ) -> None:
        self.policy, self.canvas, self.sampling, self.store = policy, canvas, sampling, store
        model = base_model(policy.model)
        self.pattern, self.shift = model.pattern, model.shift
        self.keeps_blocks = sampling.cache == "blocks"
        if not self.pattern.is_full:  # the cache of blocks needs them, which full attention does not go with
            self.blocks = self.pattern.blocks(canvas.real, canvas.width)
        self.rows_per_forward = rows_per_forward
        self.positions_per_forward = None  # None = rows_per_forward bounds a call of the model
        if canvas.ids.device.type == "cpu" and rows_per_forward is None:
            self.positions_per_forward = POSITIONS_PER_THREAD * torch.get_num_threads()

    def take_slots(self, in_flight: list[Row], all_move: bool) -> None:
        """Gives new rows the free slots of the buffers that keep keys and values.

        all_move: whether all rows in flight may change their slots; they then move to the first ones, in order, so that
        a pass reads and writes them without copies.
        """
        taken = {row.slot for row in in_flight}
        free = (slot for slot in range(len(in_flight) + len(taken)) if slot not in taken)
        for row in in_flight:
            if row.slot < 0:
                row.slot = next(free)
        slots = [row.slot for row in in_flight]
        if not all_move or slots == list(range(len(slots))):
            return
        # What the pass computes anew need not move; finished blocks do, and at a refresh prompts that are kept longer.
        if self.store and (self.keeps_blocks or self.sampling.prompt_refresh_steps):
            kept = max(map(self._seen, in_flight)) if self.keeps_blocks else self.canvas.width
            self.store.move(self.canvas.tensor(slots), kept)
        for slot, row in enumerate(in_flight):
            row.slot = slot

    def hidden_states(self, rows: list[Row], numbers: Tensor, places: Tensor, refresh: bool) -> Tensor:
        """Last hidden states at places (b, n) of the completions, (b, n, D).

        numbers: (b,) int64, the rows' numbers on the canvas. refresh: whether the rows compute all that they see, but
        for a prompt that is kept longer.
        """
        # Rows by the width of the window that they compute; 0 where they compute everything.
        by_width: dict[int, list[int]] = defaultdict(list)
        for i, row in enumerate(rows):
            first, end = self._window(row, refresh)
            by_width[end - first].append(i)
        if refresh:
            for i in by_width.get(0, ()):
                rows[i].prompt_computed = rows[i].passes
        if len(by_width) == 1:
            compute = self._compute_all if 0 in by_width else self._compute_windows
            return compute(rows, numbers, places, refresh)
        results, order = [], []
        for width, chosen in by_width.items():
            compute = self._compute_windows if width else self._compute_all
            index, chosen_rows = self.canvas.tensor(chosen), [rows[i] for i in chosen]
            results.append(compute(chosen_rows, numbers[index], places[index], refresh))
            order += chosen
        return torch.cat(results)[self.canvas.tensor(order).argsort()]

    def _seen(self, row: Row) -> int:
        """How many columns a row sees: all, or under block-causal attention, those up to the end of its block."""
        return self.canvas.columns if self.pattern.is_full else self._attention_block(row)[1]

    def _attention_block(self, row: Row) -> tuple[int, int]:
        """First column and end of the block of attention in which the active block lies."""
        return self._attention_block_of(row, row.start)

    def _attention_block_of(self, row: Row, place: int) -> tuple[int, int]:
        """First column and end of the block of attention in which some place of the row lies."""
        width = self.canvas.width
        start, stop = self.pattern.block_of(place, width - row.padding)
        return width + start, min(width + stop, self.canvas.columns)

    def _window(self, row: Row, refresh: bool) -> tuple[int, int]:
        """First column and end of the window that a row computes, or (0, 0) where it computes all that it sees.

        Where logits are shifted, the state of a window's first token is that of the column before: that is in it too.
        """
        s, width = self.sampling, self.canvas.width
        if refresh:
            keeps_prompt = row.passes and row.passes - row.prompt_computed < s.prompt_refresh_steps
            return (max(0, width - self.shift), self._seen(row)) if keeps_prompt else (0, 0)
        start, stop = width + row.start, width + row.stop
        if self.keeps_blocks:
            start, stop = self._attention_block(row)
            if row.block_passes == 0 and row.block:
                # The block before has no keys yet of the tokens that were written last, and blocks in between, which a
                # template fills altogether, have none at all: the window begins with the block before.
                start = self._attention_block_of(row, row.spans[row.block - 1][0])[0]
        return window(max(0, start - self.shift), stop, self._seen(row), s)

    def _compute_all(self, rows: list[Row], numbers: Tensor, places: Tensor, refresh: bool) -> Tensor:
        """All that is seen, of rows that look alike once; a cache keeps it in the slots of all of them."""
        # 1. `seen` (b, w) are the ids that each row sees, -1 on padding. Equal ones are computed once: `distinct_of`
        #    (b,) says which of the distinct ones is a row's (`index_of_rows` is the same on the device), and `example`
        #    gives a row for each distinct one.
        # 2. The distinct ones are sorted, most padding first, so that rows of like length share a call of the model.
        # 3. A call leaves out the columns that none of its rows sees.
        seen = self.canvas.ids[numbers].masked_fill(~self.canvas.real[numbers], -1)
        distinct_of, example = self._distinct(rows, seen)
        distinct, index_of_rows = seen[self.canvas.tensor(example)], self.canvas.tensor(distinct_of)
        keep = places.new_empty(len(distinct), places.shape[1])
        keep[index_of_rows] = self.canvas.width + places
        results = []
        for part in self._parts(len(distinct), distinct.shape[1]):
            examples = [rows[i] for i in example[part]]
            lowest, end = min(row.padding for row in examples), max(map(self._seen, examples))
            ids, access = distinct[part, lowest:end], None
            equally_wide = all(row.padding == lowest and self._seen(row) == end for row in examples)
            mask = None if equally_wide else ids >= 0
            if self.store:
                # What is computed of a distinct one is kept in the slots of all rows that look like it.
                slots = [(row.slot, i - part.start) for row, i in zip(rows, distinct_of, strict=True)]
                index = self.canvas.tensor([p for p in slots if 0 <= p[1] < part.stop - part.start])
                access = Access(self.store, index[:, 0], slice(lowest, end), computed_row=index[:, 1])
            results.append(
                hidden_states(
                    self.policy.model,
                    ids.masked_fill(ids < 0, self.policy.pad_id),
                    mask,
                    keep[part] - lowest,
                    cache=access,
                    start=self.canvas.width - lowest,
                )
            )
        return torch.cat(results)[index_of_rows]

    def _distinct(self, rows: list[Row], seen: Tensor) -> tuple[list[int], list[int]]:
        """The number (b,) of each row's ids among the sorted distinct ones, and for each of these a row that has it.

        E.g. rows that see b, a, b: [1, 0, 1] and [1, 2].
        """
        if self.sampling.editing_threshold is not None:
            # Where tokens are edited, equal ids do not say that the same block is active.
            seen = torch.cat([seen, self._column(rows, lambda row: row.block)], 1)
        distinct_of = torch.unique(seen.cpu(), dim=0, return_inverse=True)[1].tolist()  # one read of a GPU
        row_of = {number: row for row, number in enumerate(distinct_of)}
        return distinct_of, [row_of[number] for number in range(len(row_of))]

    def _compute_windows(self, rows: list[Row], numbers: Tensor, places: Tensor, refresh: bool) -> Tensor:
        """A window of each row, equally wide in all, that attends to what is kept beside it."""
        # 1. `columns` (b, w) are the windows.
        # 2. Keys are read from the columns `lowest`..`end` of the rows' slots; `mask` hides what a row does not see.
        # 3. Neighbouring slots and equal windows are slices, which read and write the buffers without copies.
        spans = [self._window(row, refresh) for row in rows]
        width, results = spans[0][1] - spans[0][0], []
        for part in self._parts(len(rows), width):
            part_rows, firsts = rows[part], [first for first, _ in spans[part]]
            start = self.canvas.tensor(firsts).unsqueeze(-1)
            columns = start + torch.arange(width, device=start.device)
            lowest, end = min(row.padding for row in part_rows), max(map(self._seen, part_rows))
            slots: Tensor | slice = slice(part_rows[0].slot, part_rows[0].slot + len(part_rows))
            same_window = len(set(firsts)) == 1
            if not same_window or [row.slot for row in part_rows] != list(range(slots.start, slots.stop)):
                slots = self.canvas.tensor([row.slot for row in part_rows])
            written = slice(firsts[0], firsts[0] + width) if same_window else columns
            results.append(
                hidden_states(
                    self.policy.model,
                    self.canvas.ids[numbers[part]].gather(1, columns),
                    self._visible(part_rows, numbers[part], columns, lowest, end),
                    self.canvas.width + places[part] - start,
                    positions=self._positions(part_rows, columns),
                    cache=Access(self.store, slots, written, lowest, end),
                )
            )
        return torch.cat(results)

    def _visible(
        self, rows: list[Row], numbers: Tensor, columns: Tensor, lowest: int, end: int
    ) -> Tensor | None:
        """Which of the keys `lowest`..`end` each row's window sees: (b, K), (b, 1, w, K), or None for all of them."""
        if self.keeps_blocks:
            block_of_column = self.blocks[numbers]
            return visible(block_of_column.gather(1, columns), block_of_column[:, lowest:end])
        if all(row.padding == lowest and self._seen(row) == end for row in rows):
            return None
        keys = torch.arange(lowest, end, device=columns.device)
        return (keys >= self._column(rows, lambda row: row.padding)) & (keys < self._column(rows, self._seen))

    def _positions(self, rows: list[Row], columns: Tensor) -> Tensor:
        """Positions of columns (b, w): real tokens count from 0."""
        return (columns - self._column(rows, lambda row: row.padding)).clamp(min=0)

    def _column(self, rows: list[Row], value: Callable[[Row], int]) -> Tensor:
        """(b, 1) int64 on the canvas's device, value(row) of each row."""
        return self.canvas.tensor([[value(row)] for row in rows])

    def _parts(self, rows: int, width: int) -> list[slice]:
        """The parts of `rows` rows, `width` columns each, that share a call of the model."""
        size = self.rows_per_forward or rows
        if self.positions_per_forward:
            size = max(1, self.positions_per_forward // width)
        return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
