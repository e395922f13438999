"""Computes hidden states for a pass: which columns of which rows, in which calls of the model, attending to which.

Work that cannot change a token is left out:

- the last layer at places that are not drawn;
- padding that all rows of a call have;
- at a refresh, all but one of several rows whose ids are equal;
- under block-causal attention, all columns after the block of attention in which the active block lies.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable
from functools import partial
from itertools import count

import torch
from torch import Tensor

from spg_trainer.architecture.pattern import block_causal_mask
from spg_trainer.likelihood.logps import joined
from spg_trainer.models.body import mask_to_add
from spg_trainer.models.forward import base_model, hidden_states
from spg_trainer.models.policy import Policy
from spg_trainer.rollout.cache import POSITIONS_PER_THREAD, Access, KeyValues, window_of_block
from spg_trainer.rollout.canvas import Canvas, Row
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.rules import CACHES


class Columns:
    """Computes hidden states at places of a canvas, and keeps keys and values in `store` if there is one."""

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
        self.pattern = model.pattern
        self.shift = model.shift
        """1 if logits are shifted: a token is then predicted from the column before it. Else 0."""
        self.keeps_blocks = CACHES[sampling.cache].keeps_blocks
        self.on_gpu = canvas.ids.device.type == "cuda"
        self.adds_masks = self.pattern.is_full and model.config._attn_implementation == "sdpa"
        """Whether padding is hidden by numbers that are added to scores. Given a mask of columns, transformers would
        ask a GPU whether it hides anything, and wait for the answer."""
        self.embedding = model.get_input_embeddings()
        self._of_paddings: dict[Hashable, Tensor] = {}
        """What depends on the paddings of the rows of a call alone, and so is the same in pass after pass."""
        self.compute = partial(hidden_states, policy.model)
        if self.on_gpu and policy.replays is not None:
            self.compute = partial(policy.replays.hidden_states, policy.model)
        if not self.pattern.is_full:
            self.blocks = self.pattern.blocks(canvas.real, canvas.width)
            """(B, L + T) int64, the number of each column's block of attention; -1 on padding."""
        self.rows_per_forward = rows_per_forward
        # The most positions in a call of the model; None = `rows_per_forward` bounds a call.
        self.positions_per_forward = None
        if not self.on_gpu and rows_per_forward is None:
            self.positions_per_forward = POSITIONS_PER_THREAD * torch.get_num_threads()

    def take_slots(self, in_flight: list[Row], all_move: bool) -> None:
        """Gives rows that have no slot in the buffers of keys and values a free one.

        all_move: whether all rows in flight may change their slots; they then move to the slots 0, 1, 2 and so on, so
        that a pass reads and writes them without copies.
        """
        taken = {row.slot for row in in_flight if row.slot >= 0}
        free = (slot for slot in count() if slot not in taken)
        for row in in_flight:
            if row.slot < 0:
                row.slot = next(free)
        slots = [row.slot for row in in_flight]
        if not all_move or slots == list(range(len(slots))):
            return
        # Keys and values that the coming pass does not compute anew move with their row:
        # - with `--cache blocks`, those of finished blocks;
        # - with other caches, those of prompts, if they are kept beyond a refresh (`prompt_refresh_steps`).
        if self.store and (self.keeps_blocks or self.sampling.prompt_refresh_steps):
            kept_columns = max(map(self._num_seen, in_flight)) if self.keeps_blocks else self.canvas.width
            self.store.move(self.canvas.tensor(slots), kept_columns)
        for slot, row in enumerate(in_flight):
            row.slot = slot

    def hidden_states(self, rows: list[Row], numbers: Tensor, places: Tensor, refresh: bool) -> Tensor:
        """The last hidden states (b, n, D) at places (b, n) of the completions.

        numbers: (b,) int64, the rows' numbers on the canvas. refresh: whether the rows compute all that they see,
        except prompts that `prompt_refresh_steps` keeps beyond a refresh.
        """
        num_places = places.shape[1]  # n
        if self.on_gpu:
            # Padded to block_length places, so that all passes have one shape and can be replayed. The results are cut
            # back to `num_places` below.
            padding = places[:, :1].expand(-1, self.sampling.block_length - num_places)
            places = torch.cat([places, padding], 1)
        # {width of a window: indices of the rows that compute it}; width 0 = these rows compute everything.
        by_width: dict[int, list[int]] = defaultdict(list)
        for i, row in enumerate(rows):
            first, end = self.window(row, refresh)
            by_width[end - first].append(i)
        if refresh:
            for i in by_width.get(0, ()):
                rows[i].prompt_computed = rows[i].passes  # `passes` is now the number of this pass
        if len(by_width) == 1:
            compute = self._compute_all if 0 in by_width else self._compute_windows
            return compute(rows, numbers, places, refresh)[:, :num_places]
        results = []
        order: list[int] = []  # the index in `rows` of each row of the results
        for width, chosen in by_width.items():
            compute = self._compute_all if width == 0 else self._compute_windows
            index, chosen_rows = self.canvas.tensor(chosen), [rows[i] for i in chosen]
            results.append(compute(chosen_rows, numbers[index], places[index], refresh))
            order += chosen
        return torch.cat(results)[self.canvas.tensor(order).argsort()][:, :num_places]

    def _num_seen(self, row: Row) -> int:
        """The end of the columns that a row sees.

        With full attention these are all columns; else those up to the end of the block of attention in which the
        active block lies.
        """
        if self.pattern.is_full:
            return self.canvas.num_columns
        _, end = self._attention_block(row)
        return end

    def _attention_block(self, row: Row) -> tuple[int, int]:
        """First column and end of the block of attention in which the active block lies."""
        return self._attention_block_of(row, row.start)

    def _attention_block_of(self, row: Row, place: int) -> tuple[int, int]:
        """First column and end of the block of attention in which the place `place` of the row lies."""
        width = self.canvas.width
        start, stop = self.pattern.block_of(place, width - row.padding)
        return width + start, min(width + stop, self.canvas.num_columns)

    def window(self, row: Row, refresh: bool) -> tuple[int, int]:
        """(first column, end) of the window that a row computes; (0, 0) if it computes all columns that it sees.

        If logits are shifted (`shift` 1), a token is predicted from the column before it, so a window begins there.
        """
        sampling, width = self.sampling, self.canvas.width
        if refresh:
            keeps_prompt = row.passes > 0 and row.passes - row.prompt_computed < sampling.prompt_refresh_steps
            if not keeps_prompt:
                return 0, 0
            return max(0, width - self.shift), self._num_seen(row)
        start, stop = width + row.start, width + row.stop
        if self.keeps_blocks:
            start, stop = self._attention_block(row)
            if row.block_passes == 0 and row.block > 0:
                # The first pass of a block also computes the block that was decoded before it, whose last tokens were
                # written after its keys. Blocks between the two, which a template fills completely, have no keys yet.
                start, _ = self._attention_block_of(row, row.blocks[row.block - 1][0])
        return window_of_block(max(0, start - self.shift), stop, self._num_seen(row), sampling)

    def _compute_all(self, rows: list[Row], numbers: Tensor, places: Tensor, refresh: bool) -> Tensor:
        """The result of `hidden_states`, computed from all columns that rows see; equal rows are computed once.

        If there is a cache, the keys and values of a computed row go into the slots of all rows that are equal to it.
        """
        # 1. Equal rows are computed once. E.g. the rows b, a, a have the distinct rows a, b. Then `distinct_of` is
        #    [1, 0, 0], each row's place among these, and `example` is [2, 0], the index of an a and of a b.
        # 2. The distinct rows are sorted, most padding first, so that rows of similar length share a call of the model.
        # 3. A call computes only the columns lowest .. end - 1, since its rows see no others.
        canvas = self.canvas
        distinct_of, example = self._distinct(rows, canvas.ids[numbers])
        results = []
        for part in self._parts(len(example), canvas.num_columns):
            examples = [rows[i] for i in example[part]]
            lowest, end = min(row.padding for row in examples), max(map(self._num_seen, examples))
            index = canvas.tensor(example[part])  # equal rows have equal places
            numbers_of_examples = canvas.tensor([row.number for row in examples])
            ids = canvas.ids[numbers_of_examples][:, lowest:end]
            equally_wide = all(row.padding == lowest and self._num_seen(row) == end for row in examples)
            mask = positions = blocks = None
            if self.pattern.has_causal_context:
                columns = canvas.counting[lowest:end].expand_as(ids)
                blocks = self.blocks[numbers_of_examples, lowest:end]
                mask = self._attention_mask(examples, numbers_of_examples, columns, lowest, end)
                positions = self._positions(examples, columns)
            elif not equally_wide:
                mask = self._padding_mask(examples, lowest, end)
                if self.pattern.is_full:
                    positions = self._positions_of_real(examples, lowest, end)
            block_argument = {} if blocks is None else {"blocks": blocks}
            access = None
            if self.store:
                slot_and_computed_row = [
                    (row.slot, i - part.start)
                    for row, i in zip(rows, distinct_of, strict=True)
                    if part.start <= i < part.stop
                ]
                slots, computed_row = canvas.tensor(slot_and_computed_row).unbind(1)
                access = Access(self.store, slots, slice(lowest, end), computed_row=computed_row)
            results.append(
                self.compute(
                    ids,
                    mask,
                    keep=places[index] + (canvas.width - lowest),
                    positions=positions,
                    cache=access,
                    start=canvas.width - lowest,
                    **block_argument,
                )
            )
        return joined(results)[canvas.tensor(distinct_of)]

    def _distinct(self, rows: list[Row], ids: Tensor) -> tuple[list[int], list[int]]:
        """(for each of some rows its number among the distinct rows, for each distinct row an index in `rows`).

        ids: (b, L + T). The distinct rows are sorted, most padding first. E.g. the rows b, a, a have the distinct rows
        a, b: [1, 0, 0] and [2, 0].
        """
        # With editing, rows with equal ids may be at different blocks, and then do not count as equal.
        edits = self.sampling.editing_threshold is not None
        texts = [
            (*[-1] * row.padding, *seen[row.padding :], row.block if edits else 0)
            for row, seen in zip(rows, ids.tolist(), strict=True)  # one read of a GPU
        ]
        number_of = {text: number for number, text in enumerate(sorted(set(texts)))}
        distinct_of = [number_of[text] for text in texts]
        example_of = {number: row for row, number in enumerate(distinct_of)}
        return distinct_of, [example_of[number] for number in range(len(example_of))]

    def _compute_windows(self, rows: list[Row], numbers: Tensor, places: Tensor, refresh: bool) -> Tensor:
        """The result of `hidden_states`, computed from a window of each row, which also attends to kept columns.

        All windows have the same width w.
        """
        # 1. `columns` (b, w) are the windows.
        # 2. Keys are read from the columns lowest .. end - 1 of the rows' slots; `_attention_mask` hides some of them.
        # 3. Neighbouring slots and equal windows are slices, which read and write the buffers without copies.
        spans = [self.window(row, refresh) for row in rows]
        width = spans[0][1] - spans[0][0]
        results = []
        for part in self._parts(len(rows), width):
            part_rows, firsts = rows[part], [first for first, _ in spans[part]]
            start = self.canvas.tensor([[first] for first in firsts])
            columns = start + self.canvas.counting[:width]
            lowest, end = min(row.padding for row in part_rows), max(map(self._num_seen, part_rows))
            slots: Tensor | slice = slice(part_rows[0].slot, part_rows[0].slot + len(part_rows))
            same_window = len(set(firsts)) == 1
            if not same_window or [row.slot for row in part_rows] != list(range(slots.start, slots.stop)):
                slots = self.canvas.tensor([row.slot for row in part_rows])
            written_columns = slice(firsts[0], firsts[0] + width) if same_window else columns
            if self.on_gpu:  # a tensor instead of a slice, so that one recorded CUDA graph serves all blocks
                written_columns = columns[0] if same_window and isinstance(slots, slice) else columns
            block_argument = {}
            if self.pattern.has_causal_context:
                block_argument = {"blocks": self.blocks[numbers[part]].gather(1, columns)}
            results.append(
                self.compute(
                    self.canvas.ids[numbers[part].unsqueeze(-1), columns],
                    self._attention_mask(part_rows, numbers[part], columns, lowest, end),
                    keep=places[part] + self.canvas.tensor([[self.canvas.width - first] for first in firsts]),
                    positions=self._positions(part_rows, columns),
                    cache=Access(self.store, slots, written_columns, lowest, end),
                    **block_argument,
                )
            )
        return joined(results)

    def _attention_mask(
        self, rows: list[Row], numbers: Tensor, columns: Tensor, lowest: int, end: int
    ) -> Tensor | None:
        """Which of the K keys in the columns lowest .. end - 1 each row's window sees, bool.

        Returns what `_padding_mask` does if all w columns of a window see the same keys, else (b, 1, w, K); None if all
        see all keys.
        """
        if self.keeps_blocks or self.pattern.has_causal_context:
            blocks = self.blocks[numbers]
            ranks = blocks
            if self.pattern.has_causal_context:
                active_block = blocks.gather(1, self._column(rows, lambda row: self.canvas.width + row.start))
                ranks = self.pattern.causal_ranks(blocks, active_block)
            return block_causal_mask(ranks.gather(1, columns), ranks[:, lowest:end])
        if all(row.padding == lowest and self._num_seen(row) == end for row in rows):
            return None
        return self._padding_mask(rows, lowest, end)

    def _padding_mask(self, rows: list[Row], lowest: int, end: int) -> Tensor:
        """What hides the padding of some rows in the columns lowest .. end - 1; made once for each set of paddings.

        (b, 1, 1, K) numbers that are added to scores, if the model takes them; else (b, K) bool, false on padding.
        """
        key = ("mask", tuple(row.padding for row in rows), lowest, end)
        if (mask := self._of_paddings.get(key)) is None:
            mask = self.canvas.counting[lowest:end] >= self._column(rows, lambda row: row.padding)
            if self.adds_masks:
                mask = mask_to_add(mask[:, None, None], self.embedding.weight.dtype)
            self._of_paddings[key] = mask
        return mask

    def _positions_of_real(self, rows: list[Row], lowest: int, end: int) -> Tensor:
        """(b, K) int64, `_positions` of the columns lowest .. end - 1; made once for each set of paddings."""
        key = ("positions", tuple(row.padding for row in rows), lowest, end)
        if (positions := self._of_paddings.get(key)) is None:
            positions = self._positions(rows, self.canvas.counting[lowest:end])
            self._of_paddings[key] = positions
        return positions

    def _positions(self, rows: list[Row], columns: Tensor) -> Tensor:
        """Position ids of columns (b, w): each row's first real token has 0."""
        return (columns - self._column(rows, lambda row: row.padding)).clamp(min=0)

    def _column(self, rows: list[Row], value: Callable[[Row], int]) -> Tensor:
        """(b, 1) int64 on the canvas's device, value(row) of each row."""
        return self.canvas.tensor([[value(row)] for row in rows])

    def _parts(self, num_rows: int, width: int) -> list[slice]:
        """Slices that cut rows into parts, each for one call of the model. width: how many columns a row computes."""
        size = self.rows_per_forward or num_rows
        if self.positions_per_forward:
            size = max(1, self.positions_per_forward // width)
        return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]
