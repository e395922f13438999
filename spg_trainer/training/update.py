"""The updates of a step and the gradient of each, a micro-batch at a time."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from spg_trainer.algorithms import Algorithm, CoupledAlgorithm, Loss
from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.distributed import gather, rank
from spg_trainer.likelihood import accumulate
from spg_trainer.models import Policy
from spg_trainer.settings.updates import BatchConfig
from spg_trainer.tensors import Place, Sequences
from spg_trainer.training.micro_batches import (
    MicroBatch,
    Step,
    Update,
    by_length,
    draw_masks,
    micro_batch,
    micro_batch_size,
    split_rows,
)
from spg_trainer.training.reference_logps import add_old_logps, add_reference_logps

Sums = dict[tuple[str, str], float]
"""(name of a metric, what it is divided by) -> its sum over completions, e.g. ("kl", "scored_tokens") -> 3.2.

Sums add up over micro-batches and processes. A key with an empty name holds a divisor: ("", "scored_tokens") -> 640."""


def plan_updates(
    policy: Policy, algorithm: Algorithm, step: Step, settings: BatchConfig, *, seed: int, number: int | str
) -> list[Update]:
    """The updates of a step, minibatch by minibatch of every iteration, with their masks, old and reference logps.

    number: of the step, or what else the masks are for. These logps are computed here, before any weight changes, on
    the rows, padding and groups of masks that the update itself uses.
    """
    updates: list[Update] = []
    episode, group = step.place.episode.numpy(), step.place.group.numpy()
    # A loss that compares the rows of an episode or of a group needs them in one micro-batch. A coupled loss, which
    # compares all completions of an update, does not: it gets the bounds of each.
    units = {"episode": episode, "group": group}
    undivided = algorithm.compares in units
    unit = units[algorithm.compares] if undivided else episode
    order = by_length(step) if step.place.has_turns and not undivided else np.arange(len(step.place))
    names = list(zip(step.place.problem.tolist(), step.place.generation.tolist(), strict=True))
    for iteration in range(settings.num_iterations):
        masks = draw_masks(algorithm, step, seed, number, iteration, settings.num_iterations)
        size, masks_at_once = micro_batch_size(settings.per_device_batch_size, masks.scored.shape[1])
        for minibatch, totals in enumerate(step.totals):
            chosen = order[group[order] % len(step.totals) == minibatch]
            update = Update(totals, step.counts[minibatch], [names[row] for row in chosen], [])
            for rows in split_rows(chosen, unit, size, undivided):
                fit = max(1, settings.per_device_batch_size // len(rows))  # a group may be larger than `size`
                at_once = min(masks_at_once, fit)
                update.micro_batches.append(micro_batch(step, rows, masks, totals, at_once))
            updates.append(update)
    if "old" in algorithm.needs:
        add_old_logps(policy, updates)
    if "reference" in algorithm.needs:
        add_reference_logps(policy, updates)
    return updates


def gradient(policy: Policy, algorithm: Algorithm, update: Update) -> Sums:
    """Adds this process's gradient of the loss to `.grad`; returns its share of the metrics, loss included."""
    sums: dict[tuple[str, str], Tensor] = {}
    coupled = isinstance(algorithm, CoupledAlgorithm)
    if coupled:
        _add(sums, couple(policy, algorithm, update))
    for micro in update.micro_batches:
        # The value of a coupled loss is known by now. Its gradient is still missing, and completions whose coefficient
        # is 0 add nothing to it, so they are not sent through the model.
        sent = micro.select(micro.batch.prepared["coefficients"] != 0) if coupled else micro
        loss = accumulate(
            policy.model,
            sent.rollouts,
            sent.masks,
            partial(loss_of_values, algorithm, sent.masks, sent.batch),
            mask_id=policy.mask_id,
            masks_at_once=sent.masks_at_once,
            compares="copy" if coupled else algorithm.compares,
        )
        if not coupled:
            _add(sums, loss)
        scored = micro.masks.scored.sum((1, 2))
        for per, count in (
            ("scored_tokens", scored),
            ("rewarded_tokens", scored * (micro.batch.advantages != 0)),
        ):
            sums["", per] = sums.get(("", per), 0) + count.sum()
    return {key: float(value) for key, value in sums.items()}


