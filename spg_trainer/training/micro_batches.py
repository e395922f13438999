"""The completions of a step in micro-batches: which go through the model together, and under which masks.

A step makes one update (optimizer step) of each of its minibatches in every iteration, and an update goes through its
completions micro-batch by micro-batch. A micro-batch holds B of them in M masked copies each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from spg_trainer.algorithms import Algorithm
from spg_trainer.estimate.sizes import micro_batch_size
from spg_trainer.likelihood import KeyedStreams, Masks, Where, token_logps
from spg_trainer.tensors import Batch, Place, Rollouts


@dataclass(frozen=True)
class Step:
    """The completions of a step that change the loss on this process (B rows), in the order of their groups."""

    rollouts: Rollouts
    place: Place
    """The place of each completion in the step; on the CPU."""
    prepared: Mapping[str, Tensor]
    """What the algorithm's `prepare` returned for these completions."""
    totals: Sequence[Mapping[str, float]]
    """For each minibatch, the numbers by which sums of the loss are divided, as in `Batch`: how many episodes of each
    kind all processes have, and how many tokens."""
    counts: Sequence[Mapping[str, float]]
    """For each minibatch, the numbers by which sums over completions are divided: of the same kinds, but where an
    episode has turns, each of them counts as one."""
    num_episodes: int
    """How many episodes the step has on all processes."""
    step_means: Mapping[str, float] = field(default_factory=dict)
    """What the algorithm's `step_means` returned."""


@dataclass
class MicroBatch:
    """Completions that go through the model together, without prompt columns that are padding in all of them."""

    rollouts: Rollouts
    masks: Masks
    batch: Batch
    masks_at_once: int
    """Up to B times so many masked copies go through the model together."""

    def select(self, chosen: Tensor) -> "MicroBatch":
        """The micro-batch with some of its completions only. chosen: (B,) bool, or (n,) int64."""
        return MicroBatch(
            rollouts=self.rollouts.select(chosen),
            masks=self.masks.select(chosen),
            batch=self.batch.select(chosen),
            masks_at_once=self.masks_at_once,
        )

    @property
    def copies(self) -> int:
        """How many masked copies go through the model together."""
        rows, masks = self.masks.scored.shape[:2]
        return rows * min(self.masks_at_once, masks)

    def split(self, most_copies: int, compares: str) -> list["MicroBatch"]:
        """The micro-batch in parts of up to `most_copies`, or more where a unit of what the loss compares is larger."""
        if self.copies <= most_copies:
            return [self]
        rows, masks = self.masks.scored.shape[:2]
        size, masks_at_once = micro_batch_size(most_copies, masks)
        units = self.batch.place.units(compares).numpy(force=True)
        parts = []
        for row_indices in split_rows(np.arange(rows), units, size):
            part = self.select(torch.tensor(row_indices, device=self.masks.scored.device))
            masks_that_fit = max(1, most_copies // len(row_indices))
            parts.append(replace(part, masks_at_once=min(masks_at_once, masks_that_fit)))
        return parts

    def logps(self, model: nn.Module, mask_id: int) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities (B, M, T) without a graph, and what the masks measure, (B, M, T) or None.

        With the same weights they are those of the update itself, bit for bit.
        """
        values = token_logps(model, self.rollouts, self.masks, mask_id, self.masks_at_once)
        return self.masks.split(values)

    def reference_logps(self, model: nn.Module, mask_id: int) -> Tensor:
        """Log-probabilities (B, M, T) of a reference model, without a graph.

        A reference that equals the policy and is shown the same has those of the update itself, bit for bit.
        """
        shown = self.masks.as_shown_to_reference()
        return token_logps(model, self.rollouts, shown, mask_id, self.masks_at_once)


@dataclass
class Update:
    """What this process adds to one optimizer step."""

    totals: Mapping[str, float]
    """As in `Batch`."""
    counts: Mapping[str, float]
    """As in `Step`."""
    completions: list[tuple[int, int]]
    """(problem, generation) of each completion."""
    micro_batches: list[MicroBatch]


def micro_batch(
    step: Step, row_indices: list[int], masks: Masks, totals: Mapping[str, float], masks_at_once: int
) -> MicroBatch:
    """Some completions of a step, with prompts as long as the longest of them.

    masks: those of all completions of the step.
    """
    chosen = torch.tensor(row_indices, device=step.rollouts.completion_ids.device)
    rollouts = step.rollouts.select(chosen).trim()
    # Prompts are padded on the left, and so the columns that `trim` cut are the first ones of a mask, too.
    columns_cut = step.rollouts.prompt_ids.shape[1] - rollouts.prompt_ids.shape[1]
    masks = masks.select(chosen)
    masks = replace(masks, masked=masks.masked[:, :, columns_cut:])
    if masks.ref_masked is not None:
        masks = replace(masks, ref_masked=masks.ref_masked[:, :, columns_cut:])
    prepared = {name: values[chosen] for name, values in step.prepared.items()}
    place = step.place.select(torch.tensor(row_indices)).to(chosen.device)
    batch = Batch(
        completion_mask=rollouts.completion_mask,
        advantages=prepared["advantages"],
        totals=totals,
        place=place,
        prepared=prepared,
        step_means=step.step_means,
    )
    return MicroBatch(rollouts, masks, batch, masks_at_once)


def draw_masks(
    algorithm: Algorithm, step: Step, seed: int, number: int | str, iteration: int, num_iterations: int
) -> Masks:
    """The masks of all completions of a step for one of its iterations.

    number: that of the step, or "validation" for the masks of a validation loss. Masks are drawn from streams keyed by
    problem, generation and turn, so that they do not depend on which process or row a completion is in.
    """
    streams = KeyedStreams(
        seed, purpose=("masks", number), row_keys=step.place.keys("turn"), update=(iteration,)
    )
    # Where each completion stands among all of the step: maskings that spread their noise levels evenly go by it.
    quantile = [episode / step.num_episodes for episode in step.place.episode.tolist()]
    return algorithm.make_masking().draw(step.rollouts, streams, Where(iteration, num_iterations, quantile))


def by_length(step: Step) -> np.ndarray:
    """The numbers of the rows, (B,), those with short prompts first.

    The prompt of a turn is the chat so far. In this order a micro-batch holds prompts of about the same length, and
    first turns need no padding up to the length of last ones.
    """
    return step.rollouts.prompt_mask.sum(-1).numpy(force=True).argsort(kind="stable")


def split_rows(row_indices: np.ndarray, units: np.ndarray, size: int) -> list[list[int]]:
    """The indices of rows, in order, in parts of up to `size`.

    units: (B,), for each row of the step the number of its unit, as `Place.units` returns them. The rows of a unit,
    which stand together in `row_indices`, stay in one part even if they are more than `size`.
    """
    parts: list[list[int]] = []
    for _, members in groupby(row_indices.tolist(), key=lambda row: units[row]):
        unit = list(members)
        if parts and len(parts[-1]) + len(unit) <= size:
            parts[-1] += unit
        else:
            parts.append(unit)
    return parts
