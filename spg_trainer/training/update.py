"""Plans the updates of a step, and computes the gradient of each, a micro-batch at a time.

An update is one optimizer step. The loss of a `CoupledAlgorithm` compares the completions of the whole update: it is
computed from a bound on the log-likelihood of each completion, and its gradient in this bound is the completion's
coefficient.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from spg_trainer.algorithms import Algorithm, CoupledAlgorithm, Loss
from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.distributed import gather, rank
from spg_trainer.estimate.sizes import micro_batch_size
from spg_trainer.likelihood import accumulate
from spg_trainer.models import Policy
from spg_trainer.models.out_of_memory import halved_until_it_fits
from spg_trainer.models.shard import trains_parts
from spg_trainer.models.working_copy import drop_gradients
from spg_trainer.settings.fields import BatchConfig
from spg_trainer.tensors import Rows
from spg_trainer.training.micro_batches import (
    Update,
    copies_at_once,
    draw_masks,
    logps_without_graph,
    micro_batch,
    order_by_length,
    split_micro_batch,
    split_rows,
    with_pilot,
)
from spg_trainer.training.reference_logps import add_old_logps, add_reference_logps

Sums = dict[tuple[str, str], float]
"""{(name of a metric, what its sum is divided by): the sum over completions}, e.g. {("kl", "scored_tokens"): 3.2}.

