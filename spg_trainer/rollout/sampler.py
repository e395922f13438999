"""How completions are made: block by block from left to right, in each block the best tokens first.

Three things, a file each: the canvas (`canvas`: the ids, and what is decided of each), the refill (`refill`: which rows
take part in a pass) and the columns (`columns`: what a pass computes). This file is the loop over passes.

Three choices by name, each a table of functions: which columns a pass computes (`--cache`, in `cache`), how many tokens
it unmasks and in what order (`--unmasking`, `--remasking`, in `unmasking`). With `--cache none` and the schedule of
tokens, the completions are those of the plain LLaDA sampler up to the first end token.

Under block-causal attention, blocks of decoding are those of attention. If the prompt ends inside a block, a row's
first block is the rest of it, and unmasks as many tokens a pass as a whole one does. The canvas ends with the
completion; the published samplers mask the last block whole and cut it afterwards, which is the same where prompt and
completion fill it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.models.lora import casts_kept
from spg_trainer.models.policy import Policy
from spg_trainer.models.states import base_model, head_weight
from spg_trainer.rollout.cache import buffers_for
from spg_trainer.rollout.canvas import Blocks, Canvas
from spg_trainer.rollout.checks import check_names, check_pattern
from spg_trainer.rollout.columns import Columns
from spg_trainer.rollout.draw import Generators, sample_tokens
from spg_trainer.rollout.refill import Refill, Row
from spg_trainer.rollout.unmasking import (
    DRAWS_POSITIONS,
    MEASURES,
    REMASKING,
    UNMASKING,
    Pass,
    certainty,
)
from spg_trainer.settings.decoding import Sampling
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
    record_entropy: bool = False,
    canvas: Tensor | None = None,
) -> Rollouts:
    """Writes one completion for each prompt.

    The model is in evaluation mode then and afterwards.

    prompt_ids: (B, L) int64, left-padded. prompt_mask: (B, L) bool, false on padding. generators: B on the model's
    device; None where nothing is random. rows_per_forward: the most rows in one call of the model, and with a cache the
    most rows that are decoded at a time, which bounds memory; None = what is fastest: all on an accelerator, few enough
    to stay in the processor's cache on a CPU. record_entropy: whether `unmask_entropy` is recorded. canvas: (B, T)
    int64, given tokens that stay, and the mask id in the holes, which alone are written; an end token in a hole ends
    that hole. None = nothing is given.

    Returns Rollouts on the model's device; positions that were still masked when a row was finished hold the mask id,
    step -1 and log-probability 0, given ones step -2. Raises ConfigError for a prompt too long for the model and for a
    canvas of another shape, ModelError for logits that are not finite. The settings are not checked here: call
    `check_sampling` once before.
    """
    device = policy.model.device
    prompt_ids, prompt_mask = prompt_ids.to(device), prompt_mask.to(device, torch.bool)
    prompt_lengths, length = prompt_mask.sum(-1).tolist(), sampling.max_completion_length
    _check_prompts_fit(policy, prompt_lengths, sampling)
    if canvas is not None and canvas.shape != (len(prompt_lengths), length):
        wanted = f"({len(prompt_lengths)}, {length}), prompts and max_completion_length"
        raise ConfigError(f"the canvas has the shape {tuple(canvas.shape)}. Its shape should be {wanted}.")
    policy.model.eval()
    with torch.no_grad(), casts_kept(policy.model):
        given = None if canvas is None else canvas.to(device)
        record_order = sampling.remasking == DRAWS_POSITIONS
        completions = Canvas(policy, prompt_ids, prompt_mask, length, record_entropy, given, record_order)
        store = buffers_for(policy, len(prompt_lengths), completions.columns, sampling, rows_per_forward)
        waiting = _rows_to_decode(policy, prompt_lengths, sampling, completions.width, given)
        refill = Refill(waiting, store.slots if store else len(waiting), sampling)
        columns = Columns(policy, completions, sampling, store, rows_per_forward)
        _Sampler(policy, sampling, generators, completions, refill, columns).run()
    return completions.rollouts()


def _rows_to_decode(
    policy: Policy, prompt_lengths: list[int], sampling: Sampling, width: int, given: Tensor | None
) -> list[Row]:
    """The rows that have a hole, each with its blocks that have one.

    width: columns of the prompts, with padding. given: (B, T), given tokens and the mask id in the holes; None = each
    completion is one hole.
    """
    pattern, rows = base_model(policy.model).pattern, []
    is_hole = None if given is None else (given == policy.mask_id).tolist()
    for number, prompt_length in enumerate(prompt_lengths):
        spans = pattern.spans(prompt_length, sampling.max_completion_length, sampling.block_length)
        holes = [stop - start for start, stop in spans]
        if is_hole is not None:
            spans = [span for span in spans if any(is_hole[number][slice(*span)])]
            holes = [sum(is_hole[number][slice(*span)]) for span in spans]
        if spans:
            rows.append(Row(number, width - prompt_length, spans, holes, holes[0]))
    return rows


def check_sampling(policy: Policy, sampling: Sampling) -> None:
    """Raises ConfigError for settings with which a model cannot decode."""
    sampling.check()
    check_names(sampling)
    check_pattern(base_model(policy.model).pattern, sampling)


@contextmanager
def watching(report: Callable[[float], None]) -> Iterator[None]:
    """Inside, `report` is called after every denoising step with the share of the rollout that is done, 0 to 1."""
    token = _watcher.set(report)
    try:
        yield
    finally:
        _watcher.reset(token)


@dataclass
class _Sampler:
    """The passes over a canvas."""

    policy: Policy
    sampling: Sampling
    generators: Generators
    canvas: Canvas
    refill: Refill
    columns: Columns

    def __post_init__(self) -> None:
        # On the device, and read once at the end: a read at every pass would make a GPU wait.
        self.not_finite = torch.zeros((), dtype=torch.int64, device=self.canvas.ids.device)
        """Passes whose log-probabilities were not all finite."""

    def run(self) -> None:
        """Decodes all rows. Raises ModelError where the model's logits were not finite."""
        report = _watcher.get()
        while True:
            rows, refresh = self.refill.next_rows()
            if not rows:
                if passes := int(self.not_finite):
                    raise ModelError(
                        f"the model's logits are not finite (NaN or infinite) in {passes} denoising steps, so what it "
                        "writes means nothing. If its weights are finite, numbers overflow on the way: try --dtype "
                        "float32. If it was trained until here, go on from an earlier checkpoint with a lower "
                        "--learning-rate."
                    )
                return
            # Rows may change their slots at a refresh of all, and with the cache of blocks at any pass: `take_slots`
            # moves what is not computed anew.
            all_refresh = refresh and len(rows) == len(self.refill.in_flight)
            self.columns.take_slots(self.refill.in_flight, all_refresh or self.sampling.cache == "blocks")
            self._step(rows, refresh)
            if report:
                report(self.refill.share_done())

    def _step(self, rows: list[Row], refresh: bool) -> None:
        """One pass of b rows: hidden states of their blocks, a token for each place, the best of them written."""
        # 1. Tokens are drawn for n places of each row's block.
        # 2. The masked places are ordered by `--remasking`, and the first `count` of each row take their tokens.
        # 3. With editing, written places take another token too where the model is sure of it.
        # 4. The rows advance. With `--unmasking schedule`, the settings say how many masked places each has left
        #    (`left`); with others it is None, and the canvas is asked.
        s, canvas = self.sampling, self.canvas
        draws_written, apart = s.editing_threshold is not None, not self.columns.pattern.is_full
        blocks = canvas.active_blocks(rows, s.block_length, edits=draws_written, apart=apart)
        states = self.columns.hidden_states(rows, blocks.numbers, blocks.places, refresh)
        tokens, logps, order, entropy = self._draw(rows, states, blocks)
        of_masked = logps if blocks.written is None else logps.masked_fill(blocks.written, float("-inf"))
        count, left = self._how_many(rows, of_masked.gather(1, order))
        is_first = torch.arange(order.shape[1], device=order.device) < count.unsqueeze(-1)
        take = torch.zeros_like(blocks.masked).scatter_(1, blocks.within.gather(1, order), is_first)
        still_masked, edited = blocks.masked & ~take, None
        if blocks.written is not None:
            edits = (
                blocks.written & (tokens != canvas.tokens_at(blocks)) & (logps.exp() > s.editing_threshold)
            )
            take |= torch.zeros_like(take).scatter_(1, blocks.within, edits)
            edited, left = edits.any(-1), None
        steps = canvas.tensor([[row.passes] for row in rows]).expand_as(tokens)
        canvas.write(blocks, take, tokens, logps, steps, entropy, order)
        self._advance(rows, blocks.numbers, still_masked, left, edited)

    def _draw(
        self, rows: list[Row], states: Tensor, blocks: Blocks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Tokens, their log-probabilities, the order in which they would be unmasked, and the entropies, (b, n) each.

        states: (b, n, D). What stands behind a row's last place has log-probability -inf; the order ends with that and
        with what is written. The entropies are None unless they are recorded.
        """
        shape, count, index = states.shape[:2], blocks.count, None
        states = states.flatten(0, 1)
        if min(count) < shape[1]:  # logits are computed for the drawn places only, whose numbers are `index`
            index = self.canvas.tensor([i * shape[1] + j for i, n in enumerate(count) for j in range(n)])
            states = states[index]
        s, streams = self.sampling, None
        if s.draws_noise:
            streams = [self.generators[row.number] for row in rows]
        measures = [MEASURES[s.remasking]] if s.remasking in MEASURES else []
        measures += [] if self.canvas.unmask_entropy is None else [certainty]
        head = head_weight(self.policy.model)
        tokens, logps, measured = sample_tokens(
            states,
            head,
            self.policy.mask_id,
            s.temperature,
            streams,
            count,
            measures,
            **self._law(blocks, index),
        )
        self.not_finite += ~logps.isfinite().all()
        columns = [tokens, logps, *measured]
        if index is not None:
            blank = [states.new_zeros(shape.numel(), dtype=values.dtype) for values in columns]
            columns = [b.index_copy(0, index, values) for b, values in zip(blank, columns, strict=True)]
        tokens, logps, *measured = (values.view(shape) for values in columns)
        confidence = measured[0] if s.remasking in MEASURES else logps
        entropy = None if self.canvas.unmask_entropy is None else -measured[-1]
        if s.remasking == DRAWS_POSITIONS:
            confidence = confidence / s.position_temperature
        priority = REMASKING[s.remasking](confidence, streams, count)
        if index is not None:
            behind = torch.arange(shape[1], device=states.device) >= self.canvas.tensor(count).unsqueeze(-1)
            logps, priority = (x.masked_fill(behind, float("-inf")) for x in (logps, priority))
        if blocks.written is not None:
            priority = priority.masked_fill(blocks.written, float("-inf"))
        return tokens, logps, priority.argsort(dim=-1, descending=True, stable=True), entropy

    def _law(self, blocks: Blocks, index: Tensor | None) -> dict[str, Any]:
        """What changes the law of the tokens that are drawn: arguments of `sample_tokens`.

        index: (N,), the drawn ones among the b * n places of the blocks; None = all.
        """
        s = self.sampling
        law: dict[str, Any] = {"top_k": s.top_k, "top_p": s.top_p}
        if s.eos_penalty or s.min_completion_length:
            places = blocks.places.flatten() if index is None else blocks.places.flatten()[index]
            penalty = torch.full_like(places, s.eos_penalty, dtype=torch.float32)
            penalty = penalty.masked_fill(places < s.min_completion_length, float("inf"))
            law |= {"ends": self.policy.end_token_ids, "penalty": penalty}
        return law

    def _how_many(self, rows: list[Row], logps: Tensor) -> tuple[Tensor, list[int] | None]:
        """How many tokens each row unmasks, (b,), and how many places of its block are masked afterwards, b numbers.

        The latter are None if the former depend on the log-probabilities, which are on the device. logps: (b, n), in
        the order in which places would be unmasked.
        """
        s, masked = self.sampling, [row.masked for row in rows]
        count = UNMASKING[s.unmasking](Pass(logps, masked, [row.block_passes for row in rows]), s)
        # 0 for a row that only edits.
        limits = [min(n, s.max_tokens_per_step or n) for n in masked]
        if isinstance(count, Tensor):
            return count.clamp(min=1).minimum(self.canvas.tensor(limits)), None
        count = [min(max(1, n), limit) for n, limit in zip(count, limits, strict=True)]
        return self.canvas.tensor(count), [before - n for before, n in zip(masked, count, strict=True)]

    def _advance(
        self,
        rows: list[Row],
        numbers: Tensor,
        still_masked: Tensor,
        left: list[int] | None,
        edited: Tensor | None,
    ) -> None:
        """Tells the rows what the pass left.

        still_masked: (b, S), places of the blocks. left: how many of them each row has, if known. edited: (b,), whether
        a written token was replaced.

        Whether a row's text has ended is known on the device alone, and to read it costs a wait. Where `left` is not
        known, the pass waits for it anyway. Where it is, the end is read with the last masked place of some block only,
        but at every pass without a cache: one more pass of a row that has ended would compute all that the row sees.
        """
        ended, was_edited = [False] * len(rows), None
        if left is None or self.columns.store is None or 0 in left:
            columns = [self.canvas.ended(numbers).long(), still_masked.sum(-1)]
            columns += [] if edited is None else [edited.long()]
            ended, left, *rest = torch.stack(columns).tolist()
            was_edited = rest[0] if rest else None
        self.refill.advance(rows, left, ended, was_edited)


def _check_prompts_fit(policy: Policy, lengths: list[int], sampling: Sampling) -> None:
    positions, completion = policy.model.config.max_position_embeddings, sampling.max_completion_length
    longest = max(lengths, default=0)
    if longest + completion > positions:
        lower = f", or use max_completion_length={positions - longest} or less" if longest < positions else ""
        raise ConfigError(
            f"a prompt has {longest} tokens; with max_completion_length={completion} that is {longest + completion}, "
            f"but the model has {positions} positions. Shorten the prompt (it is never cut){lower}."
        )
