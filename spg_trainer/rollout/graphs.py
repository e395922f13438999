"""Denoising steps that are recorded as CUDA graphs, so that a GPU does not wait for Python (`--rollout-graphs`).

Besides the kernels of the layers, a step starts more than a hundred others. If all rows have equally many masked
places, these are recorded, too, in two pieces: the *pass* computes hidden states at all places of the blocks, and the
*draw* chooses tokens and writes them on the canvas. What the host knows of the rows reaches the GPU in one tensor. Only
this transfer and the noise, which each row draws from its own generator, are done anew in every step.
"""

from typing import Protocol

import torch
from torch import Tensor

from spg_trainer import distributed
from spg_trainer.models.cuda_graphs import MOST_POSITIONS, Replays
from spg_trainer.models.forward import head_weight, hidden_states
from spg_trainer.models.policy import Policy
from spg_trainer.rollout.cache import Access, KeyValues
from spg_trainer.rollout.canvas import Blocks, Canvas, Row
from spg_trainer.rollout.draw import MAX_LOGITS, Drawn, Generators, fill_noise, is_cut
from spg_trainer.rollout.passes import Columns
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import NEVER


class Decoder(Protocol):
    """What recorded work uses of the sampler (`sampler.py: Sampler`, which states the shapes)."""

    policy: Policy
    sampling: Sampling
    generators: Generators
    canvas: Canvas
    columns: Columns

    def draw(self, states: Tensor, blocks: Blocks, generators: Generators, noise: Tensor | None) -> Drawn: ...
    def num_to_unmask(self, rows: list[Row]) -> tuple[Tensor | list[int], list[int] | None]: ...
    def must_read(self, remaining: list[int] | None) -> bool: ...
    def values_to_read(self, numbers: Tensor, *others: Tensor) -> Tensor: ...


def recorded_steps(sampler: Decoder) -> "RecordedSteps | None":
    """The `RecordedSteps` of a sampler; None if its settings, model or device do not allow recorded passes."""
    sampling, columns, policy = sampler.sampling, sampler.columns, sampler.policy
    rules_need_no_host = (
        not sampling.remasking_rule.draws
        and sampling.unmasking_rule.is_planned
        and sampling.editing_threshold is None
        and not {"fallback", "confidence_change"} & sampler.canvas.records.keys()
    )
    passes_can_be_recorded = (
        columns.on_gpu
        and policy.replays is not None
        and columns.store is not None
        and columns.pattern.is_full
        and distributed.lockstep is None
    )
    if not (rules_need_no_host and passes_can_be_recorded):
        return None
    return RecordedSteps(sampler, policy.replays, columns.store)