Sums add up over micro-batches and processes; of ("kl_max", "max") the largest value counts, of "min" the smallest. A
key with an empty name holds a divisor: ("", "scored_tokens") -> 640."""
EXTREMES = {"max": max, "min": min}


def plan_updates(
    policy: Policy, algorithm: Algorithm, step: Rows, settings: BatchConfig, *, seed: int, number: int | str
) -> list[Update]:
    """The updates of a step: one for each minibatch in each iteration, with masks, old logps and reference logps.

    Logps are log-probabilities of tokens. Those of the old weights and of the reference are computed here, before any
    weight changes, in passes with the same rows, padding and number of masks as in the update itself. number: the
    step's number, or "validation" for a loss that is only measured.
    """
    updates: list[Update] = []
    # Groups are dealt to the minibatches in turn.
    minibatch_of_row = step.group.numpy() % len(step.totals_of_minibatches)
    # A loss that compares the rows of an episode or of a group needs them in one micro-batch. A coupled loss, which
    # compares all completions of an update, does not: it gets the bounds of each.
    units = step.units(algorithm.compares).numpy()
    order = np.arange(len(step))
    if step.has_turns and algorithm.compares not in ("episode", "group"):
        order = order_by_length(step)
    problem_and_generation = list(zip(step.problem.tolist(), step.generation.tolist(), strict=True))
    for iteration in range(settings.num_iterations):
        size = settings.per_device_batch_size
        piloted = with_pilot(policy, algorithm, step, seed, number, iteration, size)
        masks = draw_masks(algorithm, piloted, seed, number, iteration, settings.num_iterations)
        size, masks_at_once = micro_batch_size(settings.per_device_batch_size, masks.scored.shape[1])
        for minibatch, totals in enumerate(step.totals_of_minibatches):
            chosen = order[minibatch_of_row[order] == minibatch]
            update = Update(
                totals=totals,
                counts=step.counts_of_minibatches[minibatch],
                completions=[problem_and_generation[row] for row in chosen],
                micro_batches=[],
            )
            for row_indices in split_rows(chosen, units, size):
                # A group that is kept together may be larger than `size`: fewer of its masks then fit at once.
                masks_that_fit = max(1, settings.per_device_batch_size // len(row_indices))
                at_once = min(masks_at_once, masks_that_fit)
                update.micro_batches.append(micro_batch(step, row_indices, masks, totals, at_once))
            updates.append(update)
    if "old" in algorithm.needs:
        add_old_logps(policy, updates)
    if "reference" in algorithm.needs:
        add_reference_logps(policy, updates)
    return updates


def gradient(policy: Policy, algorithm: Algorithm, update: Update) -> Sums:
    """Adds this process's gradient of the loss to `.grad`; returns its share of the metrics, loss included.

    If memory runs out, everything is computed again with half as many masked copies at once, and later updates begin
    with this number. This is only possible if `.grad` was empty before and gradients are whole on each process;
    otherwise the error ends the run.
    """
    coupled_sums: dict[tuple[str, str], Tensor] = {}
    if algorithm.compares == "update":
        _add(coupled_sums, couple(policy, algorithm, update))
    at_first = max(map(copies_at_once, update.micro_batches), default=1)
    if policy.most_copies is not None:
        at_first = min(at_first, policy.most_copies)
    repeatable = not trains_parts(policy.model) and all(p.grad is None for p in policy.model.parameters())
    if not repeatable:
        return _gradient(policy, algorithm, update, at_first, coupled_sums)

    def attempt(copies: int) -> Sums:
        if copies < at_first:  # the attempt before may have left gradients
            drop_gradients(policy.model)
        return _gradient(policy, algorithm, update, copies, coupled_sums)

    sums, copies = halved_until_it_fits(attempt, at_first, "masked copies of an update")
    if copies < at_first:
        policy.most_copies = copies
    return sums


def _gradient(
    policy: Policy,
    algorithm: Algorithm,
    update: Update,
    copies: int,
    coupled_sums: Mapping[tuple[str, str], Tensor],
) -> Sums:
    """As `gradient`. copies: how many masked copies hold a graph at once. coupled_sums: what `couple` has measured."""
    sums = dict(coupled_sums)
    coupled = algorithm.compares == "update"
    parts = (
        part
        for micro in update.micro_batches
        for part in split_micro_batch(micro, copies, algorithm.compares)
    )
    for micro in parts:
        # `couple` has computed the value of a coupled loss and the coefficients. What is left is the gradient of
        # sum(coefficients * bounds). Completions whose coefficient is 0 add nothing to it and are left out.
        scored_rows = micro.select(micro.coefficients != 0) if coupled else micro
        loss = accumulate(
            policy.model,
            scored_rows,
            scored_rows.masks,
            partial(loss_of_values, algorithm, scored_rows.masks, scored_rows.without("masks")),
            mask_id=policy.mask_id,
            masks_at_once=scored_rows.masks_at_once,
            # "copy": what is left of a coupled loss compares nothing.
            compares="copy" if coupled else algorithm.compares,
        )
        if not coupled:
            _add(sums, loss)
        scored_tokens = micro.masks.scored.sum((1, 2))  # (B,), in all masks
        for per, count in (
            ("scored_tokens", scored_tokens),
            ("rewarded_tokens", scored_tokens * (micro.advantages != 0)),
        ):
            sums["", per] = sums.get(("", per), 0) + count.sum()
    return {key: float(value) for key, value in sums.items()}


def loss_without_gradient(policy: Policy, algorithm: Algorithm, update: Update) -> float:
    """What this process's completions add to the loss of an update, measured without making the update."""
    total = 0.0
    with torch.no_grad():
        for micro in update.micro_batches:
            logps, _ = logps_without_graph(micro, policy.model, policy.mask_id)
            total += float(algorithm.loss(logps, micro.masks, micro).loss)
    return total


def of_all_processes(sums: Sums) -> Sums:
    """The sums, largest and smallest values over all processes; a key that a process lacks changes nothing."""
    found: dict[tuple[str, str], list[float]] = {}
    for part in gather([sums]):
        for key, value in part.items():
            found.setdefault(key, []).append(value)
    return {key: EXTREMES.get(key[1], sum)(values) for key, values in found.items()}


def means(sums: Sums, counts: Mapping[str, float]) -> dict[str, float]:
    """The metrics of an update. sums: added up over all processes. counts: as in `Update`, what they are divided by."""
    tokens = {per: count for (name, per), count in sums.items() if not name}
    divisors = {
        "update": 1.0,
        "max": 1.0,
        "min": 1.0,
        "scored_tokens": 0.0,
        "rewarded_tokens": 0.0,
        **counts,
        **tokens,
    }
    return {name: total / (divisors[per] or 1.0) for (name, per), total in sums.items() if name}


