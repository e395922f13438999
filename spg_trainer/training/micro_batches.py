"""Cuts the completions of a step into micro-batches: which go through the model together, and under which masks.

In every iteration, a step makes one update (optimizer step) of each of its minibatches. An update goes through its
completions micro-batch by micro-batch. A micro-batch is B rows, completions, with M masked copies of each (`masks`). Up
to `masks_at_once` times B copies go through the model together. Prompt columns that are padding in all rows are left
out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from spg_trainer.algorithms import Algorithm
from spg_trainer.estimate.sizes import micro_batch_size
from spg_trainer.likelihood import KeyedStreams, Masks, token_logps
from spg_trainer.models import Policy
from spg_trainer.tensors import Rows


@dataclass
class Update:
    """What this process adds to one optimizer step."""

    totals: Mapping[str, float]
    """The divisors of sums over episodes, as in `Rows`."""
    counts: Mapping[str, float]
    """The divisors of sums over completions: as `totals`, but each turn of an episode counts as a completion."""
    completions: list[tuple[int, int]]
    """(problem, generation) of each completion."""
    micro_batches: list[Rows]


def micro_batch(
    step: Rows, row_indices: list[int], masks: Masks, totals: Mapping[str, float], masks_at_once: int
) -> Rows:
    """Some completions of a step, on one device, padded to the longest of their prompts.

    masks: the masks of all completions of the step.
    """
    chosen = torch.tensor(row_indices)
    rows = step.select(chosen).to(step.completion_ids.device)
    # Prompts are padded on the left, so `trim` cuts their first columns, and the same columns of the masks.
    return rows.with_columns(totals=totals, masks=masks.select(chosen), masks_at_once=masks_at_once).trim()


def copies_at_once(micro: Rows) -> int:
    """How many masked copies of a micro-batch go through the model together."""
    rows, masks = micro.masks.scored.shape[:2]
    return rows * min(micro.masks_at_once, masks)


def split_micro_batch(micro: Rows, most_copies: int, compares: str) -> list[Rows]:
    """A micro-batch in parts of up to `most_copies` masked copies at once.

    Rows that the loss compares stay in one part, even if that has more. compares: as for `Rows.units`.
    """
    if copies_at_once(micro) <= most_copies:
        return [micro]
    rows, masks = micro.masks.scored.shape[:2]
    size, masks_at_once = micro_batch_size(most_copies, masks)
    units = micro.units(compares).numpy(force=True)
    parts = []
    for row_indices in split_rows(np.arange(rows), units, size):
        masks_that_fit = max(1, most_copies // len(row_indices))
        part = micro.select(torch.tensor(row_indices, device=micro.masks.scored.device))
        parts.append(part.with_columns(masks_at_once=min(masks_at_once, masks_that_fit)))
    return parts


def logps_without_graph(micro: Rows, model: nn.Module, mask_id: int) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities (B, M, T), and what the masks measure (see `likelihood.measures`), (B, M, T) or None.

    `token_logps` keeps no graph. With the same weights the values equal, bit for bit, those that the update computes.
    """
    return micro.masks.split(token_logps(model, micro, micro.masks, mask_id, micro.masks_at_once))


def reference_logps(micro: Rows, model: nn.Module, mask_id: int) -> Tensor:
    """Log-probabilities (B, M, T) of a reference model, without a graph.

    If the reference equals the policy, they equal those of the update itself, bit for bit.
    """
    return token_logps(model, micro, micro.masks.with_columns(measured=None), mask_id, micro.masks_at_once)


def draw_masks(
    algorithm: Algorithm, step: Rows, seed: int, number: int | str, iteration: int, num_iterations: int
) -> Masks:
    """The masks of all completions of a step for one of its iterations.

    number: the step's number, or "validation" for the masks of a validation loss. Masks are drawn from streams keyed by
    problem, generation and turn, so that they do not depend on which process or row a completion is in.
    """
    streams = mask_streams(step, seed, number, iteration)
    return algorithm.make_masking().draw(step, streams, iteration, num_iterations)


def mask_streams(step: Rows, seed: int, number: int | str, iteration: int) -> KeyedStreams:
    """The streams from which the masks of an iteration are drawn, see `draw_masks`."""
    return KeyedStreams(
        seed, purpose=("masks", number), row_keys=step.noise_keys("turn"), update=(iteration,)
    )


def with_pilot(
    policy: Policy,
    algorithm: Algorithm,
    step: Rows,
    seed: int,
    number: int | str,
    iteration: int,
    batch_size: int,
) -> Rows:
    """The same rows with the column `pilot` if the masks of an iteration depend on a first pass (`Masking.pilot`).

    batch_size: rows of a pass. Other arguments as for `draw_masks`.
    """
    pilot = algorithm.make_masking().pilot
    if pilot is None or not len(step):
        return step
    masks = pilot.draw(step, mask_streams(step, seed, number, iteration))
    found = []
    for row_indices in torch.arange(len(step)).split(batch_size):
        micro = micro_batch(step, row_indices.tolist(), masks, {}, masks_at_once=1)
        logps, measured = logps_without_graph(micro, policy.model, policy.mask_id)
        figures, where = (logps, micro.masks.scored) if measured is None else (measured, micro.masks.measured)
        found.append(figures.masked_fill(~where, float("-inf")))
    return step.with_columns(pilot=torch.cat(found))


def order_by_length(step: Rows) -> np.ndarray:
    """(B,) the numbers of the rows, in the order of the lengths of their prompts.

    The prompt of a turn is the chat so far. In this order a micro-batch holds prompts of about the same length, and
    first turns need no padding up to the length of last ones.
    """
    return step.prompt_mask.sum(-1).numpy(force=True).argsort(kind="stable")


def split_rows(row_indices: np.ndarray, units: np.ndarray, size: int) -> list[list[int]]:
    """The indices of rows, in order, in parts of up to `size`.

    units: (B,), for each row of the step the number of its unit, as `Rows.units` returns them. The rows of a unit,
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
