"""Plans the updates of a step and makes each: masks, old and reference log-probabilities, gradient, optimizer step.

An update is one optimizer step; in every iteration, a step makes one of each of its minibatches. A micro-batch is B
rows, completions, with M masked copies of each (`masks`). Up to `masks_at_once` times B copies go through the model
together. Prompt columns that are padding in all rows are left out. Passes under the old weights and the reference have
the same rows, the same padding and as many masks as in the update itself, so that an equal model gives equal values,
bit for bit.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from spg_trainer import distributed
from spg_trainer.algorithms import Algorithm, Loss
from spg_trainer.algorithms.base import fault_of_name, loss_of_values
from spg_trainer.errors import TrainingError
from spg_trainer.estimate.memory import micro_batch_size
from spg_trainer.likelihood import KeyedStreams, Masks, accumulate, token_logps
from spg_trainer.likelihood.noise import with_uniform_noise, with_wrong_tokens
from spg_trainer.models import Policy
from spg_trainer.models.out_of_memory import halved_until_it_fits
from spg_trainer.models.shard import drop_gradients, trains_parts, unsharded
from spg_trainer.runs.files import write_text
from spg_trainer.seeding import derive, gpus
from spg_trainer.settings.configs import BatchConfig
from spg_trainer.settings.types import json_document
from spg_trainer.tensors import Rows
from spg_trainer.training.coupled import couple
from spg_trainer.training.optimize import optimizer_step, sum_gradients
from spg_trainer.training.run import Run

Key = tuple[int | str, ...]
"""What a stream of random numbers is for, as in `seeding.py`: ("masks", step)."""
Sums = dict[tuple[str, str], float]
"""{(name of a metric, what its sum is divided by): the sum over completions}, e.g. {("kl", "scored_tokens"): 3.2}.

