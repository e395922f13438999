"""The canvas that completions are written on: token ids of prompts and completions, and when each token was unmasked.

A *column* counts from the first token of the longest prompt, a *place* from the first token of a completion.

A `Row` is one completion with its prompt. Its tokens depend only on its own prompt and noise. So rows may be at
different blocks, wait for each other before a refresh (a pass that computes all columns, see `cache.py`), and replace
rows that have ended. `Refill` decides which rows take part in a pass; it reads no tensor, which would make a GPU wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from spg_trainer.models.forward import head_weight
from spg_trainer.models.policy import Policy
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.rules import CACHES
from spg_trainer.tensors import GIVEN, NEVER, Record, Rows

NEAR = 10
"""Tokens up to so many places away count as written near a place, for `confidence_change` (Informed Masking)."""


MOST_KEPT_TENSORS = 1024
"""`Canvas.tensor` keeps at most so many of its small tensors on the device, to use them again."""
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
        if CACHES[self.sampling.cache].margins is None:  # nothing is kept, so every pass is a refresh
            to_refresh = list(self.in_flight)
        elif CACHES[self.sampling.cache].keeps_blocks:
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


@dataclass
class Blocks:
    """For each of the b rows of a pass: its active block of S places, and the *drawn places*, which get a token.

    n is the largest number of drawn places of a row; a row with fewer is filled up to n with places that are not drawn.
    E.g. a row has the S = 4 places 8..11, of which 8 and 10 are masked, and another row has n = 3 drawn places: then
    `within` of the first row is [0, 2, 1], its `places` are [8, 10, 9], and its `num_drawn` is 2.
    """

    numbers: Tensor
    """(b,) int64, the rows' numbers on the canvas."""
    span: Tensor
    """(b, S) int64, the places of the blocks. A block shorter than S is filled up with places after it or, where the
    canvas ends, before it."""
    masked: Tensor
    """(b, S) bool, the places of the block that hold no token yet."""
    within: Tensor
    """(b, n) int64, where in `span` the drawn places are, in ascending order, followed by the places that fill the row
    up. A row has no number twice, because tokens are written by this index."""
    places: Tensor
    """(b, n) int64, the same places, counted from the completion's first token. Results at places that fill a row up
    are not used. If a pass computes only the row's own block, the first drawn place is repeated there instead."""
    num_drawn: list[int]
    """b numbers: how many drawn places each row has."""
    has_token: Tensor | None
    """(b, n) bool, which of `places` have a token already; None if only masked places are drawn."""


