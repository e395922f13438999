"""Writes completions canvas by canvas from random tokens, for models that hide a token by a random one.

This is `--unmasking entropy_bound`. A canvas begins as tokens drawn uniformly from the vocabulary. In each step the
model predicts all of its places, a token is drawn for each at the temperature of the step, and the tokens of lowest
entropy are accepted, as many as the bound allows (arXiv 2505.24857). All other places are drawn anew, uniformly. The
next step is conditioned on the prediction of this one. A canvas is over when the most probable tokens have stayed the
same and the mean entropy is low, or after the last step; it then takes the most probable tokens of its last step.

Source: `generate` of transformers' DiffusionGemma, whose tokens these are if both draw the same numbers. There are two
differences, neither of which changes the law of a row: each row has a generator of its own, so that it does not depend
on the batch, and a row that has stopped leaves the pass.

Axes: B rows, of which b take part in a pass; L columns of a prompt, T places of a completion, C places of a canvas; D
width, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from spg_trainer.errors import ModelError
from spg_trainer.models.forward import base_model
from spg_trainer.models.policy import Policy
from spg_trainer.rollout.cache import rows_in_flight
from spg_trainer.rollout.canvas import until_end
from spg_trainer.rollout.draw import MAX_LOGITS
from spg_trainer.rollout.tokens import text_of
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import NEVER, Record, Rows


@dataclass(frozen=True)
class EntropyBound:
    """How a model's authors decode: the settings of its generation_config.json."""

    bound: float
    """In nats: the entropies of accepted tokens, without the largest, add up to at most this."""
    t_max: float
    t_min: float
    """The temperature falls from step to step, from `t_max` in the first to a little above `t_min` in the last."""
    stability: int
    """For how many steps before the last the most probable tokens must have been the same; 0 = this is not asked."""
    confidence: float
    """In nats: a canvas is over only if the mean entropy of its places is below this."""

    @classmethod
    def of(cls, model: Any) -> "EntropyBound":
        """The settings of a model; raises ModelError, which names those that its generation_config.json lacks."""
        config = base_model(model).generation_config
        sampler = config.sampler_config
        values = {
            "sampler_config.entropy_bound": None if sampler is None else sampler.entropy_bound,
            "t_max": config.t_max,
            "t_min": config.t_min,
            "stability_threshold": config.stability_threshold,
            "confidence_threshold": config.confidence_threshold,
        }
        if missing := [name for name, value in values.items() if value is None]:
            raise ModelError(
                f"its generation_config.json does not say {', '.join(missing)}, by which it decodes; take the file "
                "that was published with the model"
            )
        return cls(*values.values())

    def temperature(self, step: int, steps: int) -> float:
        """The temperature of a step, 0 to steps - 1."""
        return self.t_min + (self.t_max - self.t_min) * (steps - step) / steps


class Draws(Protocol):
    """What is random in decoding, for rows by their numbers."""

    def uniform(self, rows: Sequence[int]) -> Tensor:
        """(b, C) int64, tokens drawn uniformly: the first canvas, or what stands where nothing was accepted."""

    def tokens(self, probabilities: Tensor, row: int) -> Tensor:
        """(C,) int64, a token for each place of a row's canvas, from probabilities (C, V)."""


@dataclass(frozen=True)
class RowDraws:
    """Each row draws from its own generator."""

    generators: Sequence[torch.Generator]
    size: int
    vocabulary: int

    def uniform(self, rows: Sequence[int]) -> Tensor:
        draws = [
            torch.randint(
                self.vocabulary,
                (self.size,),
                generator=self.generators[row],
                device=self.generators[row].device,
            )
            for row in rows
        ]
        return torch.stack(draws)

    def tokens(self, probabilities: Tensor, row: int) -> Tensor:
        return torch.multinomial(probabilities, 1, generator=self.generators[row]).squeeze(-1)


