"""Writes completions: block by block from left to right, and in each block the best tokens first.

This file is the loop over forward passes. Two files beside it do the parts of a pass: `passes.py` computes the hidden
states of its rows, and `canvas.py` says which rows take part, and holds the ids and when each was unmasked.

Three tables of functions hold what users choose by name: which columns a pass computes (`--cache`, in `cache.py`), how
many tokens it unmasks and in what order (`--unmasking`, `--remasking`, in `unmasking.py`). With `--cache none` and
`--unmasking schedule`, the completions are those of the plain LLaDA sampler up to the first end token.

Under block-causal attention, blocks of decoding lie on the grid of attention's blocks. If the prompt ends inside a
block, a row's first block is the rest of that block. The schedule unmasks as many tokens in each of its passes as in
those of a whole block, so this shorter block may take fewer passes. The last block is cut to the end of the completion
before it is decoded; the published samplers decode it whole and cut it afterwards. Both give the same completions if
prompt and completion end where a block ends.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.models.forward import base_model, head_weight
from spg_trainer.models.policy import Policy, check_policy
from spg_trainer.models.shard import computing_with_copy
from spg_trainer.rollout import unmasking
from spg_trainer.rollout.cache import buffers_for, check_noise, check_pattern
from spg_trainer.rollout.canvas import Blocks, Canvas, Refill, Row
from spg_trainer.rollout.draw import Drawn, Generators, Measure, sample_tokens
from spg_trainer.rollout.graphs import recorded_steps
from spg_trainer.rollout.passes import Columns
from spg_trainer.rollout.redraw import Redrawing, RowDraws, sample_canvases
from spg_trainer.rollout.tokens import ending_at_stop, text_of
from spg_trainer.rollout.unmasking import check_own_rules
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.rules import CACHES
from spg_trainer.tensors import Record, Rows

Watcher = tuple[Callable[[float], None], Callable[[], bool], Callable[[Rows], None] | None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)
"""(report, stops, show), the functions that `watching` was given; a rollout calls them after every denoising step."""

Taker = Callable[[Sequence[int], Callable[[Sequence[int]], Rows]], None]
_taker: ContextVar[Taker | None] = ContextVar("taker", default=None)
"""The function that `handing_over` was given; a rollout calls it after every denoising step."""


class RolloutStopped(Exception):
    """Raised when a rollout, or an evaluation between two rollouts, was asked to end early."""

    def __init__(self, rollouts: Rows | None = None, finished: Sequence[int] = ()) -> None:
        """rollouts: all rows, as far as they are written. finished: the numbers of the finished rows."""
        super().__init__(f"stopped with {len(finished)} finished completions")
        self.rollouts, self.finished = rollouts, finished
        self.scored: Rows | None = None
        """The finished completions with their scores, set by `Player.play`; None if there are none."""


def sample_completions(
    policy: Policy,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    sampling: Sampling,
    generators: Generators,
    *,
    rows_per_forward: int | None = None,
    records: frozenset[Record] = frozenset(),
    canvas: Tensor | None = None,
) -> Rows:
    """Writes one completion for each prompt. It puts the model into evaluation mode and leaves it there.

    Args:
        prompt_ids: (B, L) int64, left-padded.
        prompt_mask: (B, L) bool, false on padding.
        sampling: how to decode. It is not checked here: call `check_sampling` once before.
        generators: B on the model's device; None if nothing is random.
        rows_per_forward: the most rows in one call of the model, and with a cache the most rows that are decoded at a
            time, which bounds memory. None = the fastest number: all rows on an accelerator, and on a CPU few enough to
            stay in the processor's cache.
        records: what is recorded in addition to the step and the log-probability of each token, e.g. {"fallback"}.
        canvas: (B, T) int64, given tokens that stay, and the mask id in the holes. Only holes are written, and an end
            token in a hole ends that hole. None = each completion is one hole.

    Returns rows on the model's device. Positions that were still masked when a row was finished have the mask id, step
    -1 and log-probability 0; given tokens have step -2. Raises ConfigError for a prompt too long for the model and for
    a canvas of another shape, ModelError for logits that are not finite.
    """
    check_policy(policy, "sample_completions")
    device = policy.model.device
    prompt_ids, prompt_mask = prompt_ids.to(device), prompt_mask.to(device, torch.bool)
    prompt_lengths, length = prompt_mask.sum(-1).tolist(), sampling.max_completion_length
    _check_prompts_fit(policy, prompt_lengths, sampling)
    if canvas is not None and sampling.stop:
        raise ConfigError(
            f"$stop={sampling.stop!r} ends a completion that is written freely, and here a part of it is given "
            "(completion_template). Leave out $stop."
        )
    if canvas is not None and canvas.shape != (len(prompt_lengths), length):
        wanted = f"({len(prompt_lengths)}, {length}), prompts and max_completion_length"
        raise ConfigError(f"the canvas has the shape {tuple(canvas.shape)}. Its shape should be {wanted}.")
    # The argument `canvas` is a template. From here on, a canvas is a `Canvas`, on which the whole rollout is written.
    template_ids = None if canvas is None else canvas.to(device)
    policy.model.eval()
    if policy.noise == "uniform":
        with torch.no_grad(), computing_with_copy(policy.model):
            rows = sample_canvases(
                policy,
                prompt_ids,
                prompt_mask,
                sampling,
                RowDraws(generators, sampling.block_length, policy.model.config.vocab_size),
                rows_per_forward,
                _report,
                records,
            )
        return ending_at_stop(policy, rows, sampling.stop)
    replaying = nullcontext() if policy.replays is None else policy.replays.during_rollout()
    with torch.no_grad(), computing_with_copy(policy.model), replaying:
        rollout_canvas = Canvas(policy, prompt_ids, prompt_mask, length, records, template_ids)
        num_columns = rollout_canvas.num_columns
        store = buffers_for(policy, len(prompt_lengths), num_columns, sampling, rows_per_forward)
        waiting = _rows_to_decode(policy, prompt_lengths, sampling, rollout_canvas.width, template_ids)
        refill = Refill(waiting, store.slots if store else len(waiting), sampling, len(prompt_lengths))
        columns = Columns(policy, rollout_canvas, sampling, store, rows_per_forward)
        Sampler(policy, sampling, generators, rollout_canvas, refill, columns).run()
    return ending_at_stop(policy, rollout_canvas.rollouts(), sampling.stop)


def _report(writing: "Redrawing | Sampler") -> None:
    """Tells the watcher of a rollout how far it is; raises RolloutStopped as `watching` says."""
    if take := _taker.get():

        def rows_of(numbers: Sequence[int]) -> Rows:
            rows = writing.rollouts().select(torch.tensor(numbers))
            return ending_at_stop(writing.policy, rows, writing.sampling.stop)

        take(writing.finished(), rows_of)
    if watcher := _watcher.get():
        report, stops, show = watcher
        report(writing.share_done())
        if show is not None:
            show(writing.rollouts())
        if stops():
            rollouts = ending_at_stop(writing.policy, writing.rollouts(), writing.sampling.stop)
            raise RolloutStopped(rollouts, writing.finished())


def _rows_to_decode(
    policy: Policy, prompt_lengths: list[int], sampling: Sampling, width: int, template_ids: Tensor | None
) -> list[Row]:
    """The rows that have a hole, each with its blocks that have a hole.

    width: how many columns the prompts have, with padding. template_ids: as `canvas` of `sample_completions`.
    """
    pattern = base_model(policy.model).pattern
    is_hole = None if template_ids is None else (template_ids == policy.mask_id).tolist()
    rows = []
    for number, prompt_length in enumerate(prompt_lengths):
        # (start, stop, holes, first_has_own_pass) of each block, as `Row` takes them.
        blocks: list[tuple[int, int, int, bool]] = []
        for start, stop in pattern.spans(
            prompt_length, sampling.max_completion_length, sampling.block_length
        ):
            holes = stop - start if is_hole is None else sum(is_hole[number][start:stop])
            if not holes:
                continue
            first_has_own_pass = False
            if pattern.has_causal_context:
                # A pass of its own writes the first place of a block of attention, unless a template gives its token.
                begins_attention_block = pattern.block_of(start, prompt_length)[0] == start
                starts_in_hole = is_hole is None or is_hole[number][start]
                first_has_own_pass = begins_attention_block and starts_in_hole
            blocks.append((start, stop, holes, first_has_own_pass))
        if blocks:
            rows.append(Row(number, padding=width - prompt_length, blocks=blocks))
    return rows


def check_sampling(policy: Policy, sampling: Sampling) -> None:
    """Raises ConfigError for settings of decoding that cannot work with this model, or with any."""
    if not isinstance(sampling, Sampling):
        raise ConfigError(
            f"sampling is a {type(sampling).__name__}, {sampling!r:.60}. Write it as "
            "Sampling(max_completion_length=32, block_length=32, ...)."
        )
    sampling.check()
    check_own_rules(sampling)
    check_noise(policy.noise, sampling)
    check_pattern(base_model(policy.model).pattern, sampling)


@contextmanager
def watching(
    report: Callable[[float], None],
    stops: Callable[[], bool] = lambda: False,
    show: Callable[[Rows], None] | None = None,
) -> Iterator[None]:
    """Inside, `report` is called after every denoising step with the share of the rollout that is done, 0 to 1.

    stops: called after every denoising step; if it returns true, the rollout raises `RolloutStopped`. show: called
    after every denoising step with the completions as they are written so far.
    """
    token = _watcher.set((report, stops, show))
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def handing_over(take: Taker) -> Iterator[None]:
    """Inside, `take(finished, rows_of)` is called after every denoising step.

    finished: the numbers of the finished rows. rows_of: gives the rollouts of some of these numbers.
    """
    token = _taker.set(take)
    try:
        yield
    finally:
        _taker.reset(token)


class Sampler:
    """Makes the passes over a canvas until all rows are decoded."""

    def __init__(
        self,
        policy: Policy,
        sampling: Sampling,
        generators: Generators,
        canvas: Canvas,
        refill: Refill,
        columns: Columns,
    ) -> None:
        self.policy, self.sampling, self.generators = policy, sampling, generators
        self.canvas, self.refill, self.columns = canvas, refill, columns
        # This count is on the device, and is read once at the end, since a read in every pass would make a GPU wait.
        self.not_finite = torch.zeros((), dtype=torch.int64, device=canvas.ids.device)
        """How many passes had log-probabilities that were not all finite."""
        self.recorded = recorded_steps(self)
        """Makes recorded passes inside a block; None if the settings, the model or the device do not allow them."""
        remasking = sampling.remasking
        # Loaded once, so that all passes use the same rules even if their file is edited meanwhile.
        self.count_tokens = unmasking.unmasking_rule(sampling)
        self.own_order = unmasking.own_order(remasking) if ":" in remasking else None

    def run(self) -> None:
        """Decodes all rows. Raises ModelError for logits that are not finite, RolloutStopped as `watching` says."""
        while True:
            # A refresh is a pass that computes all columns anew, and not only those at the active blocks (`cache.py`).
            rows, is_refresh = self.refill.next_rows()
            if not rows:
                break
            # Rows that are being decoded ("in flight") should have the slots 0, 1, 2, ... of the cache's buffers. They
            # may change slots when that costs little: if all are refreshed, and with `--cache blocks` in any pass.
            all_are_refreshed = is_refresh and len(rows) == len(self.refill.in_flight)
            all_move = all_are_refreshed or CACHES[self.sampling.cache].keeps_blocks
            self.columns.take_slots(self.refill.in_flight, all_move=all_move)
            self._step(rows, is_refresh)
            _report(self)
        if passes := int(self.not_finite):
            raise ModelError(
                f"the model's logits are not finite (NaN or infinite) in {passes} denoising steps, so what it writes "
                "means nothing. If its weights are finite, numbers overflow on the way: try $dtype=float32. If it was "
                "trained until here, go on from an earlier checkpoint with a lower $learning_rate."
            )

    def share_done(self) -> float:
        """An estimate of the share of the rollout that is done, 0 to 1."""
        return self.refill.share_done()

    def rollouts(self) -> Rows:
        """The completions as far as they are written."""
        return self.canvas.rollouts()

    def finished(self) -> list[int]:
        """The numbers of the rows whose completion is written."""
        return self.refill.finished()

    def _step(self, rows: list[Row], is_refresh: bool) -> None:
        """Makes a pass over b rows: draws a token for each of n places of their blocks, and writes the best of them.

        Tensors (b, n) are for the places of the blocks for which tokens are drawn, at most n in a row
        (`Blocks.places`); tensors (b, S) are for all S places of the blocks.
        """
        sampling, canvas = self.sampling, self.canvas
        if self.recorded is not None and not is_refresh:
            replayed = self.recorded.step(rows)
            if replayed is not None:  # None: no recorded pass fits these rows, so the pass is made here
                remaining, to_read = replayed
                self._advance(rows, remaining, to_read)
                return
        blocks = canvas.active_blocks(
            rows,
            sampling.block_length,
            edits=sampling.editing_threshold is not None,
            own_block_only=not self.columns.pattern.is_full,
        )
        states = self.columns.hidden_states(rows, blocks.numbers, blocks.places, is_refresh)
        generators = [self.generators[row.number] for row in rows] if sampling.draws_noise else None
        tokens, logps, compared_logps, order, highest = self.draw(states, blocks, generators)
        # Masked places come first in `order`. The first `to_unmask` places of each row take their tokens.
        is_planned = sampling.unmasking_rule.is_planned
        to_unmask, remaining = self.num_to_unmask(
            rows, None if is_planned else compared_logps.gather(1, order)
        )
        read = [] if remaining is not None else [canvas.tensor([row.masked for row in rows]) - to_unmask]
        steps = canvas.tensor([[row.passes] for row in rows])
        if highest is not None:
            if any(row.writes_first_only for row in rows):
                # A row that writes only its first place has no probabilities yet at its other masked places.
                is_drawn = canvas.first_columns(blocks.num_drawn, order.shape[1])
                highest = highest.masked_fill(~is_drawn, float("nan"))
            canvas.note_highest(blocks, highest, steps)
        falls_back = (
            unmasking.none_is_sure(compared_logps, sampling) if "fallback" in canvas.records else None
        )
        if blocks.has_token is None:
            chosen = canvas.chosen(order, to_unmask)
            written = (values.gather(1, chosen) for values in (blocks.places, tokens, logps))
            canvas.write(blocks.numbers, *written, steps, falls_back)
        else:
            # A place that has a token takes another one if the model is sure of it.
            is_other = tokens != canvas.tokens_at(blocks)
            edits = blocks.has_token & is_other & (logps.exp() > sampling.editing_threshold)
            counts = to_unmask if isinstance(to_unmask, Tensor) else canvas.tensor(to_unmask)
            is_first = canvas.counting[: order.shape[1]] < counts.unsqueeze(-1)
            take = edits | torch.zeros_like(edits).scatter_(1, order, is_first)
            places = blocks.span.gather(1, blocks.within)
            canvas.write(blocks.numbers, places, tokens, logps, steps, falls_back, take)
            read.append(edits.any(-1))
        to_read = None
        if blocks.has_token is not None or self.must_read(remaining):
            to_read = self.values_to_read(blocks.numbers, *read)
        self._advance(rows, remaining, to_read)

    def draw(
        self, states: Tensor, blocks: Blocks, generators: Generators, noise: Tensor | None = None
    ) -> Drawn:
        """Draws a token for each drawn place: (tokens, logps, compared_logps, order, highest), each (b, n).

        logps: the tokens' log-probabilities. compared_logps: what `--unmasking` compares, namely `logps`, or with
        `--fallback leftmost` the highest log-probability at each place. order: the numbers of the n places, in the
        order of unmasking. highest: the highest probabilities; None unless a record needs them.

        A row with fewer than n drawn places has log-probability -inf at the others. These come last in the order,
        together with the places that have a token already.

        states: (b, n, D). generators: b. noise: as for `sample_tokens`.
        """
        sampling, num_drawn = self.sampling, blocks.num_drawn
        b, n = states.shape[:2]
        states = states.flatten(0, 1)
        drawn_index = None  # which of the b * n places are drawn; None = all are
        if min(num_drawn) < n:
            index = [row * n + place for row, number in enumerate(num_drawn) for place in range(number)]
            drawn_index = self.canvas.tensor(index)
            states = states[drawn_index]
        measures = self._measures()
        tokens, logps, measured = sample_tokens(
            states,
            head_weight(self.policy.model),
            self.policy.mask_id,
            sampling.temperature,
            generators,
            num_drawn,
            [*measures.values()],
            **self._distribution(blocks, drawn_index),
            noise=noise,
            in_float32=base_model(self.policy.model).float32_logits,
        )
        total = logps.sum()
        self.not_finite += total - total != 0  # infinity - infinity is NaN, which equals nothing
        results = [tokens, logps, *measured]
        if drawn_index is not None:  # zeros stand at the places that are not drawn
            zeros = [states.new_zeros(b * n, dtype=values.dtype) for values in results]
            results = [
                zero.index_copy(0, drawn_index, values) for zero, values in zip(zeros, results, strict=True)
            ]
        tokens, logps, *measured = (values.view(b, n) for values in results)
        figures = dict(zip(measures, measured, strict=True))
        ranked = figures.get("ranked", logps)
        # With `leftmost`, `ranked` is the highest log-probability of a place; other fallbacks compare the drawn one.
        compared_logps = ranked if sampling.fallback == "leftmost" else logps
        if drawn_index is not None:
            not_drawn = ~self.canvas.first_columns(num_drawn, n)
            logps = logps.masked_fill(not_drawn, float("-inf"))
            compared_logps = compared_logps.masked_fill(not_drawn, float("-inf"))
        priority = self._priority(blocks, logps, ranked, generators)
        if drawn_index is not None:
            priority = priority.masked_fill(not_drawn, float("-inf"))
        if blocks.has_token is not None:
            priority = priority.masked_fill(blocks.has_token, float("-inf"))
            compared_logps = compared_logps.masked_fill(blocks.has_token, float("-inf"))
        if sampling.fallback in ("leftmost", "leftmost_drawn"):
            # If the model is sure of no token, the leftmost place gets the highest priority.
            leftmost = (priority > float("-inf")).int().argmax(-1, keepdim=True)
            is_unsure = unmasking.none_is_sure(compared_logps, sampling).unsqueeze(-1)
            raised = priority.gather(1, leftmost).masked_fill(is_unsure, float("inf"))
            priority = priority.scatter(1, leftmost, raised)
        order = priority.argsort(dim=-1, descending=True, stable=True)
        highest = figures["confidence"].exp() if "confidence" in figures else None
        return tokens, logps, compared_logps, order, highest

    def _measures(self) -> dict[str, Measure]:
        """What a pass measures besides the tokens' log-probabilities: {a name that `draw` reads: its measure}."""
        sampling, measures = self.sampling, {}
        if measure := sampling.remasking_rule.measure:
            measures["ranked"] = unmasking.function_named(
                measure
            )  # the rule of `--remasking` orders places by this
        elif sampling.fallback == "leftmost":  # then the noise of a token does not decide where it is written
            measures["ranked"] = unmasking.confidence
        if "confidence_change" in self.canvas.records:
            measures["confidence"] = unmasking.confidence  # the log of the highest probability
        return measures

    def _priority(self, blocks: Blocks, logps: Tensor, ranked: Tensor, generators: Generators) -> Tensor:
        """(b, n), the priority of each drawn place by `--remasking`: the higher, the earlier it is unmasked.

        logps: (b, n), of the drawn tokens. ranked: (b, n), what the rule of `--remasking` orders places by.
        """
        sampling = self.sampling
        if self.own_order is not None:
            return self.own_order(logps, blocks.places, generators).float()
        return unmasking.function_named(sampling.remasking_rule.function)(
            ranked, generators, blocks.num_drawn
        )

    def _distribution(self, blocks: Blocks, drawn_index: Tensor | None) -> dict[str, Any]:
        """The arguments of `sample_tokens` that change the distribution from which tokens are drawn.

        drawn_index: (N,), which of the b * n places of the blocks are drawn; None = all are.
        """
        sampling = self.sampling
        options: dict[str, Any] = {"top_k": sampling.top_k, "top_p": sampling.top_p}
        if sampling.eos_penalty or sampling.min_completion_length:
            places = blocks.places.flatten()
            if drawn_index is not None:
                places = places[drawn_index]
            penalty = torch.full_like(places, sampling.eos_penalty, dtype=torch.float32)
            # An infinite penalty forbids end tokens where the completion would be too short.
            penalty = penalty.masked_fill(places < sampling.min_completion_length, float("inf"))
            options |= {"ends": self.policy.end_token_ids, "penalty": penalty}
        return options

    def num_to_unmask(
        self, rows: list[Row], logps: Tensor | None = None
    ) -> tuple[Tensor | list[int], list[int] | None]:
        """(how many tokens each row unmasks, how many places of its block then remain masked), b numbers each.

        If the rule of `--unmasking` looks at log-probabilities, the numbers of tokens are a tensor on the device.
        Reading it would make a GPU wait, so what remains masked is then None. logps: (b, n), in the order in which
        places would be unmasked; None = the rule does not use them.
        """
        sampling = self.sampling

        def step_of_block(row: Row) -> int:
            # A pass that writes only a block's first place does not count as a step of the block.
            passes_before_first_step = 1 if row.first_has_own_pass else 0
            return max(0, row.block_passes - passes_before_first_step)

        step_numbers = [step_of_block(row) for row in rows]
        masked = [row.masked for row in rows]
        wanted = self.count_tokens(unmasking.Pass(logps, masked=masked, number=step_numbers), sampling)

        def limit_of(row: Row) -> int:
            if row.writes_first_only:
                return 1
            # A row that only edits has `masked` 0, and unmasks no token.
            return min(row.masked, sampling.max_tokens_per_step or row.masked)

        limits = [limit_of(row) for row in rows]
        if isinstance(wanted, Tensor):
            return wanted.clamp(min=1).minimum(self.canvas.tensor(limits)), None
        to_unmask = [min(max(1, count), limit) for count, limit in zip(wanted, limits, strict=True)]
        return to_unmask, [row.masked - count for row, count in zip(rows, to_unmask, strict=True)]

    def must_read(self, remaining: list[int] | None) -> bool:
        """Whether a pass without editing reads `values_to_read` from the GPU, for which the host has to wait.

        - With a cache, the values are read when some row's block has no masked place any more.
        - Without a cache, they are read in every pass, because it is expensive to go on computing rows that have ended.

        remaining: how many places of each row's block remain masked after the pass; None = this is one of the values
        that have to be read, and so they are read in this pass.
        """
        return remaining is None or self.columns.store is None or 0 in remaining

    def values_to_read(self, numbers: Tensor, *others: Tensor) -> Tensor:
        """(1 or more, b), whether each row's text has ended, then `others`, (b,) each: one transfer reads them all."""
        ended = self.canvas.ended(numbers)
        return torch.stack([ended.long(), *(values.long() for values in others)]) if others else ended[None]

    def _advance(self, rows: list[Row], remaining: list[int] | None, to_read: Tensor | None) -> None:
        """Advances the rows after a pass.

        remaining: how many places of each row's block remain masked; None = `to_read` says it. to_read: the result of
        `values_to_read`, with what remains masked if `remaining` is None, and with editing, whether a token was
        replaced; None = nothing is read, and no row has ended.
        """
        ended, was_edited = [False] * len(rows), None
        if to_read is not None:
            ended, *others = to_read.tolist()
            if remaining is None:
                remaining, *others = others
            was_edited = others[0] if others else None
        if self.sampling.stop:
            ended = [
                has_end or (left == 0 and self._has_stop(row))
                for row, has_end, left in zip(rows, ended, remaining, strict=True)
            ]
        self.refill.advance(rows, remaining, ended, was_edited)

    def _has_stop(self, row: Row) -> bool:
        """Whether the text of a row, up to the end of its block, has the text of --stop."""
        first = self.canvas.width
        tokens = self.canvas.ids[row.number, first : first + row.stop].tolist()
        return self.sampling.stop in text_of(self.policy, tokens)


def _check_prompts_fit(policy: Policy, lengths: list[int], sampling: Sampling) -> None:
    """Raises ConfigError if a prompt leaves no room for a completion. lengths: the prompts' tokens."""
    completion, longest = sampling.max_completion_length, max(lengths, default=0)
    if longest > policy.room(completion):
        left = policy.room(longest)
        lower = f", or use max_completion_length={left} or less" if left > 0 else ""
        raise ConfigError(
            f"a prompt has {longest} tokens; with max_completion_length={completion} that is {longest + completion}, "
            f"but the model has {policy.room(0)} positions. Shorten the prompt (it is never cut){lower}."
        )
