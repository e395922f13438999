"""How completions are made: block by block from left to right, in each block the best tokens first.

Three choices by name, each a table of functions: which columns a pass computes (`--cache`, in `cache`), how many tokens
it unmasks and in what order (`--unmasking`, `--remasking`, in `unmasking`). With `--cache none` and the schedule the
tokens are those of the plain LLaDA sampler up to the first end token. Work that cannot change a token is left out:
logits and the last layer outside the masked positions of the active block, rows whose text is finished, padding common
to the rows of a forward pass, all but one of several rows that look the same to the model at a refresh.

A row's tokens depend on its own prompt and noise alone: rows may be at different blocks, wait for each other before a
refresh, and take the place of others that have ended.

Under block-causal attention blocks are cut on the grid of attention's: where the prompt holds the head of one, a row's
first block is what is left of it, and a schedule unmasks as many tokens a pass as in a whole one. What stands behind
attention's block is not computed. The canvas ends with the completion: the published samplers mask the last block whole
and cut it afterwards, which is the same where prompt and completion fill it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spg_trainer.errors import ConfigError
from spg_trainer.models.load import Policy
from spg_trainer.models.pattern import Pattern, visible
from spg_trainer.models.states import base_model, head_weight, hidden_states
from spg_trainer.rollout.cache import (
    CACHES,
    POSITIONS_PER_THREAD,
    Access,
    KeyValues,
    bytes_per_column,
    pass_bytes,
    rows_in_flight,
    rows_that_fit,
)
from spg_trainer.rollout.draw import Generators, sample_tokens
from spg_trainer.rollout.unmasking import MEASURES, REMASKING, UNMASKING, Pass
from spg_trainer.settings.fields import Sampling
from spg_trainer.tensors import Rollouts

_watcher: ContextVar[Callable[[float], None] | None] = ContextVar("watcher", default=None)


def sample_completions(
    policy: Policy,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    sampling: Sampling,
    generators: Generators,
    *,
    rows_per_forward: int | None = None,
) -> Rollouts:
    """Writes one completion for each prompt.

    The model is in evaluation mode then and afterwards.

    prompt_ids: (B, L) int64, left-padded. prompt_mask: (B, L) bool, false on padding. generators: B on the model's
    device; None where nothing is random. rows_per_forward: at most so many rows in one call of the model, and with a
    cache in flight, which bounds memory; None = what is fastest: all on an accelerator, few enough to stay in the
    cache on a CPU.

    Returns Rollouts on the model's device; positions that were still masked when a row was finished hold the mask id,
    step -1 and log-probability 0. Raises ConfigError for settings that cannot decode, a prompt too long for the model.
    """
    sampling.check()
    check_names(sampling)
    check_pattern(base_model(policy.model).pattern, sampling)
    device = policy.model.device
    prompt_ids, prompt_mask = prompt_ids.to(device), prompt_mask.to(device, torch.bool)
    lengths = prompt_mask.sum(-1).tolist()
    _check_prompts_fit(policy, lengths, sampling)
    policy.model.eval()
    with torch.no_grad():
        decoding = _Decoding(policy, prompt_ids, prompt_mask, lengths, sampling, generators, rows_per_forward)
        return decoding.run()


def check_names(sampling: Sampling) -> None:
    """Raises ConfigError for a cache, unmasking or remasking that no table has; it lists the known ones."""
    for flag, table in (("cache", CACHES), ("unmasking", UNMASKING), ("remasking", REMASKING)):
        name = getattr(sampling, flag)
        if name not in table:
            raise ConfigError(f"--{flag} {name!r} is unknown. Use one of: {', '.join(table)}.")


def check_pattern(pattern: Pattern, sampling: Sampling) -> None:
    """Raises ConfigError for a cache or blocks that do not go with who attends to whom in a model."""
    size, block, cache = pattern.block_size, sampling.block_length, sampling.cache
    if pattern.is_full:
        if cache == "blocks":
            raise ConfigError(
                "cache=blocks keeps the keys of finished blocks, which change in this model: every token attends to "
                "every other. Use cache=none, or cache=dual, which is an approximation."
            )
        return
    if size % block:
        fits = max(n for n in range(1, min(block, size) + 1) if size % n == 0)
        raise ConfigError(
            f"block_length={block} does not divide the {size} tokens of a block of the model's attention. Use "
            f"{' or '.join(f'block_length={n}' for n in sorted({fits, size}))}."
        )
    if cache not in ("none", "blocks"):
        raise ConfigError(
            f"cache={cache} approximates a model whose tokens all attend to each other; in this one finished blocks "
            "never change. Use cache=blocks, which is exact."
        )
    if sampling.suffix_tokens is not None:
        raise ConfigError(
            f"suffix_tokens={sampling.suffix_tokens}: this model never sees what stands behind a block. Leave it out."
        )


@contextmanager
def watching(report: Callable[[float], None]) -> Iterator[None]:
    """Inside, `report` is told after every denoising step what share of the steps of its rows is done, 0 to 1."""
    token = _watcher.set(report)
    try:
        yield
    finally:
        _watcher.reset(token)


@dataclass(eq=False)
class _Row:
    """How far a row in flight is; all of it known without looking at the device."""

    number: int
    """Of its prompt."""
    padding: int
    """Columns before its first token."""
    spans: Sequence[tuple[int, int]]
    """First token and end of each of its blocks."""
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
    slot: int = 0
    """Of the buffers of keys and values."""

    @property
    def start(self) -> int:
        """First token of the active block."""
        return self.spans[self.block][0]

    @property
    def stop(self) -> int:
        """End of the active block."""
        return self.spans[self.block][1]


@dataclass
class _Decoding:
    """Prompts and completions under work. Columns count from the first of the longest prompt."""

    policy: Policy
    prompt_ids: Tensor
    prompt_mask: Tensor
    lengths: list[int]
    sampling: Sampling
    generators: Generators
    rows_per_forward: int | None
    in_flight: list[_Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        (rows, self.width), device = self.prompt_ids.shape, self.prompt_ids.device
        s, length = self.sampling, self.sampling.max_completion_length
        self.columns = self.width + length
        family = base_model(self.policy.model)
        self.pattern, self.shift, self.head = family.pattern, family.shift, head_weight(self.policy.model)
        self.end_tokens = torch.tensor(self.policy.end_token_ids, dtype=torch.int64, device=device)
        masks = self.prompt_ids.new_full((rows, length), self.policy.mask_id)
        self.ids = torch.cat([self.prompt_ids, masks], -1)
        self.real = torch.cat([self.prompt_mask, self.prompt_mask.new_ones((rows, length))], -1)
        self.unmask_step = torch.full((rows, length), -1, dtype=torch.int64, device=device)
        dtype = torch.promote_types(self.head.dtype, torch.float32)
        self.unmask_logps = torch.zeros((rows, length), dtype=dtype, device=device)
        self.remask, self.unmask, self.window = (
            REMASKING[s.remasking],
            UNMASKING[s.unmasking],
            CACHES[s.cache],
        )
        self.keeps_blocks = s.cache == "blocks"
        if not self.pattern.is_full:
            self.blocks = self.pattern.blocks(self.real, self.width)
        self.positions = None  # of positions in one call of the model; None = rows_per_forward bounds it
        if device.type == "cpu" and self.rows_per_forward is None:
            self.positions = POSITIONS_PER_THREAD * torch.get_num_threads()
        self.slots = rows
        if self.window:
            attention = self.policy.model.config._attn_implementation
            if attention != "sdpa":
                raise ConfigError(
                    f"cache={s.cache}: the model attends by {attention!r}, which cannot leave out columns. Use "
                    'cache=none, or model.set_attn_implementation("sdpa").'
                )
            self.slots = rows_in_flight(rows, self.rows_per_forward, s.block_length, device)
            row_bytes = self.columns * bytes_per_column(self.policy.model.config, self.head.element_size())
            fit = rows_that_fit(row_bytes + self.columns * pass_bytes(self.policy.model.config), device)
            if fit is not None and fit < self.slots:
                if fit < 1:
                    raise ConfigError(
                        f"cache={s.cache}: keys and values of {self.columns} columns take {row_bytes / 2**30:.1f} GiB, "
                        f"and {device} has no room for one row. Use cache=none, or a shorter completion."
                    )
                self.slots = fit
            self.store = KeyValues(self.slots, self.columns)
        self.waiting = []
        for number, real in enumerate(self.lengths):
            spans = self.pattern.spans(real, length, s.block_length)
            self.waiting.append(_Row(number, self.width - real, spans, spans[0][1]))

    def run(self) -> Rollouts:
        """Decodes all rows."""
        report = _watcher.get()
        while self.in_flight or self.waiting:
            due = [row for row in self.in_flight if self._needs_refresh(row)]
            # A refresh is for many rows at once: those that need it wait until a quarter does.
            if self.in_flight and 4 * len(due) < len(self.in_flight) and not self.keeps_blocks:
                self._step([row for row in self.in_flight if not self._needs_refresh(row)])
            else:
                due += self._admit()
                if self.keeps_blocks or len(due) == len(self.in_flight):
                    self._compact()
                self._step(due or list(self.in_flight))
            if report:
                report(self._share_done())
        return self._finish()

    def _needs_refresh(self, row: _Row) -> bool:
        if self.keeps_blocks:
            return row.passes == 0
        every = self.sampling.refresh_steps
        return not self.window or row.block_passes == 0 or (bool(every) and row.block_passes % every == 0)

    def _admit(self) -> list[_Row]:
        """Waiting rows take the place of those that have ended, once these are a quarter of all."""
        free = self.slots - len(self.in_flight)
        if not self.waiting or 4 * free < self.slots:
            return []
        new, self.waiting = self.waiting[:free], self.waiting[free:]
        taken = {row.slot for row in self.in_flight}
        for row, slot in zip(new, (slot for slot in range(self.slots) if slot not in taken), strict=False):
            row.slot = slot
        self.in_flight += new
        return new

    def _step(self, rows: list[_Row]) -> None:
        """One pass of some rows: hidden states, tokens, how many of them are kept, and what follows for each row."""
        s, size = self.sampling, self.sampling.block_length
        edits = s.editing_threshold is not None
        count = [row.stop - row.start if edits else row.masked for row in rows]
        numbers = self._tensor([row.number for row in rows])
        # As many tokens of each row as a whole block has; those before a shorter one are unmasked.
        last = s.max_completion_length - size
        edges = self._tensor([[min(row.start, last), row.stop, row.start] for row in rows])
        span = edges[:, :1] + torch.arange(size, device=numbers.device)
        still = (self.unmask_step[numbers.unsqueeze(-1), span] < 0) & (span < edges[:, 1:2])
        drawn = (span >= edges[:, 2:]) & (span < edges[:, 1:2]) if edits else still
        # The masked places of the block, ascending; behind a row's last one the others follow.
        places = drawn.long().argsort(dim=-1, descending=True, stable=True)[:, : max(count)]
        asked = span[:, :1] + places
        if not self.pattern.is_full and min(count) < max(count):  # others may lie outside of what is computed
            behind = torch.arange(max(count), device=numbers.device) >= self._tensor(count).unsqueeze(-1)
            asked = torch.where(behind, asked[:, :1], asked)
        states = self._hidden_states(rows, numbers, asked)
        written = ~still.gather(1, places) if edits else None
        tokens, logps, order = self._draw(rows, states, count, written)
        ranked = logps if written is None else logps.masked_fill(written, float("-inf"))
        many, left = self._how_many(rows, ranked.gather(1, order))
        best = torch.arange(places.shape[1], device=numbers.device) < many.unsqueeze(-1)
        take = torch.zeros_like(still).scatter_(1, places.gather(1, order), best)
        changed = None
        if written is not None:
            before = self.ids[numbers.unsqueeze(-1), self.width + asked]
            change = written & (tokens != before) & (logps.exp() > s.editing_threshold)
            take |= torch.zeros_like(still).scatter_(1, places, change)
            changed, left = change.any(-1), None
        passes = self._tensor([[row.passes] for row in rows]).expand_as(places)
        records = (
            (self.ids, self.width, tokens),
            (self.unmask_step, 0, passes),
            (self.unmask_logps, 0, logps),
        )
        for record, first, values in records:
            where = (numbers.unsqueeze(-1), first + span)
            record[where] = torch.where(take, record[where].scatter(1, places, values), record[where])
        self._advance(rows, numbers, still & ~take, left, changed)

    def _draw(
        self, rows: list[_Row], states: Tensor, count: list[int], written: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, their log-probabilities, and the order in which they would be unmasked, (b, n) each.

        states: (b, n, D). count: b, places of each row to draw for; what stands behind the last has log-probability
        -inf. written: (b, n) bool, places that are unmasked, None = none. The order ends with both.
        """
        shape, inside = states.shape[:2], None
        states = states.flatten(0, 1)
        if min(count) < shape[1]:  # the head is for masked places only
            inside = self._tensor([i * shape[1] + j for i, n in enumerate(count) for j in range(n)])
            states = states[inside]
        streams = [self.generators[row.number] for row in rows] if self.sampling.draws_noise else None
        s, measure = self.sampling, MEASURES.get(self.sampling.remasking)
        drawn = sample_tokens(states, self.head, self.policy.mask_id, s.temperature, streams, count, measure)
        if inside is None:
            tokens, logps, sure = (values.view(shape) for values in drawn)
        else:
            blank = (states.new_zeros(shape.numel(), dtype=values.dtype) for values in drawn)
            tokens, logps, sure = (
                b.index_copy(0, inside, v).view(shape) for b, v in zip(blank, drawn, strict=True)
            )
        priority = self.remask(sure, streams, count)
        if inside is not None:
            behind = torch.arange(shape[1], device=states.device) >= self._tensor(count).unsqueeze(-1)
            logps, priority = (x.masked_fill(behind, float("-inf")) for x in (logps, priority))
        if written is not None:
            priority = priority.masked_fill(written, float("-inf"))
        return tokens, logps, priority.argsort(dim=-1, descending=True, stable=True)

    def _how_many(self, rows: list[_Row], logps: Tensor) -> tuple[Tensor, list[int] | None]:
        """How many tokens each row unmasks (b,), and how many then are masked where the settings alone say that."""
        s, count = self.sampling, [row.masked for row in rows]
        shares = [self._masked_share(row) for row in rows]
        numbers = [row.block_passes if row.masked else 0 for row in rows]
        chosen = self.unmask(Pass(logps, count, numbers, shares), s)
        limits = [min(n, s.max_tokens_per_step or n) for n in count]
        if isinstance(chosen, Tensor):
            return chosen.clamp(min=1).minimum(self._tensor(limits)), None
        chosen = [min(max(1, n), limit) for n, limit in zip(chosen, limits, strict=True)]
        return self._tensor(chosen), [n - m for n, m in zip(count, chosen, strict=True)]

    def _advance(
        self, rows: list[_Row], numbers: Tensor, still: Tensor, left: list[int] | None, changed: Tensor | None
    ) -> None:
        """Counts the pass; rows that are finished leave. still: (b, S) masked places of the block.

        left: how many these are where that is known; only a block's end is then a reason to look at the tokens, and
        only without a cache each pass is. changed: (b,) bool, the rows in which written tokens were replaced; a block
        then ends with a pass over written tokens alone that changes nothing. None = none ever is.
        """
        leaving, edited = [False] * len(rows), [False] * len(rows)
        if left is None or not self.window or 0 in left:
            completion = self.ids[numbers, self.width :]
            first_masked = _first(self.unmask_step[numbers] < 0)
            finished = _first(torch.isin(completion, self.end_tokens)) < first_masked
            seen = [finished.long(), still.sum(-1)] + ([] if changed is None else [changed.long()])
            leaving, left, *rest = torch.stack(seen).tolist()
            edited = rest[0] if rest else edited
        for row, leaves, masked, edit in zip(rows, leaving, left, edited, strict=True):
            row.post_passes += not row.masked
            row.masked, row.passes, row.block_passes = masked, row.passes + 1, row.block_passes + 1
            over = not masked
            if over and changed is not None:
                over = row.post_passes >= self.sampling.max_post_steps or (row.post_passes > 0 and not edit)
            if over:
                row.block, row.block_passes, row.post_passes = row.block + 1, 0, 0
            if row.block == len(row.spans) or (leaves and (over or changed is None)):
                self.in_flight.remove(row)
            elif over:
                row.masked = row.stop - row.start

    def _hidden_states(self, rows: list[_Row], numbers: Tensor, places: Tensor) -> Tensor:
        """Last hidden states at places (b, n) of the completions, (b, n, D)."""
        groups: dict[int, list[int]] = defaultdict(list)  # by the width of what is computed, 0 in a refresh
        for i, row in enumerate(rows):
            first, end = self._window(row)
            groups[end - first].append(i)
        if len(groups) == 1:
            return (self._pass if 0 not in groups else self._refresh)(rows, numbers, places)
        results, order = [], []
        for width, chosen in groups.items():
            index = self._tensor(chosen)
            compute = self._pass if width else self._refresh
            results.append(compute([rows[i] for i in chosen], numbers[index], places[index]))
            order += chosen
        return torch.cat(results)[self._tensor(order).argsort()]

    def _seen(self, row: _Row) -> int:
        """Columns that the model sees: up to the block's end, then `suffix_tokens` and the last one.

        Under block-causal attention, up to the end of attention's block.
        """
        if not self.pattern.is_full:
            return self._attention_block(row)[1]
        s, stop = self.sampling, self.width + row.stop
        cut = s.suffix_tokens is not None and self.columns - stop > s.suffix_tokens
        return stop + s.suffix_tokens + 1 if cut else self.columns

    def _attention_block(self, row: _Row) -> tuple[int, int]:
        """First column and end of the block of attention that the active block lies in."""
        start, stop = self.pattern.block_of(row.start, self.lengths[row.number])
        return self.width + start, min(self.width + stop, self.columns)

    def _true_columns(self, rows: list[_Row], columns: Tensor) -> Tensor:
        """Where columns (b, w), counted among those that are seen, stand: the last of these is the canvas's last."""
        if self.sampling.suffix_tokens is None:
            return columns
        last = columns == self._column(rows, self._seen) - 1
        return columns.masked_fill(last, self.columns - 1)

    def _column(self, rows: list[_Row], value: Callable[[_Row], int]) -> Tensor:
        """(b, 1) int64, a number of each row."""
        return self._tensor([[value(row)] for row in rows])

    def _tensor(self, values: Sequence[object]) -> Tensor:
        """On the model's device, without waiting for it as `torch.tensor(..., device=)` does."""
        return torch.tensor(values).to(self.ids.device, non_blocking=True)

    def _window(self, row: _Row) -> tuple[int, int]:
        """First and end of the columns to compute, among those that are seen; (0, 0) for all of them."""
        s = self.sampling
        if self._needs_refresh(row):
            if row.passes and row.passes - row.prompt_computed < s.prompt_refresh_steps:
                return max(0, self.width - self.shift), self._seen(row)
            return 0, 0
        start, stop = self.width + row.start, self.width + row.stop
        if self.keeps_blocks:
            entered = row.block_passes == 0 and start == self._attention_block(row)[0]
            start, stop = self._attention_block(row)
            if entered:  # what stands before has its last tokens, but not yet their keys
                start -= self.pattern.block_size
        return self.window(max(0, start - self.shift), stop, self._seen(row), s)

    def _refresh(self, rows: list[_Row], numbers: Tensor, places: Tensor) -> Tensor:
        """All that is seen, of rows that are equal once; a cache keeps it."""
        seen = self.ids[numbers].masked_fill(~self.real[numbers], -1)
        cut = self.sampling.suffix_tokens is not None
        if cut:
            end = max(map(self._seen, rows))
            compact = torch.arange(end, device=seen.device).expand(len(rows), -1)
            columns = self._true_columns(rows, compact)
            seen = seen.gather(1, columns).masked_fill(compact >= self._column(rows, self._seen), -1)
        looks = seen
        if self.sampling.editing_threshold is not None:  # what is written says no more which block is active
            looks = torch.cat([seen, self._column(rows, lambda row: row.block)], 1)
        # Sorting puts the rows with most padding first, so rows of like length share a forward pass.
        source = torch.unique(looks.cpu(), dim=0, return_inverse=True)[1].tolist()  # one read of a GPU
        numbered = {look: i for i, look in enumerate(source)}
        example = [numbered[look] for look in range(len(numbered))]  # a row that looks like each distinct one
        distinct, inverse = seen[self._tensor(example)], self._tensor(source)
        keep = places.new_empty(len(distinct), places.shape[1])
        keep[inverse] = self.width + places
        results = []
        for part in self._parts(len(distinct), distinct.shape[1]):
            alike = [rows[i] for i in example[part]]
            lowest, end = min(row.padding for row in alike), max(map(self._seen, alike))
            ids, positions = distinct[part, lowest:end], None
            even = all(row.padding == lowest and self._seen(row) == end for row in alike)
            if cut:
                columns = torch.arange(lowest, end, device=ids.device).expand(len(alike), -1)
                positions = self._positions(alike, self._true_columns(alike, columns))
            mask = None if even else ids >= 0
            access = None
            if self.window:
                pairs = [(row.slot, i - part.start) for row, i in zip(rows, source, strict=True)]
                index = self._tensor([pair for pair in pairs if 0 <= pair[1] < part.stop - part.start])
                access = Access(self.store, index[:, 0], slice(lowest, end), source=index[:, 1])
            ids = ids.masked_fill(ids < 0, self.policy.pad_id)
            results.append(
                self._forward(ids, mask, keep[part] - lowest, positions, access, self.width - lowest)
            )
        for row in rows:
            row.prompt_computed = row.passes
        return torch.cat(results)[inverse]

    def _pass(self, rows: list[_Row], numbers: Tensor, places: Tensor) -> Tensor:
        """A window of each row, equally wide in all, that attends to what is kept beside it."""
        spans, device, results = [self._window(row) for row in rows], self.ids.device, []
        width = spans[0][1] - spans[0][0]
        for part in self._parts(len(rows), width):
            some, firsts = rows[part], [first for first, _ in spans[part]]
            start = self._tensor(firsts).unsqueeze(-1)
            columns = start + torch.arange(width, device=device)
            true = self._true_columns(some, columns)
            lowest, end = min(row.padding for row in some), max(map(self._seen, some))
            mask = None
            if self.keeps_blocks:
                own = self.blocks[numbers[part]]
                mask = visible(own.gather(1, columns), own[:, lowest:end])
            elif any(row.padding > lowest or self._seen(row) < end for row in some):
                keys = torch.arange(lowest, end, device=device)
                mask = (keys >= self._column(some, lambda row: row.padding)) & (
                    keys < self._column(some, self._seen)
                )
            slots: Tensor | slice = slice(some[0].slot, some[0].slot + len(some))
            together = len(set(firsts)) == 1
            if not together or [row.slot for row in some] != list(range(slots.start, slots.stop)):
                slots = self._tensor([row.slot for row in some])
            written = slice(firsts[0], firsts[0] + width) if together else columns
            access = Access(self.store, slots, written, lowest, end)
            ids = self.ids[numbers[part]].gather(1, true)
            keep = self.width + places[part] - start
            results.append(self._forward(ids, mask, keep, self._positions(some, true), access))
        return torch.cat(results)

    def _positions(self, rows: list[_Row], columns: Tensor) -> Tensor:
        """Positions of columns (b, w): real tokens count from 0."""
        return (columns - self._column(rows, lambda row: row.padding)).clamp(min=0)

    def _forward(
        self,
        ids: Tensor,
        mask: Tensor | None,
        keep: Tensor,
        positions: Tensor | None,
        access: Access | None,
        start: int | None = None,
    ) -> Tensor:
        return hidden_states(
            self.policy.model, ids, mask, keep, positions=positions, cache=access, start=start
        )

    def _parts(self, rows: int, width: int) -> list[slice]:
        """Rows that share a forward pass of so many columns each."""
        size = self.rows_per_forward or rows
        if self.positions:
            size = max(1, self.positions // width)
        return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]

    def _compact(self) -> None:
        """Gives the rows in flight the first slots, in order, so that a pass reads and writes them without copies."""
        slots = [row.slot for row in self.in_flight]
        if slots == list(range(len(slots))):
            return
        if self.keeps_blocks or self.sampling.prompt_refresh_steps:
            kept = max(map(self._seen, self.in_flight)) if self.keeps_blocks else self.width
            self.store.move(self._tensor(slots), kept)
        for slot, row in enumerate(self.in_flight):
            row.slot = slot

    def _masked_share(self, row: _Row) -> float:
        behind = self._seen(row) - self.width - row.stop
        return (row.masked + behind) / (row.stop - row.start + behind)

    def _share_done(self) -> float:
        s, rows = self.sampling, len(self.lengths)
        done = sum(
            (row.block + min(1, row.block_passes / s.steps_per_block)) / len(row.spans)
            for row in self.in_flight
        )
        return (rows - len(self.waiting) - len(self.in_flight) + done) / rows

    def _finish(self) -> Rollouts:
        """The record of everything that was unmasked."""
        completion_ids = self.ids[:, self.width :].contiguous()
        positions = torch.arange(completion_ids.shape[1], device=completion_ids.device)
        end = _first(torch.isin(completion_ids, self.end_tokens))
        return Rollouts(
            prompt_ids=self.prompt_ids,
            prompt_mask=self.prompt_mask,
            completion_ids=completion_ids,
            completion_mask=positions <= end.unsqueeze(-1),
            unmask_step=self.unmask_step,
            unmask_logps=self.unmask_logps,
        )


def _first(marked: Tensor) -> Tensor:
    """(b,) int64, the first marked column of each row of (b, n), n where there is none."""
    columns = torch.arange(marked.shape[1], device=marked.device)
    return columns.masked_fill(~marked, marked.shape[1]).amin(-1)


def _check_prompts_fit(policy: Policy, lengths: list[int], sampling: Sampling) -> None:
    limit, asked = policy.model.config.max_position_embeddings, sampling.max_completion_length
    longest = max(lengths, default=0)
    if longest + asked > limit:
        raise ConfigError(
            f"a prompt has {longest} tokens; with max_completion_length={asked} that is {longest + asked}, but the "
            f"model has {limit} positions. Shorten the prompt (it is never cut), or use max_completion_length="
            f"{max(0, limit - longest)} or less."
        )