class RecordedSteps:
    """Makes passes of b rows that have equally many masked places in their blocks."""

    def __init__(self, sampler: Decoder, replays: Replays, store: KeyValues) -> None:
        self.sampler, self.replays, self.store = sampler, replays, store
        self.noise: Tensor | None = None
        """(N, V), memory for the noise of the largest pass: each pass draws its noise there, for recorded work to
        read."""

    def step(self, rows: list[Row]) -> tuple[list[int] | None, Tensor | None] | None:
        """Makes a pass that is no refresh; returns `remaining` and `to_read` for `Sampler._advance`.

        Does nothing and returns None if the rows have different numbers of masked places, or are too many for one call
        of the model.
        """
        sampler, sampling = self.sampler, self.sampler.sampling
        columns, canvas, size = sampler.columns, sampler.canvas, sampling.block_length
        windows = [columns.window(row, refresh=False) for row in rows]
        widths = [end - first for first, end in windows]
        width, num_masked = widths[0], rows[0].masked
        vocabulary = head_weight(sampler.policy.model).shape[0]
        most_rows = min(MOST_POSITIONS // width, MAX_LOGITS // (num_masked * vocabulary))
        most_rows = min(most_rows, columns.rows_per_forward or most_rows)
        equally_masked = all(row.masked == num_masked for row in rows)
        equally_wide = len(set(widths)) == 1
        if not (equally_masked and equally_wide) or len(rows) > most_rows:
            return None
        to_unmask, remaining = sampler.num_to_unmask(rows)
        # (b, 8): all that recorded work is told of the rows. `_pass` and `_draw` split its columns in this order.
        known = canvas.tensor(
            [
                (
                    row.number,
                    min(row.start, canvas.length - size),
                    row.stop,
                    row.padding,
                    window_start,
                    row.slot,
                    row.passes,
                    number_to_unmask,
                )
                for row, (window_start, _), number_to_unmask in zip(rows, windows, to_unmask, strict=True)
            ]
        )
        lowest = min(row.padding for row in rows)
        slots = [row.slot for row in rows]
        # Neighbouring slots with the same window are a slice, which is read and written without copies.
        are_neighbours = slots == list(range(slots[0], slots[0] + len(slots)))
        one_window = are_neighbours and len(set(windows)) == 1
        hides_padding = any(row.padding != lowest for row in rows)
        first_slot = slots[0] if one_window else None
        states, *places = self.replays.run(
            "pass",
            lambda inputs: self._pass(inputs["known"], width, lowest, hides_padding, first_slot),
            {"known": known},
            (width, lowest, hides_padding, first_slot),
        )
        noise = self._drawn_noise(rows, num_masked) if sampling.temperature > 0 else None
        must_read = sampler.must_read(remaining)
        names = ("span", "masked", "within", "places")
        (to_read,) = self.replays.run(
            "draw",
            lambda inputs: (self._draw(inputs, num_masked, noise, must_read),),
            {"known": known, "states": states, **dict(zip(names, places, strict=True))},
            (num_masked, must_read),
        )
        return remaining, to_read if must_read else None

    def _pass(
        self, known: Tensor, width: int, lowest: int, hides_padding: bool, first_slot: int | None
    ) -> tuple[Tensor, ...]:
        """(hidden states (b, S, D) at all places of the blocks, masked places first; span; masked; within; places).

        The last four are as in `Blocks` (`canvas.py`), with n = S: here all places count as drawn.

        known: (b, 8), what `step` tells of the rows. width: columns of a window. lowest: the first column that is
        attended to. hides_padding: whether some row has padding from this column on, which must be hidden. first_slot:
        the slot of the first row, if the rows' slots are neighbours and their windows equal; else None.
        """
        sampler = self.sampler
        canvas, size = sampler.canvas, sampler.sampling.block_length
        number, span_start, stop, padding, window_start, slot, _passes, _to_unmask = known.split(1, 1)
        span = span_start + torch.arange(size, device=known.device)
        masked = (canvas.unmask_step[number, span] == NEVER) & (span < stop)
        within = masked.long().argsort(dim=-1, descending=True, stable=True)
        places = span_start + within
        columns = window_start + torch.arange(width, device=known.device)
        keys = torch.arange(lowest, canvas.num_columns, device=known.device)
        slots, written_columns = slot.squeeze(1), columns
        if first_slot is not None:
            slots, written_columns = slice(first_slot, first_slot + len(known)), columns[0]
        states = hidden_states(
            sampler.policy.model,
            canvas.ids[number, columns],
            keys >= padding if hides_padding else None,
            keep=canvas.width + places - window_start,
            positions=(columns - padding).clamp(min=0),
            cache=Access(self.store, slots, written_columns, lowest, canvas.num_columns),
        )
        return states, span, masked, within, places

    def _drawn_noise(self, rows: list[Row], num_masked: int) -> Tensor:
        """(b * num_masked, V), the noise of the pass, in memory that keeps its place."""
        sampler, sampling = self.sampler, self.sampler.sampling
        if self.noise is None:
            vocabulary = head_weight(sampler.policy.model).shape[0]
            most = min(self.store.slots * sampling.block_length, MAX_LOGITS // vocabulary)
            shape, device = (most, vocabulary), sampler.canvas.ids.device
            self.noise = torch.empty(shape, dtype=torch.float32, device=device)
        noise = self.noise[: len(rows) * num_masked]
        factor = 1.0 if is_cut(sampling.temperature, sampling.top_k, sampling.top_p) else sampling.temperature
        generators = [sampler.generators[row.number] for row in rows]
        fill_noise(noise, [num_masked] * len(rows), generators, factor)
        return noise

    def _draw(
        self, inputs: dict[str, Tensor], num_masked: int, noise: Tensor | None, must_read: bool
    ) -> Tensor:
        """Draws tokens at the masked places and writes the best of them; returns `Sampler.values_to_read`.

        inputs: the results of `_pass`, and `known`. num_masked: how many places of each block are masked. must_read:
        whether the result is read; if not, any tensor is returned.
        """
        sampler = self.sampler
        known = inputs["known"]
        number, *_, passes, to_unmask = known.split(1, 1)
        blocks = Blocks(
            numbers=number.squeeze(1),
            span=inputs["span"],
            masked=inputs["masked"],
            within=inputs["within"][:, :num_masked],
            places=inputs["places"][:, :num_masked],
            num_drawn=[num_masked] * len(known),
            has_token=None,
        )
        states = inputs["states"][:, :num_masked]
        tokens, logps, _, order, _ = sampler.draw(states, blocks, generators=None, noise=noise)
        chosen = sampler.canvas.chosen(order, to_unmask.squeeze(1))
        written = (values.gather(1, chosen) for values in (blocks.places, tokens, logps))
        sampler.canvas.write(blocks.numbers, *written, passes, falls_back=None)
        return sampler.values_to_read(blocks.numbers) if must_read else tokens