Sums add up over micro-batches and processes; of ("kl_max", "max") the largest value counts, of "min" the smallest. A
key with an empty name holds a divisor: ("", "scored_tokens") -> 640."""
Figures = dict[tuple[str, str], float]
"""{(name of a metric, what it is per): its value in an update}."""
EXTREMES = {"max": max, "min": min}
MAX_SKIPPED = 3
"""A run stops after so many updates in a row whose loss or gradient is not finite."""


@dataclass
class Update:
    """What this process adds to one optimizer step."""

    number: int
    """Its number among those of its step, from 0 on; minibatches from which nothing is learned are counted, too."""
    totals: Mapping[str, float]
    """The divisors of sums over episodes, as in `Rows`."""
    counts: Mapping[str, float]
    """The divisors of sums over completions: as `totals`, but each turn of an episode counts as a completion."""
    completions: list[tuple[int, int]]
    """(problem, generation) of each completion."""
    micro_batches: list[Rows]
    shared_by: int = 1
    """How many processes, neighbours in rank, have this same update, as in `Rows`."""

    @property
    def is_counted_here(self) -> bool:
        """Whether this process reports what the update measures, so that it is counted once."""
        return distributed.rank() % self.shared_by == 0


def plan_updates(
    policy: Policy, algorithm: Algorithm, step: Rows, settings: BatchConfig, *, seed: int, purpose: Key
) -> list[Update]:
    """The updates of a step: one for each minibatch in each iteration, with masks, old logps and reference logps.

    A minibatch makes no update if nothing is learned from any of its completions. Logps are log-probabilities of
    tokens. Those of the old weights and of the reference are computed here, before any weight changes, in passes with
    the same rows, padding and number of masks as in the update itself. purpose: what the masks are drawn for.
    """
    updates: list[Update] = []
    teaches = [totals["scored_completions"] > 0 for totals in step.totals_of_minibatches]
    if not any(teaches):
        return updates
    # Groups are dealt to the minibatches in turn.
    minibatch_of_row = step.group.numpy() % len(teaches)
    # A loss that compares the rows of an episode or of a group needs them in one micro-batch. A coupled loss, which
    # compares all completions of an update, does not: it gets the bounds of each.
    units = step.units(algorithm.compares).numpy()
    order = np.arange(len(step))
    if step.has_turns and algorithm.compares not in ("episode", "group"):
        order = order_by_length(step)
    problem_and_generation = list(zip(step.problem.tolist(), step.generation.tolist(), strict=True))
    for iteration in range(settings.num_iterations):
        streams = KeyedStreams(seed, purpose, row_keys=step.noise_keys("turn"), update=(iteration,))
        piloted = with_pilot(policy, algorithm, step, streams, settings.per_device_batch_size)
        masks = algorithm.make_masking().draw(piloted, streams, iteration, settings.num_iterations)
        if policy.noise == "uniform" and masks.shown is None:
            masks = with_uniform_noise(masks, streams, policy.model.config.vocab_size)
        elif algorithm.edit_noise:
            edits = {"edit_noise": algorithm.edit_noise, "edit_weight": algorithm.edit_weight}
            masks = with_wrong_tokens(masks, step, streams, policy, **edits)
        size, masks_at_once = micro_batch_size(settings.per_device_batch_size, masks.scored.shape[1])
        for minibatch, totals in enumerate(step.totals_of_minibatches):
            if not teaches[minibatch]:
                continue
            chosen = order[minibatch_of_row[order] == minibatch]
            update = Update(
                number=iteration * len(teaches) + minibatch,
                totals=totals,
                counts=step.counts_of_minibatches[minibatch],
                completions=[problem_and_generation[row] for row in chosen],
                micro_batches=[],
                shared_by=step.shared_by,
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


def order_by_length(step: Rows) -> np.ndarray:
    """(B,) the numbers of the rows, in the order of the lengths of their prompts.

    The prompt of a turn is the chat so far. In this order a micro-batch holds prompts of about the same length, and
    first turns need no padding up to the length of last ones.
    """
    return step.prompt_mask.sum(-1).numpy(force=True).argsort(kind="stable")


def with_pilot(
    policy: Policy, algorithm: Algorithm, step: Rows, streams: KeyedStreams, batch_size: int
) -> Rows:
    """The same rows with the column `pilot` if their masks depend on a first pass (`Masking.pilot`).

    batch_size: rows of a pass.
    """
    pilot = algorithm.make_masking().pilot
    if pilot is None or not len(step):
        return step
    masks = pilot.draw(step, streams)
    found = []
    for row_indices in torch.arange(len(step)).split(batch_size):
        micro = micro_batch(step, row_indices.tolist(), masks, {}, masks_at_once=1)
        logps, measured = logps_without_graph(policy, micro)
        figures, where = (logps, micro.masks.scored) if measured is None else (measured, micro.masks.measured)
        found.append(figures.masked_fill(~where, float("-inf")))
    return step.with_columns(pilot=torch.cat(found))


def micro_batch(
    step: Rows, row_indices: list[int], masks: Masks, totals: Mapping[str, float], masks_at_once: int
) -> Rows:
    """Some completions of a step, on one device, padded to the longest of their prompts.

    masks: the masks of all completions of the step.
    """
    chosen = torch.tensor(row_indices)
    # The masks have what they need of the steps that the sampler recorded, which takes much memory.
    rows = step.without("canvases", "accepted").select(chosen).to(step.completion_ids.device)
    # Prompts are padded on the left, so `trim` cuts their first columns, and the same columns of the masks.
    return rows.with_columns(totals=totals, masks=masks.select(chosen), masks_at_once=masks_at_once).trim()


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


def add_old_logps(policy: Policy, updates: Sequence[Update]) -> None:
    """Gives the rows of all updates but the first their `old_logps`, under the model that sampled.

    The first update needs none: no weight has changed yet, so that its own logps, detached, are the old ones. If the
    masks name a measure (`likelihood/logps.py`), the rows get `old_measured`, too.
    """
    for update in updates[1:]:
        for number, micro in enumerate(update.micro_batches):
            old_logps, old_measured = logps_without_graph(policy, micro)
            update.micro_batches[number] = micro.with_columns(old_logps=old_logps, old_measured=old_measured)


def add_reference_logps(policy: Policy, updates: Sequence[Update]) -> None:
    """Gives the rows of all updates their `ref_logps`, (B, M, T), without a graph.

    If the reference equals the policy, they equal the logps of the update itself, bit for bit.
    """
    with policy.reference() as reference:
        for update in updates:
            for number, micro in enumerate(update.micro_batches):
                masks = micro.masks.with_columns(measured=None)
                ref_logps = token_logps(reference, micro, masks, micro.masks_at_once)
                update.micro_batches[number] = micro.with_columns(ref_logps=ref_logps)


def logps_without_graph(policy: Policy, micro: Rows) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities (B, M, T), and what the masks measure (see `likelihood.logps.MEASURES`), (B, M, T) or None.

    `token_logps` keeps no graph. With the same weights the values equal, bit for bit, those that the update computes.
    """
    return micro.masks.split(token_logps(policy, micro, micro.masks, micro.masks_at_once))


