"""The updates of a step: their masks, old and reference logps, and the gradient, a micro-batch at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from spg_trainer.algorithms import Algorithm, CoupledAlgorithm, Loss
from spg_trainer.batch import Batch, Rollouts, Sequences
from spg_trainer.distributed import gather, rank
from spg_trainer.likelihood import Masks, Where, accumulate, token_logps
from spg_trainer.models import Policy
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.fields import BatchConfig

Sums = dict[tuple[str, str], float]
"""(name, what it is divided by) -> sum over completions; adds up over micro-batches and processes. The empty name
counts tokens."""


@dataclass(frozen=True)
class Step:
    """The completions of a step that change the loss on this process (B rows), in the order of their groups."""

    rollouts: Rollouts
    index: np.ndarray
    """(B,) int64, problem of each completion."""
    generation: np.ndarray
    """(B,) int64, number of the completion in its group."""
    rows: np.ndarray
    """(B,) int64, number of the completion in the whole step, on all processes."""
    group: np.ndarray
    """(B,) int64, number of its group in the whole step."""
    prepared: Mapping[str, Tensor]
    """What the algorithm's `prepare` returned for these completions."""
    totals: Sequence[Mapping[str, float]]
    """For each minibatch, sums over all of its completions on all processes, as in `Batch`."""
    num_completions: int
    """All completions of the step."""


@dataclass
class MicroBatch:
    """Completions that go through the model together, without prompt columns that are padding in all of them."""

    rollouts: Rollouts
    masks: Masks
    batch: Batch
    masks_at_once: int
    linear: Tensor
    """(B,) bool on the CPU, as the algorithm's `linear` says."""

    def select(self, rows: Tensor) -> "MicroBatch":
        """Some of its completions, rows: (B,) bool, with as many masks at once."""
        some = (columns.select(rows) for columns in (self.rollouts, self.masks, self.batch))
        return MicroBatch(*some, self.masks_at_once, self.linear[rows.cpu()])

    def logps(self, model: nn.Module, mask_id: int) -> Tensor:
        """(B, M, T) without a graph; bit for bit those of the update itself, if the weights are the same."""
        return token_logps(model, self.rollouts, self.masks, mask_id, self.masks_at_once, self.linear)


@dataclass
class Update:
    """What this process adds to one optimizer step."""

    totals: Mapping[str, float]
    """As in `Batch`."""
    completions: list[tuple[int, int]]
    """(problem, generation) of each."""
    micro_batches: list[MicroBatch]


