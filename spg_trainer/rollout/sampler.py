"""Writes completions: block by block from left to right, and in each block the best tokens first.

This file is the loop over forward passes. Three files beside it do the parts of a pass: `refill.py` decides which rows
take part, `columns.py` computes their hidden states, and `canvas.py` holds the ids and when each was unmasked.

Three tables of functions hold what users choose by name: which columns a pass computes (`--cache`, in `cache.py`), how
many tokens it unmasks and in what order (`--unmasking`, `--remasking`, in `unmasking.py`). With `--cache none` and
`--unmasking schedule`, the completions are those of the plain LLaDA sampler up to the first end token.

Under block-causal attention, blocks of decoding lie on the grid of attention's blocks. If the prompt ends inside a
block, a row's first block is the rest of that block, and unmasks as many tokens in a pass as a whole block. The last
block is cut to the end of the completion before it is decoded; the published samplers decode it whole and cut it
afterwards. Both give the same completions if prompt and completion end where a block ends.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.models.policy import Policy
from spg_trainer.models.states import base_model, head_weight
from spg_trainer.models.working_copy import computing_with_copy
from spg_trainer.rollout.cache import buffers_for
from spg_trainer.rollout.canvas import Blocks, Canvas
from spg_trainer.rollout.checks import check_names, check_pattern
from spg_trainer.rollout.columns import Columns
from spg_trainer.rollout.draw import Drawn, Generators, sample_tokens
from spg_trainer.rollout.own_order import own_order
from spg_trainer.rollout.recorded import recorded_steps
from spg_trainer.rollout.refill import Refill, Row
from spg_trainer.rollout.unmasking import (
    DRAWS_POSITIONS,
    MEASURES,
    REMASKING,
    UNMASKING,
    Pass,
    certainty,
    confidence,
    none_is_sure,
)
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import Record, Rows

_watcher: ContextVar[tuple[Callable[[float], None], Callable[[], bool]] | None] = ContextVar(
    "watcher", default=None
)
"""The functions that `watching` was given; a rollout calls them after every denoising step."""


class RolloutStopped(Exception):
    """Raised when a rollout, or an evaluation between two rollouts, was asked to end early."""

    def __init__(self, rollouts: Rows | None = None, finished: Sequence[int] = ()) -> None:
        """rollouts: all rows, as far as they are written. finished: the numbers of the finished rows."""
        super().__init__(f"stopped with {len(finished)} finished completions")
        self.rollouts, self.finished = rollouts, finished
        self.scored: Rows | None = None
        """The finished completions with their scores, set by `sample_and_score`; None if there are none."""


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
        records: what is recorded in addition to the step and the log-probability of each token, e.g. {"entropy"}.
        canvas: (B, T) int64, given tokens that stay, and the mask id in the holes. Only holes are written, and an end
            token in a hole ends that hole. None = nothing is given.

    Returns rows on the model's device. Positions that were still masked when a row was finished have the mask id, step
    -1 and log-probability 0; given tokens have step -2. Raises ConfigError for a prompt too long for the model and for
    a canvas of another shape, ModelError for logits that are not finite.
    """
    device = policy.model.device
    prompt_ids, prompt_mask = prompt_ids.to(device), prompt_mask.to(device, torch.bool)
    prompt_lengths, length = prompt_mask.sum(-1).tolist(), sampling.max_completion_length
    _check_prompts_fit(policy, prompt_lengths, sampling)
    if canvas is not None and canvas.shape != (len(prompt_lengths), length):
        wanted = f"({len(prompt_lengths)}, {length}), prompts and max_completion_length"
        raise ConfigError(f"the canvas has the shape {tuple(canvas.shape)}. Its shape should be {wanted}.")
    policy.model.eval()
    replaying = nullcontext() if policy.replays is None else policy.replays.during_rollout()
    with torch.no_grad(), computing_with_copy(policy.model), replaying:
        template_ids = None if canvas is None else canvas.to(device)
        if sampling.remasking == DRAWS_POSITIONS:
            records = records | {"order"}
        decoded = Canvas(policy, prompt_ids, prompt_mask, length, records, template_ids)
        store = buffers_for(policy, len(prompt_lengths), decoded.columns, sampling, rows_per_forward)
        waiting = _rows_to_decode(policy, prompt_lengths, sampling, decoded.width, template_ids)
        refill = Refill(waiting, store.slots if store else len(waiting), sampling, len(prompt_lengths))
        columns = Columns(policy, decoded, sampling, store, rows_per_forward)
        Sampler(policy, sampling, generators, decoded, refill, columns).run()
    return decoded.rollouts()


