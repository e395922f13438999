"""The completions of a step in micro-batches: which go through the model together, and under which masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from spg_trainer.algorithms import Algorithm
from spg_trainer.likelihood import KeyedStreams, Masks, Where, token_logps
from spg_trainer.settings.fields import Config
from spg_trainer.tensors import Batch, Place, Rollouts


@dataclass(frozen=True)
class Step:
    """The completions of a step that change the loss on this process (B rows), in the order of their groups."""

    rollouts: Rollouts
    place: Place
    """On the CPU."""
    prepared: Mapping[str, Tensor]
    """What the algorithm's `prepare` returned for these completions."""
    totals: Sequence[Mapping[str, float]]
    """For each minibatch, what the sums of the loss are divided by, as in `Batch`: over all processes, episodes by kind
    and their tokens."""
    counts: Sequence[Mapping[str, float]]
    """For each minibatch, what means over completions are divided by: the same kinds, but each turn counts as one."""
    num_episodes: int
    """All episodes of the step."""


@dataclass
class MicroBatch:
    """Completions that go through the model together, without prompt columns that are padding in all of them."""

    rollouts: Rollouts
    masks: Masks
    batch: Batch
    masks_at_once: int

    def select(self, rows: Tensor) -> "MicroBatch":
        """Some of its completions, rows: (B,) bool, with as many masks at once."""
        some = (columns.select(rows) for columns in (self.rollouts, self.masks, self.batch))
        return MicroBatch(*some, self.masks_at_once)

    def logps(self, model: nn.Module, mask_id: int) -> tuple[Tensor, Tensor | None]:
        """(B, M, T) without a graph, and what the masks measure; bit for bit those of the update itself, if the weights
        are the same."""
        values = token_logps(model, self.rollouts, self.masks, mask_id, self.masks_at_once)
        return self.masks.split(values)

    def reference_logps(self, model: nn.Module, mask_id: int) -> Tensor:
        """(B, M, T) of a reference model, without a graph; bit for bit those of the update for an equal model that is
        shown the same."""
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
    """(problem, generation) of each."""
    micro_batches: list[MicroBatch]


def micro_batch(
    step: Step, rows: list[int], masks: Masks, totals: Mapping[str, float], at_once: int
) -> MicroBatch:
    """Some rows of a step, with prompts as long as the longest of them. masks: of all rows of the step."""
    chosen = torch.tensor(rows, device=step.rollouts.completion_ids.device)
    rollouts = step.rollouts.select(chosen).trim()
    columns_cut = step.rollouts.prompt_ids.shape[1] - rollouts.prompt_ids.shape[1]  # padding on the left
    masks = masks.select(chosen)
    masks = replace(masks, masked=masks.masked[:, :, columns_cut:])
    if masks.ref_masked is not None:
        masks = replace(masks, ref_masked=masks.ref_masked[:, :, columns_cut:])
    prepared = {name: values[chosen] for name, values in step.prepared.items()}
    place = step.place.select(torch.tensor(rows)).to(chosen.device)
    batch = Batch(rollouts.completion_mask, prepared["advantages"], totals, place, prepared)
    return MicroBatch(rollouts, masks, batch, at_once)


def draw_masks(
    algorithm: Algorithm, step: Step, seed: int, number: int | str, iteration: int, num_iterations: int
) -> Masks:
    """The masks of all completions of a step for one of its iterations. number: of the step, or `validation`.

    They are drawn from streams keyed by problem, generation and turn, so that they do not depend on which process or
    row a completion is in.
    """
    streams = KeyedStreams(seed, ("masks", number), step.place.keys("turn"), (iteration,))
    # Where a completion stands among all of the step: maskings that spread their noise levels evenly go by it.
    quantile = [episode / step.num_episodes for episode in step.place.episode.tolist()]
    return algorithm.make_masking().draw(step.rollouts, streams, Where(iteration, num_iterations, quantile))


def by_length(step: Step) -> np.ndarray:
    """Row numbers, those of short prompts first.

    The prompt of a turn is the chat so far, so that first turns go through the model without the padding of last ones.
    """
    return step.rollouts.prompt_mask.sum(-1).numpy(force=True).argsort(kind="stable")


def split_rows(rows: np.ndarray, group: np.ndarray, size: int, whole_groups: bool) -> list[list[int]]:
    """Row numbers in parts of up to `size`; with whole_groups, a group is not divided, even if it is larger."""
    units = [[row] for row in rows.tolist()]
    if whole_groups:
        units = [list(members) for _, members in groupby(rows.tolist(), key=lambda row: group[row])]
    parts: list[list[int]] = []
    for unit in units:
        if parts and len(parts[-1]) + len(unit) <= size:
            parts[-1] += unit
        else:
            parts.append(unit)
    return parts


def micro_batch_size(per_device_batch_size: int, num_masks: int) -> tuple[int, int]:
    """How many completions a micro-batch has, and how many of their masks hold a graph at once.

    (3, 4) of 12 masked copies with 4 masks each: all masks of three completions. (2, 1) of 2 copies: a mask at a time.
    """
    all_masks_fit = per_device_batch_size >= num_masks
    return (per_device_batch_size // num_masks, num_masks) if all_masks_fit else (per_device_batch_size, 1)


TOKENS_OF_A_PASS = 2048
"""A GPU samples so many tokens at once, or more. A cached pass of few rows is spent on starting kernels: on an H100,
one of 8 rows and 32 columns of LLaDA-8B takes as long as one of 24 rows."""


def rows_of_a_pass(config: Config) -> int:
    """How many completions a GPU samples at once: four for each that has a graph in an update, or more if short."""
    rows_of_tokens = TOKENS_OF_A_PASS // config.rollout.max_completion_length
    return max(4 * config.batch.per_device_batch_size, rows_of_tokens)
