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
from spg_trainer.models.load import Policy
from spg_trainer.models.states import base_model, hidden_states
from spg_trainer.rollout.cache import POSITIONS_PER_THREAD, Access, KeyValues, window
from spg_trainer.rollout.canvas import Canvas
from spg_trainer.rollout.refill import Row
from spg_trainer.settings.fields import Sampling


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
        family = base_model(policy.model)
        self.pattern, self.shift = family.pattern, family.shift
        self.keeps_blocks = sampling.cache == "blocks"
        if not self.pattern.is_full:
            self.blocks = self.pattern.blocks(canvas.real, canvas.width)
        self.rows_per_forward = rows_per_forward
        self.positions = None  # of one call of the model; None = rows_per_forward bounds it
        if canvas.ids.device.type == "cpu" and rows_per_forward is None:
            self.positions = POSITIONS_PER_THREAD * torch.get_num_threads()

    def take_slots(self, in_flight: list[Row], all_move: bool) -> None:
        """Gives new rows the free slots of the buffers.

        all_move: whether all rows in flight may change their slots; they then have the first ones in order, so that a
        pass reads and writes them without copies.
        """
        taken = {row.slot for row in in_flight}
        free = (slot for slot in range(len(in_flight) + len(taken)) if slot not in taken)
        for row in in_flight:
            if row.slot < 0:
                row.slot = next(free)
        slots = [row.slot for row in in_flight]
        if not all_move or slots == list(range(len(slots))):
            return
        if self.store and (self.keeps_blocks or self.sampling.prompt_refresh_steps):
            kept = max(map(self._seen, in_flight)) if self.keeps_blocks else self.canvas.width
            self.store.move(self.canvas.tensor(slots), kept)
        for slot, row in enumerate(in_flight):
            row.slot = slot

    def hidden_states(self, rows: list[Row], numbers: Tensor, places: Tensor, refresh: bool) -> Tensor:
        """Last hidden states at places (b, n) of the completions, (b, n, D).

        refresh: whether the rows compute all that they see, but for a prompt that is kept longer.
        """
        groups: dict[int, list[int]] = defaultdict(
            list
        )  # by the width of what is computed, 0 where it is all
        for i, row in enumerate(rows):
            first, end = self._window(row, refresh)
            groups[end - first].append(i)
        if refresh:
            for i in groups.get(0, ()):
                rows[i].prompt_computed = rows[i].passes
        if len(groups) == 1:
            compute = self._compute_all if 0 in groups else self._compute_windows
            return compute(rows, numbers, places, refresh)
        results, order = [], []
        for width, chosen in groups.items():
            compute = self._compute_windows if width else self._compute_all
            part, some = self.canvas.tensor(chosen), [rows[i] for i in chosen]
            results.append(compute(some, numbers[part], places[part], refresh))
            order += chosen
        return torch.cat(results)[self.canvas.tensor(order).argsort()]

    def _seen(self, row: Row) -> int:
        """Columns that the model sees: all, under block-causal attention up to the end of attention's block."""
        return self.canvas.columns if self.pattern.is_full else self._attention_block(row)[1]

    def _attention_block(self, row: Row) -> tuple[int, int]:
        """First column and end of the block of attention that the active block lies in."""
        return self._attention_block_of(row, row.start)

    def _attention_block_of(self, row: Row, place: int) -> tuple[int, int]:
        """The same of the block that some place of the row lies in."""
        width = self.canvas.width
        start, stop = self.pattern.block_of(place, width - row.padding)
        return width + start, min(width + stop, self.canvas.columns)

    def _window(self, row: Row, refresh: bool) -> tuple[int, int]:
        """First and end of the columns to compute, among those that are seen; (0, 0) for all of them."""
        s, width = self.sampling, self.canvas.width
        if refresh:
            keeps_prompt = row.passes and row.passes - row.prompt_computed < s.prompt_refresh_steps
            return (max(0, width - self.shift), self._seen(row)) if keeps_prompt else (0, 0)
        start, stop = width + row.start, width + row.stop
        if self.keeps_blocks:
            start, stop = self._attention_block(row)
            if row.block_passes == 0 and row.block:
                # Where the row has entered this block, what was written last stands before it without its keys, and so
                # do blocks in between that were given.
                start = self._attention_block_of(row, row.spans[row.block - 1][0])[0]
        return window(max(0, start - self.shift), stop, self._seen(row), s)

    def _compute_all(self, rows: list[Row], numbers: Tensor, places: Tensor, refresh: bool) -> Tensor:
        """All that is seen, of rows that look alike once; a cache keeps it in the slots of all of them."""
        # 1. `looks` (b, w) are the ids that each row sees, -1 on padding; `source` (b,) says which of the
        #    distinct looks is a row's, `example` which row has a distinct look.
        # 2. Distinct looks are sorted, most padding first, so that rows of like length share a call of the model.
        # 3. A call leaves out the columns that none of its rows sees.
        looks = self.canvas.ids[numbers].masked_fill(~self.canvas.real[numbers], -1)
        source, example = self._distinct(rows, looks)
        distinct, inverse = looks[self.canvas.tensor(example)], self.canvas.tensor(source)
        keep = places.new_empty(len(distinct), places.shape[1])
        keep[inverse] = self.canvas.width + places
        results = []
        for part in self._parts(len(distinct), distinct.shape[1]):
            alike = [rows[i] for i in example[part]]
            lowest, end = min(row.padding for row in alike), max(map(self._seen, alike))
            ids, access = distinct[part, lowest:end], None
            even = all(row.padding == lowest and self._seen(row) == end for row in alike)
            mask = None if even else ids >= 0
            if self.store:
                pairs = [(row.slot, i - part.start) for row, i in zip(rows, source, strict=True)]
                index = self.canvas.tensor([p for p in pairs if 0 <= p[1] < part.stop - part.start])
                access = Access(self.store, index[:, 0], slice(lowest, end), source=index[:, 1])
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
        return torch.cat(results)[inverse]

    def _distinct(self, rows: list[Row], looks: Tensor) -> tuple[list[int], list[int]]:
        """(b,) which of the sorted distinct looks is each row's, and a row that has each of them."""
        if self.sampling.editing_threshold is not None:  # what is written says no more which block is active
            looks = torch.cat([looks, self._column(rows, lambda row: row.block)], 1)
        source = torch.unique(looks.cpu(), dim=0, return_inverse=True)[1].tolist()  # one read of a GPU
        numbered = {look: i for i, look in enumerate(source)}
        return source, [numbered[look] for look in range(len(numbered))]

    def _compute_windows(self, rows: list[Row], numbers: Tensor, places: Tensor, refresh: bool) -> Tensor:
        """A window of each row, equally wide in all, that attends to what is kept beside it."""
        # 1. `columns` (b, w) are the windows.
        # 2. Keys are read from the columns `lowest`..`end` of the rows' slots; `mask` hides what a row does not see.
        # 3. Neighbouring slots and equal windows are slices, which read and write the buffers without copies.
        spans = [self._window(row, refresh) for row in rows]
        width, results = spans[0][1] - spans[0][0], []
        for part in self._parts(len(rows), width):
            some, firsts = rows[part], [first for first, _ in spans[part]]
            start = self.canvas.tensor(firsts).unsqueeze(-1)
            columns = start + torch.arange(width, device=start.device)
            lowest, end = min(row.padding for row in some), max(map(self._seen, some))
            slots: Tensor | slice = slice(some[0].slot, some[0].slot + len(some))
            together = len(set(firsts)) == 1
            if not together or [row.slot for row in some] != list(range(slots.start, slots.stop)):
                slots = self.canvas.tensor([row.slot for row in some])
            written = slice(firsts[0], firsts[0] + width) if together else columns
            results.append(
                hidden_states(
                    self.policy.model,
                    self.canvas.ids[numbers[part]].gather(1, columns),
                    self._visible(some, numbers[part], columns, lowest, end),
                    self.canvas.width + places[part] - start,
                    positions=self._positions(some, columns),
                    cache=Access(self.store, slots, written, lowest, end),
                )
            )
        return torch.cat(results)

    def _visible(
        self, rows: list[Row], numbers: Tensor, columns: Tensor, lowest: int, end: int
    ) -> Tensor | None:
        """Which of the keys `lowest`..`end` each row's window sees: (b, K), (b, 1, w, K), or None for all of them."""
        if self.keeps_blocks:
            own = self.blocks[numbers]
            return visible(own.gather(1, columns), own[:, lowest:end])
        if all(row.padding == lowest and self._seen(row) == end for row in rows):
            return None
        keys = torch.arange(lowest, end, device=columns.device)
        return (keys >= self._column(rows, lambda row: row.padding)) & (keys < self._column(rows, self._seen))

    def _positions(self, rows: list[Row], columns: Tensor) -> Tensor:
        """Positions of columns (b, w): real tokens count from 0."""
        return (columns - self._column(rows, lambda row: row.padding)).clamp(min=0)

    def _column(self, rows: list[Row], value: Callable[[Row], int]) -> Tensor:
        """(b, 1) int64, a number of each row."""
        return self.canvas.tensor([[value(row)] for row in rows])

    def _parts(self, rows: int, width: int) -> list[slice]:
        """Rows that share a call of the model, of so many columns each."""
        size = self.rows_per_forward or rows
        if self.positions:
            size = max(1, self.positions // width)
        return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