def plan_updates(
    policy: Policy, algorithm: Algorithm, step: Step, settings: BatchConfig, *, seed: int, number: int
) -> list[Update]:
    """The updates of a step, minibatch by minibatch of every iteration, with their masks, old and reference logps.

    number: of the step. These logps are computed here, before any weight changes, on the rows, padding and groups of
    masks that the update itself uses.
    """
    updates: list[Update] = []
    for iteration in range(settings.num_iterations):
        masks = draw_masks(algorithm, step, seed, number, iteration, settings.num_iterations)
        size, masks_at_once = micro_batch_size(settings.per_device_batch_size, masks.scored.shape[1])
        for minibatch, totals in enumerate(step.totals):
            chosen = np.flatnonzero(step.group % len(step.totals) == minibatch)
            names = zip(step.index[chosen].tolist(), step.generation[chosen].tolist(), strict=True)
            update = Update(totals, list(names), [])
            for rows in split_rows(chosen, step.group, size, algorithm.whole_groups):
                fit = max(1, settings.per_device_batch_size // len(rows))  # a group may be larger than `size`
                at_once = min(masks_at_once, fit)
                first = not updates  # those that follow have old logps of their own
                update.micro_batches.append(micro_batch(algorithm, step, rows, masks, totals, at_once, first))
            updates.append(update)
    if algorithm.needs_old_logps:  # those of the first update are its own
        for micro in (micro for update in updates[1:] for micro in update.micro_batches):
            micro.batch = replace(micro.batch, old_logps=micro.logps(policy.model, policy.mask_id))
    if algorithm.needs_ref_logps:
        with policy.reference() as model:
            for micro in (micro for update in updates for micro in update.micro_batches):
                micro.batch = replace(micro.batch, ref_logps=micro.logps(model, policy.mask_id))
    return updates


def micro_batch(
    algorithm: Algorithm,
    step: Step,
    rows: list[int],
    masks: Masks,
    totals: Mapping[str, float],
    at_once: int,
    first: bool,
) -> MicroBatch:
    """Some rows of a step, with prompts as long as the longest of them. first: whether of its first update."""
    chosen = torch.tensor(rows, device=step.rollouts.completion_ids.device)
    rollouts = step.rollouts.select(chosen).trim()
    cut = step.rollouts.prompt_ids.shape[1] - rollouts.prompt_ids.shape[1]
    masks = masks.select(chosen)
    prepared = {name: values[chosen] for name, values in step.prepared.items()}
    group = torch.from_numpy(step.group[rows]).to(chosen.device)
    batch = Batch(rollouts.completion_mask, prepared["advantages"], totals, group, prepared)
    return MicroBatch(
        rollouts,
        replace(masks, masked=masks.masked[:, :, cut:]),
        batch,
        at_once,
        algorithm.linear(batch, on_policy=first).cpu(),
    )


def draw_masks(
    algorithm: Algorithm, step: Step, seed: int, number: int, iteration: int, num_iterations: int
) -> Masks:
    """The masks of one iteration, drawn from streams keyed by problem and generation, not by place."""

    def stream(row: int, mask: int) -> np.random.Generator:
        place = ("all",) if row == -1 else (int(step.index[row]), int(step.generation[row]))
        return numpy_generator(seed, "masks", number, *place, *((mask,) if mask == -2 else (iteration, mask)))

    where = Where(iteration, num_iterations, step.rows.tolist(), step.num_completions)
    return algorithm.make_masking().draw(step.rollouts, stream, where)


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


def gradient(policy: Policy, algorithm: Algorithm, update: Update) -> Sums:
    """Adds this process's gradient of the loss to `.grad`; returns its share of the metrics, loss included."""
    sums: dict[tuple[str, str], Tensor] = {}
    if algorithm.couples:
        _add(sums, couple(policy, algorithm, update))
    for micro in update.micro_batches:
        # Of a coupled loss all is known but the gradient: completions that have none need not be sent through.
        sent = micro.select(micro.batch.prepared["coefficients"] != 0) if algorithm.couples else micro
        loss = accumulate(
            policy.model,
            sent.rollouts,
            sent.masks,
            partial(_loss, algorithm, sent),
            mask_id=policy.mask_id,
            masks_at_once=sent.masks_at_once,
            separable=algorithm.separable,
            independent=not algorithm.whole_groups,
            linear=sent.linear,
        )
        if not algorithm.couples:  # else it is known already
            _add(sums, loss)
        scored = micro.masks.scored.sum((1, 2))
        for per, count in (
            ("scored_tokens", scored),
            ("rewarded_tokens", scored * (micro.batch.advantages != 0)),
        ):
            sums["", per] = sums.get(("", per), 0) + count.sum()
    return {key: float(value) for key, value in sums.items()}


def means(sums: Sums, totals: Mapping[str, float]) -> dict[str, float]:
    """The metrics of an update, from the sums of all processes."""
    counted = {per: total for (name, per), total in sums.items() if not name}
    denominators = {"update": 1.0, "scored_tokens": 0.0, "rewarded_tokens": 0.0, **totals, **counted}
    return {name: total / (denominators[per] or 1.0) for (name, per), total in sums.items() if name}


def couple(policy: Policy, algorithm: CoupledAlgorithm, update: Update) -> Loss:
    """Gives every completion its coefficient. Returns the loss of them all, on other processes than the first empty."""
    ours = []
    for micro in update.micro_batches:
        batch, bound = micro.batch, partial(algorithm.bound, masks=micro.masks)
        current = bound(micro.logps(policy.model, policy.mask_id))
        old = bound(batch.old_logps) if batch.old_logps is not None else current
        part = {"bounds": current, "old_bounds": old, "advantages": batch.advantages}
        part |= {"group": batch.group, "length": batch.length}
        if batch.ref_logps is not None:
            part["ref_bounds"] = bound(batch.ref_logps)
        ours.append({name: column.cpu() for name, column in part.items()})
    everyone = gather([ours])
    parts = [part for of_one in everyone for part in of_one]
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    whole = Sequences(totals=update.totals, **columns)
    whole.bounds.requires_grad_()
    result = algorithm.coupled_loss(whole)
    (coefficients,) = torch.autograd.grad(result.loss, whole.bounds)
    before = sum(map(len, everyone[: rank()]))
    ours = coefficients.split([len(part["bounds"]) for part in parts])[before : before + len(ours)]
    for micro, part in zip(update.micro_batches, ours, strict=True):
        prepared = {**micro.batch.prepared, "coefficients": part.to(micro.batch.advantages.device)}
        micro.batch = replace(micro.batch, prepared=prepared)
    return replace(result, loss=result.loss.detach()) if rank() == 0 else Loss(torch.zeros(()), {})


def _loss(algorithm: Algorithm, micro: MicroBatch, logps: Tensor) -> Loss:
    batch = micro.batch
    if algorithm.needs_old_logps and batch.old_logps is None:
        batch = replace(batch, old_logps=logps.detach())
    return algorithm.loss(logps, micro.masks, batch)


def _add(sums: dict[tuple[str, str], Tensor], loss: Loss) -> None:
    figures = {("loss", "update"): loss.loss} | {(n, m.per): m.total for n, m in loss.metrics.items()}
    for key, value in figures.items():
        sums[key] = sums.get(key, 0.0) + value.double()


def micro_batch_size(per_device_batch_size: int, num_masks: int) -> tuple[int, int]:
    """Completions of a micro-batch, and how many of their masks hold a graph at once: all of them if they fit."""
    fit = per_device_batch_size >= num_masks
    return (per_device_batch_size // num_masks, num_masks) if fit else (per_device_batch_size, 1)