@contextmanager
def updating(run: Run) -> Iterator[None]:
    """Inside, the updates of a step are made: dropout acts, and draws from a seed of the step and the process.

    Dropout can draw only from torch's global stream, which gets its old state afterwards.
    """
    has_dropout = run.config.model.lora_dropout > 0
    skipped_before = run.state.skipped
    with torch.random.fork_rng(gpus(run.policy.device), enabled=has_dropout):
        if has_dropout:
            process = run.accelerator.process_index
            torch.manual_seed(derive(run.config.seed, "dropout", run.state.step, process))
        run.policy.model.train()
        try:
            yield
        except BaseException:
            # A checkpoint that is written now is of the last finished step, and so must not count this step's skips.
            run.state.skipped = skipped_before
            raise
        run.policy.model.eval()


def apply(run: Run, update: Update) -> Figures:
    """Makes one update; returns its metrics, and whether it was applied.

    The gradient is computed, summed over the processes and clipped, and the optimizer makes its step. If the loss or
    the gradient is not finite, the update is skipped and counted.
    """
    with unsharded(run.policy.model):
        # The user's code of a step may have switched gradients off.
        with distributed.raising_on_all(), torch.enable_grad():
            sums = gradient(run.policy, run.algorithm, update)
        sum_gradients(run.policy.model)
    sums = of_all_processes(sums)
    # The metrics of a loss that compares all completions of an update are sums over episodes. Those of other losses are
    # sums over completions, of which an episode has one for each turn.
    metrics = means(sums, update.totals if run.algorithm.compares == "update" else update.counts)
    rate = run.learning_rate
    norm, applied = optimizer_step(
        run.optimizer,
        run.parameters,
        loss=metrics["loss"],
        learning_rate=rate,
        max_grad_norm=run.config.optimizer.max_grad_norm,
        before_change=run.state.will_change,
    )
    if applied:
        run.state.updates += 1
        if run.moves_reference and run.state.updates % run.algorithm.ref_model_sync_steps == 0:
            run.policy.move_reference(run.algorithm.ref_model_mixup_alpha)
    else:
        count_skipped(run, update)
    of_masking = run.algorithm.make_masking().figures
    figures = {(of_masking.get(name, name), per): metrics[name] for name, per in sums if name}
    of_update = {"grad_norm": norm, "learning_rate": rate, "is_applied": applied}
    return figures | {(name, "update"): value for name, value in of_update.items()}


def gradient(policy: Policy, algorithm: Algorithm, update: Update) -> Sums:
    """Adds this process's gradient of the loss to `.grad`; returns its share of the metrics, loss included.

    If memory runs out, everything is computed again with half as many masked copies at once, and later updates begin
    with this number. This is only possible if `.grad` was empty before, gradients are whole on each process, and no
    other process computes columns of the same copies; otherwise the error ends the run.
    """
    is_coupled = algorithm.compares == "update"
    coupled_loss = None
    if is_coupled:
        coupled_loss = couple(policy, algorithm, update.micro_batches, update.totals, update.shared_by)
    at_first = max(map(copies_at_once, update.micro_batches), default=1)
    if policy.most_copies is not None:
        at_first = min(at_first, policy.most_copies)
    repeatable = update.shared_by == 1 and not trains_parts(policy.model)
    repeatable = repeatable and all(p.grad is None for p in policy.model.parameters())
    for attempt in halved_until_it_fits(at_first, "masked copies of an update", repeatable):
        with attempt:
            if attempt.size < at_first:  # the attempt before may have left gradients
                policy.most_copies = attempt.size
                drop_gradients(policy.model)
            sums: dict[tuple[str, str], Tensor] = {}
            if coupled_loss is not None:
                add_loss(sums, coupled_loss)
            for micro in split_micro_batches(update.micro_batches, attempt.size, algorithm.compares):
                # `couple` has computed the value of a coupled loss and the coefficients. What is left is the gradient
                # of sum(coefficients * bounds). Completions whose coefficient is 0 add nothing and are left out.
                rows = micro.select(micro.coefficients != 0) if is_coupled else micro
                loss = accumulate(
                    policy,
                    rows,
                    rows.masks,
                    partial(loss_of_values, algorithm, rows.masks, rows.without("masks")),
                    masks_at_once=rows.masks_at_once,
                    # "copy": what is left of a coupled loss compares nothing.
                    compares="copy" if is_coupled else algorithm.compares,
                )
                if not is_coupled:
                    add_loss(sums, loss)
                add_scored_tokens(sums, micro)
    return {key: float(value) for key, value in sums.items()} if update.is_counted_here else {}