def _rows_to_decode(
    policy: Policy, prompt_lengths: list[int], sampling: Sampling, width: int, template_ids: Tensor | None
) -> list[Row]:
    """The rows that have a hole, each with its blocks that have a hole.

    width: columns of the prompts, with padding. template_ids: (B, T), given tokens and the mask id in the holes; None =
    each completion is one hole.
    """
    pattern = base_model(policy.model).pattern
    is_hole = None if template_ids is None else (template_ids == policy.mask_id).tolist()
    rows = []
    for number, prompt_length in enumerate(prompt_lengths):
        blocks: list[tuple[int, int, int, bool]] = []
        for start, stop in pattern.spans(
            prompt_length, sampling.max_completion_length, sampling.block_length
        ):
            holes = stop - start if is_hole is None else sum(is_hole[number][start:stop])
            first_alone = bool(
                pattern.has_causal_context and pattern.block_of(start, prompt_length)[0] == start
            )
            if is_hole is not None:
                first_alone = first_alone and is_hole[number][start]
            if holes:
                blocks.append((start, stop, holes, first_alone))
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
    check_names(sampling)
    check_pattern(base_model(policy.model).pattern, sampling)


@contextmanager
def watching(report: Callable[[float], None], stops: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Inside, `report` is called after every denoising step with the share of the rollout that is done, 0 to 1.

    stops: called after every denoising step; if it returns true, the rollout raises `RolloutStopped`.
    """
    token = _watcher.set((report, stops))
    try:
        yield
    finally:
        _watcher.reset(token)


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
        remasking = sampling.remasking
        # Loaded once, so that all passes use the same order even if its file is edited meanwhile.
        self.own_order = own_order(remasking) if ":" in remasking else None

    def run(self) -> None:
        """Decodes all rows. Raises ModelError for logits that are not finite, RolloutStopped as `watching` says."""
        watcher = _watcher.get()
        while True:
            rows, refresh = self.refill.next_rows()
            if not rows:
                break
            # Rows in flight should have the cache's slots 0, 1, 2, ... They may change slots when that costs little: if
            # all are refreshed, and with `--cache blocks` in any pass.
            all_refresh = refresh and len(rows) == len(self.refill.in_flight)
            all_move = all_refresh or self.sampling.cache == "blocks"
            self.columns.take_slots(self.refill.in_flight, all_move=all_move)
            self._step(rows, refresh)
            if watcher:
                report, stops = watcher
                report(self.refill.share_done())
                if stops():
                    raise RolloutStopped(self.canvas.rollouts(), self.refill.finished())
        if passes := int(self.not_finite):
            raise ModelError(
                f"the model's logits are not finite (NaN or infinite) in {passes} denoising steps, so what it writes "
                "means nothing. If its weights are finite, numbers overflow on the way: try $dtype=float32. If it was "
                "trained until here, go on from an earlier checkpoint with a lower $learning_rate."
            )

    def _step(self, rows: list[Row], refresh: bool) -> None:
        """One pass of b rows: draws a token for each of n places of their blocks, and writes the best of them."""
        # 1. Tokens are drawn for n places of each row's block.
        # 2. The masked places are ordered by `--remasking`, and the first `count` of each row take their tokens.
        # 3. With editing, written places also take another token if the model is sure of it.
        # 4. The rows advance. With `--unmasking schedule`, the settings say how many masked places each row has left
        #    (`left`); with other rules `left` is None, and is read from the canvas.
        # `take` and `still_masked` are (b, S), for all S places of the blocks. All others are (b, n), for the n places
        # that are looked at; `blocks.within` says where in the block each of these is, and `order` permutes them.
        s, canvas = self.sampling, self.canvas
        if self.recorded is not None and not refresh and (done := self.recorded.step(rows)):
            self._advance(rows, *done)
            return
        blocks = canvas.active_blocks(
            rows,
            s.block_length,
            edits=s.editing_threshold is not None,
            own_block_only=not self.columns.pattern.is_full,
        )
        states = self.columns.hidden_states(rows, blocks.numbers, blocks.places, refresh)
        generators = [self.generators[row.number] for row in rows] if s.draws_noise else None
        tokens, logps, sure, order, entropy, highest = self.draw(states, blocks, generators)
        count, left = self.how_many(rows, sure.gather(1, order))
        if not isinstance(count, Tensor):
            count = canvas.tensor(count)
        take = blocks.first_of(order, count)
        still_masked = blocks.masked & ~take
        edited = None
        if blocks.written is not None:
            is_other = tokens != canvas.tokens_at(blocks)
            edits = blocks.written & is_other & (logps.exp() > s.editing_threshold)
            take |= torch.zeros_like(take).scatter_(1, blocks.within, edits)
            edited = edits.any(-1)
            left = None  # `_advance` reads it from the device together with `edited`, in one transfer
        steps = canvas.tensor([[row.passes] for row in rows]).expand_as(tokens)
        if highest is not None:
            if any(row.writes_first for row in rows):
                # The other places of a row that writes only its first are still masked, and have no probability yet.
                is_drawn = torch.arange(order.shape[1], device=order.device) < canvas.tensor(
                    blocks.count
                ).unsqueeze(-1)
                highest = highest.masked_fill(~is_drawn, float("nan"))
            canvas.note_highest(blocks, highest, steps)
        falls_back = none_is_sure(sure, s) if "fallback" in canvas.recorded else None
        canvas.write(blocks, take, tokens, logps, steps, entropy, order, falls_back)
        to_read = self.values_to_read(blocks.numbers, still_masked, edited) if self.must_read(left) else None
        self._advance(rows, left, to_read)

    def draw(
        self, states: Tensor, blocks: Blocks, generators: Generators, noise: Tensor | None = None
    ) -> Drawn:
        """Tokens, log-probabilities, sureness, the order of unmasking, entropies, highest probabilities; (b, n) each.

        `--unmasking` compares sureness: the tokens' log-probabilities, or with `--fallback leftmost` the highest ones
        at each place. Places that only fill a row up to n have log-probability -inf; the order ends with these and with
        the written places. Entropies and highest probabilities are None unless a record needs them.

        states: (b, n, D). generators: b. noise: as for `sample_tokens`.
        """
        s, count = self.sampling, blocks.count
        shape = states.shape[:2]
        states = states.flatten(0, 1)
        index = None  # the drawn places among the b * n; None = all are drawn
        if min(count) < shape[1]:
            index = self.canvas.tensor([i * shape[1] + j for i, n in enumerate(count) for j in range(n)])
            states = states[index]
        measures = {}
        if s.remasking in MEASURES:
            measures["priority"] = MEASURES[s.remasking]
        elif s.fallback == "leftmost":  # then the noise of a token does not decide where it is written
            measures["priority"] = confidence
        if "entropy" in self.canvas.recorded:
            measures["certainty"] = certainty  # minus the entropy
        if "confidence_change" in self.canvas.recorded:
            measures["confidence"] = confidence  # the log of the highest probability
        head = head_weight(self.policy.model)
        tokens, logps, measured = sample_tokens(
            states,
            head,
            self.policy.mask_id,
            s.temperature,
            generators,
            count,
            [*measures.values()],
            **self._distribution(blocks, index),
            noise=noise,
        )
        self.not_finite += ~logps.isfinite().all()
        results = [tokens, logps, *measured]
        if index is not None:  # zeros stand at the places that are not drawn
            zeros = [states.new_zeros(shape.numel(), dtype=values.dtype) for values in results]
            results = [zero.index_copy(0, index, values) for zero, values in zip(zeros, results, strict=True)]
        tokens, logps, *measured = (values.view(shape) for values in results)
        figures = dict(zip(measures, measured, strict=True))
        seen_by_rule = figures.get("priority", logps)
        sure = seen_by_rule if s.fallback == "leftmost" else logps
        if s.remasking == DRAWS_POSITIONS:
            seen_by_rule = seen_by_rule / s.position_temperature
        if self.own_order is not None:
            priority = self.own_order(logps, blocks.places, generators).float()
        else:
            priority = REMASKING[s.remasking](seen_by_rule, generators, count)
        if index is not None:
            fills_up = torch.arange(shape[1], device=states.device) >= self.canvas.tensor(count).unsqueeze(-1)
            logps, sure = (values.masked_fill(fills_up, float("-inf")) for values in (logps, sure))
            priority = priority.masked_fill(fills_up, float("-inf"))
        if blocks.written is not None:
            priority = priority.masked_fill(blocks.written, float("-inf"))
            sure = sure.masked_fill(blocks.written, float("-inf"))
        if s.fallback != "surest":  # if none is sure, the leftmost place comes first
            leftmost = (priority > float("-inf")).int().argmax(-1, keepdim=True)
            first = priority.gather(1, leftmost).masked_fill(
                none_is_sure(sure, s).unsqueeze(-1), float("inf")
            )
            priority = priority.scatter(1, leftmost, first)
        order = priority.argsort(dim=-1, descending=True, stable=True)
        entropy = -figures["certainty"] if "certainty" in figures else None
        highest = figures["confidence"].exp() if "confidence" in figures else None
        return tokens, logps, sure, order, entropy, highest

    def _distribution(self, blocks: Blocks, index: Tensor | None) -> dict[str, Any]:
        """The arguments of `sample_tokens` that change the distribution which tokens are drawn from.

        index: (N,), the drawn places among the b * n places of the blocks; None = all.
        """
        s = self.sampling
        options: dict[str, Any] = {"top_k": s.top_k, "top_p": s.top_p}
        if s.eos_penalty or s.min_completion_length:
            places = blocks.places.flatten() if index is None else blocks.places.flatten()[index]
            penalty = torch.full_like(places, s.eos_penalty, dtype=torch.float32)
            penalty = penalty.masked_fill(places < s.min_completion_length, float("inf"))
            options |= {"ends": self.policy.end_token_ids, "penalty": penalty}
        return options

    def how_many(
        self, rows: list[Row], logps: Tensor | None = None
    ) -> tuple[Tensor | list[int], list[int] | None]:
        """(how many tokens each row unmasks, how many places of its block are masked afterwards), b numbers each.

        If the rule of `--unmasking` looks at log-probabilities, the first is a tensor and the second is None, since
        reading the tensor would make a GPU wait. logps: (b, n), in the order in which places would be unmasked; None =
        the rule does not use them.
        """
        s = self.sampling
        # A pass that writes only a block's first place does not count as a step of the block.
        number = [max(0, row.block_passes - row.first_alone) for row in rows]
        count = UNMASKING[s.unmasking](Pass(logps, masked=[row.masked for row in rows], number=number), s)
        # A row that only edits has `masked` 0, and unmasks no token.
        limits = [
            1 if row.writes_first else min(row.masked, s.max_tokens_per_step or row.masked) for row in rows
        ]
        if isinstance(count, Tensor):
            return count.clamp(min=1).minimum(self.canvas.tensor(limits)), None
        limited = [min(max(1, n), limit) for n, limit in zip(count, limits, strict=True)]
        return limited, [row.masked - n for row, n in zip(rows, limited, strict=True)]

    def must_read(self, left: list[int] | None) -> bool:
        """Whether this pass reads `values_to_read` from the GPU, for which the host has to wait.

        left: how many places of each row's block stay masked after the pass; None = this number has to be read, too.

        If `left` is None, the values are read in this pass. If it is known, they are read when a row's block has no
        masked place left. Without a cache they are read in every pass, because it is expensive to go on computing rows
        that have ended.
        """
        return left is None or self.columns.store is None or 0 in left

    def values_to_read(self, numbers: Tensor, still_masked: Tensor, edited: Tensor | None) -> Tensor:
        """(2, b) int64, whether each row's text has ended, and how many places of its block are masked.

        With editing it is (3, b), and also says whether a written token was replaced. still_masked: (b, S), which
        places of the blocks are masked after the pass. edited: (b,); None = nothing is edited.
        """
        asked = [self.canvas.ended(numbers).long(), still_masked.sum(-1)]
        return torch.stack(asked if edited is None else [*asked, edited.long()])

    def _advance(self, rows: list[Row], left: list[int] | None, to_read: Tensor | None) -> None:
        """Advances the rows after a pass. to_read: the result of `values_to_read`; None = nothing is read."""
        ended, was_edited = [False] * len(rows), None
        if to_read is not None:
            ended, left, *rest = to_read.tolist()
            was_edited = rest[0] if rest else None
        self.refill.advance(rows, left, ended, was_edited)


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