def couple(policy: Policy, algorithm: CoupledAlgorithm, update: Update) -> Loss:
    """Gives every completion its coefficient, the gradient of the coupled loss in the completion's bound.

    Every process computes the loss of the completions of all processes, and keeps the coefficients of its own
    completions as the column `coefficients`. The loss is returned on the first process only, and zero on the others,
    so that the sum over the processes is right.
    """
    # A list for each process, with an entry for each of its micro-batches.
    parts_by_process = gather(
        [[rows_with_bounds(policy, algorithm, micro) for micro in update.micro_batches]]
    )
    parts = [part for parts_of_process in parts_by_process for part in parts_of_process]
    rows = Rows.join(parts)
    episodes = rows_of_episodes(rows, update.totals)
    episodes.bounds.requires_grad_()
    result = algorithm.coupled_loss(episodes)
    (coefficients,) = torch.autograd.grad(result.loss, episodes.bounds)
    # From episodes back to the rows of their turns, and from these to the micro-batches.
    coefficients_of_parts = rows.spread(coefficients).split([len(part) for part in parts])
    first = sum(map(len, parts_by_process[: rank()]))  # how many parts the processes before this one have
    coefficients_here = coefficients_of_parts[first : first + len(update.micro_batches)]
    update.micro_batches = [
        micro.with_columns(coefficients=part.to(micro.advantages.device))
        for micro, part in zip(update.micro_batches, coefficients_here, strict=True)
    ]
    if rank() > 0:
        return Loss(torch.zeros(()), {})
    return replace(result, loss=result.loss.detach())


def rows_with_bounds(policy: Policy, algorithm: CoupledAlgorithm, micro: Rows) -> Rows:
    """What a coupled loss needs of the completions of a micro-batch, on the CPU, with their `bounds`, (B,).

    `old_bounds` are the current bounds if there are no `old_logps`; `ref_bounds` are there if there are `ref_logps`.
    """
    bound = partial(algorithm.bound, masks=micro.masks)
    logps, _ = logps_without_graph(micro, policy.model, policy.mask_id)
    current = bound(logps)
    columns = {
        "bounds": current,
        "old_bounds": bound(micro.old_logps) if "old_logps" in micro else current,
        "advantages": micro.advantages,
        "length": micro.length,
        "episode": micro.episode,
        "group": micro.group,
    }
    if "ref_logps" in micro:
        columns["ref_bounds"] = bound(micro.ref_logps)
    return Rows(**columns, max_turns=micro.max_turns).to("cpu")


def rows_of_episodes(rows: Rows, totals: Mapping[str, float]) -> Rows:
    """The E episodes that a coupled loss compares, from the rows of their turns (`rows_with_bounds`).

    An episode has the advantage of any of its turns, which is the same, and the sums of their bounds and lengths.
    """
    same_in_all_turns = ("advantages", "episode", "group")
    columns = {name: column for name, column in vars(rows).items() if isinstance(column, Tensor)}
    return Rows(
        **{
            name: rows.first(column) if name in same_in_all_turns else rows.total(column)
            for name, column in columns.items()
        },
        totals=totals,
    )


def _add(sums: dict[tuple[str, str], Tensor], loss: Loss) -> None:
    """Adds a loss and its metrics to sums, which have the keys of `Sums`."""
    figures = {("loss", "update"): loss.loss}
    figures |= {(name, metric.per): metric.total for name, metric in loss.metrics.items()}
    for key, value in figures.items():
        value = value.double()
        if key[1] in EXTREMES:
            # `amax` keeps a NaN, as a sum does.
            both = torch.stack([value, sums.get(key, value)])
            sums[key] = both.amax() if key[1] == "max" else both.amin()
        else:
            sums[key] = sums.get(key, 0.0) + value