class Canvas:
    """All B rows of a rollout, on the model's device; only the sampler's passes write on it."""

    def __init__(
        self,
        policy: Policy,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        length: int,
        records: frozenset[Record] = frozenset(),
        template_ids: Tensor | None = None,
    ) -> None:
        """prompt_ids, prompt_mask: (B, L). length: T. records: what is recorded besides step and log-probability.

        template_ids: (B, T) int64, tokens that stay, and the mask id in the holes; None = a completion is one hole.
        """
        device = prompt_ids.device
        batch_size, self.width = prompt_ids.shape
        self.prompt_ids, self.prompt_mask, self.length = prompt_ids, prompt_mask, length
        self.num_columns = self.width + length
        completion_ids = template_ids
        if completion_ids is None:
            completion_ids = prompt_ids.new_full((batch_size, length), policy.mask_id)
        self.ids = torch.cat([prompt_ids.masked_fill(~prompt_mask, policy.pad_id), completion_ids], -1)
        """(B, L + T) int64, with the pad id on padding."""
        self.real = torch.cat([prompt_mask, prompt_mask.new_ones((batch_size, length))], -1)
        """(B, L + T) bool, false on padding."""
        self.unmask_step = torch.full((batch_size, length), NEVER, dtype=torch.int64, device=device)
        self.has_given = template_ids is not None
        """Whether a template gives some of the tokens."""
        if template_ids is not None:
            self.unmask_step.masked_fill_(template_ids != policy.mask_id, GIVEN)
        dtype = torch.promote_types(head_weight(policy.model).dtype, torch.float32)
        self.unmask_logps = torch.zeros((batch_size, length), dtype=dtype, device=device)
        dtypes = {"fallback": torch.bool}
        self.records = {
            name: torch.zeros_like(self.unmask_logps, dtype=dtypes.get(name, dtype))
            for name in sorted(records)
        }
        """{name of a record: (B, T)}"""
        if "confidence_change" in records:
            self.highest = torch.full_like(self.unmask_logps, float("nan"))
            """(B, T), the highest probability at each place in the last pass that drew a token for it; NaN before."""
        self.mask_id = policy.mask_id
        self.counting = torch.arange(self.num_columns, device=device)
        """(L + T,) int64, 0, 1, 2, ...; its beginnings are views."""
        self._sent: dict[str, Tensor] = {}
        """{a list as text: its tensor on the device}, see `tensor`."""
        self.end_tokens = torch.tensor(policy.end_token_ids, dtype=torch.int64, device=device)
        self.mask_and_ends = torch.tensor([policy.mask_id, *policy.end_token_ids], device=device)

    def tensor(self, values: Sequence[object]) -> Tensor:
        """The values as a tensor on the canvas's device; unlike `torch.tensor(..., device=)` it waits for no GPU.

        Most small lists of a pass equal those of the pass before, and are sent only once. So nobody may change the
        tensor.
        """
        key = str(values)
        if (sent := self._sent.get(key)) is None:
            if len(self._sent) == MOST_KEPT_TENSORS:
                self._sent.clear()
            sent = torch.tensor(values).to(self.ids.device, non_blocking=True)
            self._sent[key] = sent
        return sent

    def first_columns(self, counts: list[int], width: int) -> Tensor:
        """(b, width) bool, true in the first `counts` columns of each of b rows."""
        return self.counting[:width] < self.tensor(counts).unsqueeze(-1)

    def active_blocks(self, rows: list[Row], size: int, edits: bool, own_block_only: bool) -> Blocks:
        """The active blocks of some rows.

        size: S. edits: whether places that have a token are drawn, too. own_block_only: whether a pass computes only
        the row's own block, as under block-causal attention.
        """

        def number_drawn(row: Row) -> int:
            if row.writes_first_only:
                return 1
            return row.holes if edits else row.masked

        num_drawn, first_only = [*map(number_drawn, rows)], [row.writes_first_only for row in rows]
        most = max(num_drawn)  # n
        numbers = self.tensor([row.number for row in rows])
        # A span has to end on the canvas, so the span of a short last block begins before the block.
        edges = self.tensor([[min(row.start, self.length - size), row.start, row.stop] for row in rows])
        span_start, block_start, block_stop = edges.split(1, dim=1)  # (b, 1) each
        span = span_start + self.counting[:size]
        step = self.unmask_step[numbers.unsqueeze(-1), span]
        masked = step == NEVER
        if any(row.stop < row.start + size for row in rows):  # before a block nothing is masked any more
            masked &= span < block_stop
        drawn = masked
        if edits:
            drawn = (span >= block_start) & (span < block_stop) & (step != GIVEN)
        if any(first_only):
            drawn = drawn & ((span == block_start) | ~self.tensor(first_only).unsqueeze(-1))
        within = drawn.view(torch.uint8).argsort(dim=-1, descending=True, stable=True)[:, :most]
        places = span_start + within
        if own_block_only and min(num_drawn) < most:
            is_drawn = self.first_columns(num_drawn, most)
            places = torch.where(is_drawn, places, places[:, :1])
        return Blocks(
            numbers=numbers,
            span=span,
            masked=masked,
            within=within,
            places=places,
            num_drawn=num_drawn,
            has_token=~masked.gather(1, within) if edits else None,
        )

    def tokens_at(self, blocks: Blocks) -> Tensor:
        """(b, n) int64, the ids at the blocks' `places` now."""
        return self.ids[blocks.numbers.unsqueeze(-1), self.width + blocks.places]

    def chosen(self, order: Tensor, counts: Sequence[int] | Tensor) -> Tensor:
        """(b, k) int64, the first `counts` of each row of an `order` (b, n); k is the largest count.

        A row with a smaller count is filled up with its first number. counts: b numbers >= 1; if they are a tensor,
        which the host does not read, k is n.
        """
        if not isinstance(counts, Tensor):
            order = order[:, : max(counts)]
            if min(counts) == max(counts):
                return order
            counts = self.tensor(counts)
        is_first = self.counting[: order.shape[1]] < counts.unsqueeze(-1)
        return torch.where(is_first, order, order[:, :1])

    def write(
        self,
        numbers: Tensor,
        places: Tensor,
        tokens: Tensor,
        logps: Tensor,
        steps: Tensor,
        falls_back: Tensor | None,
        take: Tensor | None = None,
    ) -> None:
        """Writes drawn tokens, and records for each its step, log-probability and so on.

        numbers: (b,), the rows. places: (b, k) of their completions; one may stand in a row twice if its values do,
        too. tokens, logps: (b, k). steps: (b, 1), the denoising step of this pass. falls_back: (b,) bool, whether the
        step was sure of no token; None = it is not recorded. take: (b, k) bool, which of the tokens are written; None =
        all are.
        """
        columns_and_values = [
            (self.ids[:, self.width :], tokens),
            (self.unmask_step, steps),
            (self.unmask_logps, logps),
        ]
        if falls_back is not None:
            columns_and_values.append((self.records["fallback"], falls_back.unsqueeze(-1)))
        index = (numbers.unsqueeze(-1), places)
        for column, values in columns_and_values:
            column[index] = values if take is None else torch.where(take, values, column[index])

    def note_highest(self, blocks: Blocks, highest: Tensor, steps: Tensor) -> None:
        """Adds to `confidence_change` how much the highest probability at masked places changed since the last pass.

        highest: (b, n), the highest probability at each of the blocks' `places` now. steps: (b, n), the denoising step
        of this pass. Nothing is added at a place without a new token within `NEAR` places, and at a place that had no
        probability before.
        """
        numbers = blocks.numbers.unsqueeze(-1)
        # In a row's first pass, `steps - 1` is -1, which is NEVER. So masked places count as just written, too. This
        # does no harm, since no place had a probability before.
        just_written = self.unmask_step[blocks.numbers] == steps[:, :1] - 1
        is_near = max_pool1d(just_written.to(highest.dtype), 2 * NEAR + 1, stride=1, padding=NEAR) > 0
        before = self.highest[numbers, blocks.span]  # (b, S)
        now = before.scatter(1, blocks.within, highest).where(blocks.masked, before)
        change = ((now - before).abs() * is_near.gather(1, blocks.span)).nan_to_num(0.0)
        self.records["confidence_change"][numbers, blocks.span] += change
        self.highest[numbers, blocks.span] = now

    def ended(self, numbers: Tensor) -> Tensor:
        """(b,) bool, whether each row of `numbers` is finished: its places still masked are all after an end token."""
        ids = self.ids[:, self.width :][numbers]
        if self.has_given:
            step = self.unmask_step[numbers]
            return ~((step == NEVER) & until_end(ids, self.end_tokens, step == GIVEN)).any(-1)
        # The first place that is masked or holds an end token; the first place of all if there is none.
        first = torch.isin(ids, self.mask_and_ends).view(torch.uint8).argmax(-1, keepdim=True)
        return ids.gather(1, first).squeeze(-1) != self.mask_id

    def rollouts(self) -> Rows:
        """The completions as they are on the canvas now, with the records of when each token was unmasked."""
        completion_ids = self.ids[:, self.width :].contiguous()
        is_given = self.unmask_step == GIVEN if self.has_given else None
        return Rows(
            prompt_ids=self.prompt_ids,
            prompt_mask=self.prompt_mask,
            completion_ids=completion_ids,
            completion_mask=until_end(completion_ids, self.end_tokens, is_given),
            unmask_step=self.unmask_step,
            unmask_logps=self.unmask_logps,
            **self.records,
        )


def until_end(completion_ids: Tensor, end_tokens: Tensor, is_given: Tensor | None = None) -> Tensor:
    """(B, T) bool, true up to and including the first end token of each completion (B, T).

    is_given: (B, T) bool, the tokens of a template, where the result is false. Each hole between them is true up to and
    including its own first end token. None = a completion is one hole. E.g. with E as end token and "x" given,
    a b E c x d E gives true true true false false true true.
    """
    ends = torch.isin(completion_ids, end_tokens)
    if is_given is None:
        return ends.cumsum(-1) - ends.long() == 0  # no end token before this one
    ends &= ~is_given
    ends_so_far = ends.cumsum(-1)
    # How many end tokens stand up to the last given token, which is just before the hole.
    ends_before_hole = ends_so_far.masked_fill(~is_given, 0).cummax(-1).values
    return ~is_given & (ends_so_far - ends.long() == ends_before_hole)