def copies_at_once(micro: Rows) -> int:
    """How many masked copies of a micro-batch go through the model together."""
    rows, masks = micro.masks.scored.shape[:2]
    return rows * min(micro.masks_at_once, masks)


def split_micro_batches(micro_batches: Sequence[Rows], most_copies: int, compares: str) -> Iterator[Rows]:
    """The micro-batches of an update, those that have more in parts of up to `most_copies` masked copies at once.

    Rows that the loss compares stay in one part, even if that has more. compares: as for `Rows.units`.
    """
    for micro in micro_batches:
        if copies_at_once(micro) <= most_copies:
            yield micro
            continue
        rows, masks = micro.masks.scored.shape[:2]
        size, masks_at_once = micro_batch_size(most_copies, masks)
        units = micro.units(compares).numpy(force=True)
        for row_indices in split_rows(np.arange(rows), units, size):
            masks_that_fit = max(1, most_copies // len(row_indices))
            part = micro.select(torch.tensor(row_indices, device=micro.masks.scored.device))
            yield part.with_columns(masks_at_once=min(masks_at_once, masks_that_fit))


def add_loss(sums: dict[tuple[str, str], Tensor], loss: Loss) -> None:
    """Adds a loss and its metrics to sums, which have the keys of `Sums`."""
    # Some metrics are only returned for completions that the trial of an algorithm does not have.
    for name in loss.metrics:
        if fault := fault_of_name(str(name)):
            raise TrainingError(f"The loss returned {fault}.")
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


def add_scored_tokens(sums: dict[tuple[str, str], Tensor], micro: Rows) -> None:
    """Adds the scored tokens of a micro-batch, in all masks, to sums: divisors of metrics."""
    scored_tokens = micro.masks.scored.sum((1, 2))  # (B,)
    rewarded_tokens = scored_tokens * (micro.advantages != 0)
    for per, count in (("scored_tokens", scored_tokens), ("rewarded_tokens", rewarded_tokens)):
        sums["", per] = sums.get(("", per), 0) + count.sum()


def of_all_processes(sums: Sums) -> Sums:
    """The sums, largest and smallest values over all processes; a key that a process lacks changes nothing."""
    found: dict[tuple[str, str], list[float]] = {}
    for part in distributed.gather([sums]):
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


def count_skipped(run: Run, update: Update) -> None:
    """Counts an update that was skipped because its loss or gradient is not finite.

    The next finite update sets the count back to 0. After `MAX_SKIPPED` skipped updates in a row, the completions of
    the last one are written to a file, and TrainingError is raised.
    """
    run.state.skipped += 1
    if run.state.skipped < MAX_SKIPPED:
        return
    completions_of_all = distributed.gather(update.completions if update.is_counted_here else [])
    file = run.folder.path / f"nonfinite-step-{run.state.step}.json"
    if distributed.rank() == 0:
        batch = {"step": run.state.step, "update": update.number, "index_generation": completions_of_all}
        write_text(file, json_document(batch))
    rate = run.config.optimizer.learning_rate
    text = (
        f"The loss or its gradient was NaN or infinite {MAX_SKIPPED} times in a row; the weights are those of the last "
        f"finite update. {file} names the batch. Lower $learning_rate={rate} or $max_grad_norm in a new run; "
        "$model with the path of a checkpoint begins from its weights."
    )
    # Marked, since all processes raise it: they may still save together.
    raise distributed.raised_by_all(TrainingError(text))


def metrics_of_step(run: Run, of_updates: Sequence[Figures]) -> dict[str, float]:
    """The metrics of a step: the mean over its updates, or the extreme of a metric that is one.

    Values that are not finite, as those of skipped updates, are left out; if no other is left, the metric is NaN.
    of_updates: what `apply` returned for each update.
    """
    if not of_updates:  # nothing teaches
        return {
            "grad_norm": 0.0,
            "grad_norm_max": 0.0,
            "updates_skipped": 0,
            "learning_rate": run.learning_rate,
        }
    step: dict[str, float] = {}
    for name, per in of_updates[-1]:
        values = [metrics[name, per] for metrics in of_updates]
        finite = [value for value in values if math.isfinite(value)]
        step[name] = float(EXTREMES.get(per, np.mean)(finite)) if finite else math.nan
    norms = [norm for update in of_updates if math.isfinite(norm := update["grad_norm", "update"])]
    step["grad_norm_max"] = max(norms, default=math.nan)
    step["updates_skipped"] = sum(not update["is_applied", "update"] for update in of_updates)
    del step["is_applied"]
    return step