def loss_without_gradient(policy: Policy, algorithm: Algorithm, update: Update) -> float:
    """What this process's completions add to the loss of an update, which is not made."""
    with torch.no_grad():
        losses = [
            algorithm.loss(micro.logps(policy.model, policy.mask_id)[0], micro.masks, micro.batch).loss
            for micro in update.micro_batches
        ]
    return float(sum(loss.double() for loss in losses))


def means(sums: Sums, counts: Mapping[str, float]) -> dict[str, float]:
    """The metrics of an update, from the sums of all processes; counts: as in `Step`."""
    tokens = {per: total for (name, per), total in sums.items() if not name}
    denominators = {"update": 1.0, "scored_tokens": 0.0, "rewarded_tokens": 0.0, **counts, **tokens}
    return {name: total / (denominators[per] or 1.0) for (name, per), total in sums.items() if name}


def couple(policy: Policy, algorithm: CoupledAlgorithm, update: Update) -> Loss:
    """Gives every completion its coefficient, the gradient of the coupled loss with respect to its bound.

    Every process computes the loss of the completions of all processes, and keeps the coefficients of its own. So that
    sums over processes are right, it is returned on the first process only, and an empty one on the others.
    """
    by_process = gather([[_columns_of(policy, algorithm, micro) for micro in update.micro_batches]])
    places = gather([[micro.batch.place.to("cpu") for micro in update.micro_batches]])
    everyone = [columns for of_process in by_process for columns in of_process]
    columns = {name: torch.cat([one[name] for one in everyone]) for name in everyone[0]}
    place = Place.join([one for of_process in places for one in of_process])
    sequences = sequences_of_episodes(columns, place, update.totals)
    sequences.bounds.requires_grad_()
    result = algorithm.coupled_loss(sequences)
    (coefficients,) = torch.autograd.grad(result.loss, sequences.bounds)
    by_micro_batch = place.spread(coefficients).split([len(one["bounds"]) for one in everyone])
    first = sum(map(len, by_process[: rank()]))  # the micro-batches of the processes before this one
    of_this_process = by_micro_batch[first : first + len(update.micro_batches)]
    for micro, part in zip(update.micro_batches, of_this_process, strict=True):
        prepared = {**micro.batch.prepared, "coefficients": part.to(micro.batch.advantages.device)}
        micro.batch = replace(micro.batch, prepared=prepared)
    return replace(result, loss=result.loss.detach()) if rank() == 0 else Loss(torch.zeros(()), {})


def _columns_of(policy: Policy, algorithm: CoupledAlgorithm, micro: MicroBatch) -> dict[str, Tensor]:
    """What a coupled loss is told of the completions of a micro-batch: (B,) each, on the CPU, as in `Sequences`."""
    batch, bound = micro.batch, partial(algorithm.bound, masks=micro.masks)
    current = bound(micro.logps(policy.model, policy.mask_id)[0])
    columns = {
        "bounds": current,
        "old_bounds": current if batch.old_logps is None else bound(batch.old_logps),
        "advantages": batch.advantages,
        "length": batch.length,
    }
    if batch.ref_logps is not None:
        columns["ref_bounds"] = bound(batch.ref_logps)
    return {name: column.cpu() for name, column in columns.items()}


def sequences_of_episodes(
    columns: Mapping[str, Tensor], place: Place, totals: Mapping[str, float]
) -> Sequences:
    """What a coupled loss compares: episodes. columns: (B,) of their turns; bounds and lengths of these add up."""
    joined = {
        name: place.first(column) if name == "advantages" else place.total(column)
        for name, column in columns.items()
    }
    return Sequences(group=place.first(place.group), totals=totals, **joined)


def _add(sums: dict[tuple[str, str], Tensor], loss: Loss) -> None:
    figures = {("loss", "update"): loss.loss} | {(n, m.per): m.total for n, m in loss.metrics.items()}
    for key, value in figures.items():
        sums[key] = sums.get(key, 0.0) + value.double()