@dataclass
class Prediction:
    """What a step finds at each place of b canvases, (b, C) each, from logits at the temperature of the step."""

    drawn: Tensor
    best: Tensor
    """The most probable token."""
    logps: Tensor
    """The log-probability of `best` at temperature 1."""
    entropy: Tensor
    soft: Tensor | None
    """(b, C, D), the mean embedding, on which the next step is conditioned; None if it is not."""


@dataclass(frozen=True)
class StepRecord:
    """What each step of B rows saw and accepted, as `Rows.canvases` and `Rows.accepted`.

    It takes 4 (S + 1) + S / 8 bytes a token: 202 bytes for 48 steps, and 52 KB for a canvas of 256.
    """

    canvases: Tensor
    accepted: Tensor

    @classmethod
    def empty(cls, shape: tuple[int, int], steps: int, device: torch.device) -> "StepRecord":
        """For B rows of T places, shape (B, T), in canvases of so many steps."""
        rows, length = shape
        return cls(
            torch.zeros(rows, steps + 1, length, dtype=torch.int32, device=device),
            torch.zeros(rows, -(-steps // 8), length, dtype=torch.uint8, device=device),
        )

    def add(self, step: int, place: tuple[Tensor, Tensor], canvas: Tensor, is_accepted: Tensor) -> None:
        """Adds what a step left behind, (b, C) each, at its rows (b, 1) and places (C,)."""
        rows, places = place
        self.canvases[rows, step + 1, places] = canvas.int()
        bits = is_accepted.to(torch.uint8) << (step % 8)
        self.accepted[rows, step // 8, places] |= bits


class Redrawing:
    """Decodes B rows. `write` is called once."""

    def __init__(
        self,
        policy: Policy,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        sampling: Sampling,
        draws: Draws,
        on_step: Callable[["Redrawing"], None],
        records: frozenset[Record] = frozenset(),
    ) -> None:
        """prompt_ids, prompt_mask: (B, L). on_step: called after each step.

        records: if it is not empty, the rollout is trained on by its record, and no step is conditioned on the one
        before. To score a step again one would have to repeat all steps before it, which amplifies rounding. What each
        step saw and accepted is recorded anyway, to be shown.
        """
        self.policy, self.model, self.sampling, self.draws = policy, base_model(policy.model), sampling, draws
        self.on_step = on_step
        self.rule = EntropyBound.of(policy.model)
        self.prompt_ids, self.prompt_mask = prompt_ids, prompt_mask
        shape = (len(prompt_ids), sampling.max_completion_length)
        self.ids = prompt_ids.new_full(shape, policy.pad_id)
        """(B, T) int64, what was written so far; end tokens behind it."""
        self.unmask_step = torch.full(shape, NEVER, device=prompt_ids.device)
        dtype = torch.promote_types(self.model.lm_head.weight.dtype, torch.float32)
        self.unmask_logps = torch.zeros(shape, dtype=dtype, device=prompt_ids.device)
        self.end_tokens = torch.tensor(policy.end_token_ids, device=prompt_ids.device)
        self.passes = [0] * shape[0]
        """How many steps each row has made."""
        self.is_finished = [False] * shape[0]
        self.steps_done = 0
        self.not_finite = torch.zeros((), dtype=torch.int64, device=prompt_ids.device)
        self.is_conditioned = not records
        self.record = StepRecord.empty(shape, sampling.steps_per_block, prompt_ids.device)

    def write(self, rows_at_once: int) -> None:
        """Decodes all rows, so many at a time. Raises ModelError for logits that are not finite."""
        for start in range(0, len(self.prompt_ids), rows_at_once):
            self._write_rows(list(range(start, min(start + rows_at_once, len(self.prompt_ids)))))
        if passes := int(self.not_finite):
            raise ModelError(
                f"the model's logits are not finite (NaN or infinite) in {passes} denoising steps, so what it writes "
                "means nothing. If its weights are finite, numbers overflow on the way: try $dtype=float32. If it was "
                "trained until here, go on from an earlier checkpoint with a lower $learning_rate."
            )

    def _write_rows(self, rows: list[int]) -> None:
        """Decodes some rows, canvas by canvas; a row that has ended takes part in no further canvas."""
        size = self.sampling.block_length
        numbers = torch.tensor(rows, device=self.ids.device)
        new, real, cached = self.prompt_ids[numbers], self.prompt_mask[numbers], None
        for start in range(0, self.sampling.max_completion_length, size):
            _, cached = self.model.encode(new, real, cached)
            self._write_canvas(rows, start, real, cached)
            new = self.ids[numbers, start : start + size]
            has_end = torch.isin(new, self.end_tokens).any(-1).tolist()
            ends = [end or self._has_stop(row, start + size) for row, end in zip(rows, has_end, strict=True)]
            going_on = torch.tensor([not end for end in ends], device=self.ids.device)
            is_last = start + size == self.sampling.max_completion_length
            for row, end in zip(rows, ends, strict=True):
                self.is_finished[row] = end or is_last
            if not all(ends) and any(ends):
                cached = [(keys[going_on], values[going_on]) for keys, values in cached]
            rows = [row for row, end in zip(rows, ends, strict=True) if not end]
            if not rows:
                break
            numbers, new, real = numbers[going_on], new[going_on], real[going_on]
            real = torch.cat([real, real.new_ones(len(rows), size)], 1)

    def _has_stop(self, row: int, end: int) -> bool:
        """Whether the first `end` tokens of a row have the text of --stop."""
        stop = self.sampling.stop
        return bool(stop) and stop in text_of(self.policy, self.ids[row, :end].tolist())

    def _write_canvas(self, rows: list[int], start: int, real: Tensor, cached: Any) -> None:
        """Writes the canvas of some rows that begins at a place of the completion. real, cached: as for `decode`."""
        steps, size, rule = self.sampling.steps_per_block, self.sampling.block_length, self.rule
        canvas, soft, history = self.draws.uniform(rows), None, []
        since = torch.zeros_like(canvas)  # (b, C), the step since which the most probable token is the same
        numbers = torch.tensor(rows, device=canvas.device)
        place = (numbers[:, None], torch.arange(start, start + size, device=canvas.device))
        self.record.canvases[place[0], 0, place[1]] = canvas.int()
        for step in range(steps):
            column = canvas.new_full((len(rows), 1), real.shape[1])
            states = self.model.decode(canvas[:, None], column, real, cached, soft)
            found = self._predict(states, rule.temperature(step, steps), rows)
            is_accepted = accepted(found.entropy, rule.bound)
            canvas = torch.where(is_accepted, found.drawn, self.draws.uniform(rows))
            self.record.add(step, place, canvas, is_accepted)
            if history:
                since = torch.where(found.best == history[-1], since, step)
            is_stable = torch.tensor(len(history) >= rule.stability, device=canvas.device).expand(len(rows))
            for before in history[len(history) - rule.stability :] if rule.stability else ():
                is_stable = is_stable & (before == found.best).all(-1)
            is_over = is_stable & (found.entropy.mean(-1) < rule.confidence)
            if step + 1 == steps:
                is_over = torch.ones_like(is_over)
            over = is_over.tolist()
            # What a row has written so far is kept, so that a rollout that is stopped has it.
            self.ids[place] = found.best
            self.unmask_step[place] = self._first_pass(rows, step) + since
            self.unmask_logps[place] = found.logps
            for row in rows:
                self.passes[row] += 1
            self.steps_done += len(rows)
            self.on_step(self)
            if all(over):
                break
            history.append(found.best)
            soft = found.soft
            if any(over):
                stays = ~is_over
                canvas, since, numbers, real = (x[stays] for x in (canvas, since, numbers, real))
                soft = None if soft is None else soft[stays]
                place = (numbers[:, None], place[1])
                history = [before[stays] for before in history]
                cached = [(keys[stays], values[stays]) for keys, values in cached]
                rows = [row for row, is_done in zip(rows, over, strict=True) if not is_done]

    def _first_pass(self, rows: list[int], step: int) -> Tensor:
        """(b, 1), the number of each row's first pass over its canvas, in which it now makes a step."""
        return torch.tensor([[self.passes[row] - step] for row in rows], device=self.ids.device)

    def _predict(self, states: Tensor, temperature: float, rows: list[int]) -> Prediction:
        """What a step finds from hidden states (b, C, D), with the logits of some rows at a time."""
        size, vocabulary = states.shape[1], self.model.lm_head.weight.shape[0]
        at_once = max(1, MAX_LOGITS // (size * vocabulary))
        parts: list[tuple[Tensor, ...]] = []
        soft: list[Tensor] = []
        for start in range(0, len(rows), at_once):
            logits = self.model.logits(states[start : start + at_once])
            self.not_finite += ~logits.isfinite().all()
            best = logits.argmax(-1)
            logps = logits.log_softmax(-1).gather(-1, best.unsqueeze(-1)).squeeze(-1)
            scaled = logits / temperature
            normalised = scaled.log_softmax(-1)
            entropy = -(normalised.exp() * normalised).sum(-1)
            probabilities = scaled.softmax(-1, dtype=torch.float32)
            some = rows[start : start + at_once]
            drawn = [self.draws.tokens(p, row) for p, row in zip(probabilities, some, strict=True)]
            parts.append((torch.stack(drawn), best, logps, entropy))
            if self.is_conditioned:
                soft.append(self.model.soft_embeddings(scaled))
        found = (torch.cat(values) for values in zip(*parts, strict=True))
        return Prediction(*found, torch.cat(soft) if soft else None)

    def rollouts(self) -> Rows:
        """The completions as far as they are written; behind an end token stands what the model wrote there."""
        steps = self.sampling.steps_per_block
        return Rows(
            prompt_ids=self.prompt_ids,
            prompt_mask=self.prompt_mask,
            completion_ids=self.ids,
            completion_mask=until_end(self.ids, self.end_tokens) & (self.unmask_step != NEVER),
            unmask_step=self.unmask_step,
            unmask_logps=self.unmask_logps,
            passes=torch.tensor(self.passes),
            **vars(self.record),
            temperatures=tuple(self.rule.temperature(step, steps) for step in range(steps)),
        )

    def share_done(self) -> float:
        """An estimate of the share of the rollout that is done, 0 to 1."""
        all_steps = len(self.is_finished) * self.sampling.diffusion_steps
        return min(1.0, self.steps_done / all_steps)

    def finished(self) -> list[int]:
        """The numbers of the rows whose completion is written."""
        return [row for row, is_finished in enumerate(self.is_finished) if is_finished]


def accepted(entropy: Tensor, bound: float) -> Tensor:
    """(b, C) bool, the places whose drawn tokens are accepted: those of lowest entropy (b, C), at least one.

    Their entropies without the largest add up to at most `bound`.
    """
    ascending, order = entropy.sort(-1)
    return torch.zeros_like(entropy, dtype=torch.bool).scatter(
        -1, order, ascending.cumsum(-1) - ascending <= bound
    )


def sample_canvases(
    policy: Policy,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    sampling: Sampling,
    draws: Draws,
    rows_per_forward: int | None,
    on_step: Callable[[Redrawing], None],
    records: frozenset[Record] = frozenset(),
) -> Rows:
    """Writes one completion for each of B prompts; see `sampler.sample_completions`."""
    writing = Redrawing(policy, prompt_ids, prompt_mask, sampling, draws, on_step, records)
    device = prompt_ids.device
    writing.write(rows_in_flight(len(prompt_ids), rows_per_forward, sampling.block_length, device))
    return writing.rollouts()
