"""Turns the rewards of a step into advantages, plans its updates, and computes the gradient of each in micro-batches.

Rewards become advantages in `compute_advantages` of algorithms/base.py, unless an algorithm has its own (`credit`).

An update is one optimizer step; in every iteration, a step makes one of each of its minibatches. A micro-batch is B
rows, completions, with M masked copies of each (`masks`). Up to `masks_at_once` times B copies go through the model
together. Prompt columns that are padding in all rows are left out. Passes under the old weights and the reference have
the same rows, the same padding and as many masks as in the update itself, so that an equal model gives equal values,
bit for bit.

The loss of a `CoupledAlgorithm` compares the completions of the whole update: it is computed from a bound on the
log-likelihood of each completion, and its gradient in this bound is the completion's coefficient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from spg_trainer.algorithms import Algorithm, CoupledAlgorithm, Loss
from spg_trainer.algorithms.base import loss_of_values, prepare_columns
from spg_trainer.algorithms.contract import fault_of_name
from spg_trainer.distributed import gather, gather_rows, rank
from spg_trainer.errors import TrainingError
from spg_trainer.estimate.memory import micro_batch_size
from spg_trainer.likelihood import KeyedStreams, Masks, accumulate, token_logps
from spg_trainer.likelihood.noise import with_uniform_noise
from spg_trainer.models import Policy
from spg_trainer.models.policy import halved_until_it_fits
from spg_trainer.models.shard import drop_gradients, trains_parts
from spg_trainer.settings.configs import BatchConfig
from spg_trainer.tensors import Rows, without_rounding
from spg_trainer.training.run import Run

Sums = dict[tuple[str, str], float]
"""{(name of a metric, what its sum is divided by): the sum over completions}, e.g. {("kl", "scored_tokens"): 3.2}.

Sums add up over micro-batches and processes; of ("kl_max", "max") the largest value counts, of "min" the smallest. A
key with an empty name holds a divisor: ("", "scored_tokens") -> 640."""
EXTREMES = {"max": max, "min": min}


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
    shared_by: int = 1
    """How many processes, neighbours in rank, have this same update, as in `Rows`."""

    @property
    def is_counted_here(self) -> bool:
        """Whether this process reports what the update measures, so that it is counted once."""
        return rank() % self.shared_by == 0


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
        if policy.noise == "uniform":
            streams = mask_streams(step, seed, number, iteration)
            masks = with_uniform_noise(masks, streams, policy.model.config.vocab_size)
        size, masks_at_once = micro_batch_size(settings.per_device_batch_size, masks.scored.shape[1])
        for minibatch, totals in enumerate(step.totals_of_minibatches):
            chosen = order[minibatch_of_row[order] == minibatch]
            update = Update(
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


def gradient(policy: Policy, algorithm: Algorithm, update: Update) -> Sums:
    """Adds this process's gradient of the loss to `.grad`; returns its share of the metrics, loss included.

    If memory runs out, everything is computed again with half as many masked copies at once, and later updates begin
    with this number. This is only possible if `.grad` was empty before, gradients are whole on each process, and no
    other process computes columns of the same copies; otherwise the error ends the run.
    """
    coupled_sums: dict[tuple[str, str], Tensor] = {}
    if algorithm.compares == "update":
        _add(coupled_sums, couple(policy, algorithm, update))
    at_first = max(map(copies_at_once, update.micro_batches), default=1)
    if policy.most_copies is not None:
        at_first = min(at_first, policy.most_copies)
    repeatable = update.shared_by == 1 and not trains_parts(policy.model)
    repeatable = repeatable and all(p.grad is None for p in policy.model.parameters())
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
    return {key: float(value) for key, value in sums.items()} if update.is_counted_here else {}


def loss_without_gradient(policy: Policy, algorithm: Algorithm, update: Update) -> float:
    """What this process adds to the loss of an update, measured without making the update."""
    total = 0.0
    with torch.no_grad():
        for micro in update.micro_batches:
            logps, _ = logps_without_graph(micro, policy.model, policy.mask_id)
            total += float(algorithm.loss(logps, micro.masks, micro).loss)
    return total if update.is_counted_here else 0.0


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
    )[:: update.shared_by]  # processes that share an update have the same parts
    parts = [part for parts_of_process in parts_by_process for part in parts_of_process]
    rows = Rows.join(parts)
    episodes = rows_of_episodes(rows, update.totals)
    episodes.bounds.requires_grad_()
    result = algorithm.coupled_loss(episodes)
    (coefficients,) = torch.autograd.grad(result.loss, episodes.bounds)
    # From episodes back to the rows of their turns, and from these to the micro-batches.
    coefficients_of_parts = rows.spread(coefficients).split([len(part) for part in parts])
    # How many parts the processes before this one have.
    first = sum(map(len, parts_by_process[: rank() // update.shared_by]))
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


def add_old_logps(policy: Policy, updates: Sequence[Update]) -> None:
    """Gives the rows of all updates but the first their `old_logps`, under the model that sampled.

    The first update needs none: no weight has changed yet, so that its own logps, detached, are the old ones. If the
    masks name a measure (`likelihood/logps.py`), the rows get `old_measured`, too.
    """
    for update in updates[1:]:
        for number, micro in enumerate(update.micro_batches):
            old_logps, old_measured = logps_without_graph(micro, policy.model, policy.mask_id)
            update.micro_batches[number] = micro.with_columns(old_logps=old_logps, old_measured=old_measured)


def add_reference_logps(policy: Policy, updates: Sequence[Update]) -> None:
    """Gives the rows of all updates their `ref_logps`, (B, M, T), without a graph.

    If the reference equals the policy, they equal the logps of the update itself, bit for bit.
    """
    with policy.reference() as model:
        for update in updates:
            for number, micro in enumerate(update.micro_batches):
                masks = micro.masks.with_columns(measured=None)
                ref_logps = token_logps(model, micro, masks, policy.mask_id, micro.masks_at_once)
                update.micro_batches[number] = micro.with_columns(ref_logps=ref_logps)


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
    """Log-probabilities (B, M, T), and what the masks measure (see `likelihood.logps.MEASURES`), (B, M, T) or None.

    `token_logps` keeps no graph. With the same weights the values equal, bit for bit, those that the update computes.
    """
    return micro.masks.split(token_logps(model, micro, micro.masks, mask_id, micro.masks_at_once))


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


ByKind = dict[str, np.ndarray]
"""{kind: (B,) bool, which completions of all processes are of this kind}, e.g. {"scored_completions": [True, False]}.
Losses and metrics are divided by how many there are of a kind."""

MOST_WEIGHT = 2.0
"""The largest weight of a completion that an engine sampled."""


def credit(run: Run, scored: Rows) -> tuple[torch.Tensor, Rows]:
    """The advantages (B,) of this process's completions, and the rows that the updates of the step go through.

    scored: the completions of this process that are scored by the reward and learned from (`Rows.learned`); their
    groups and episodes are numbered without gaps.
    """
    if run.algorithm.score_tail:
        # The places behind the end are learned from, too, with padding in them.
        scored = scored.count_tail(run.policy.pad_id)
    elif run.policy.noise == "uniform":
        # They are hidden as the others are, and the model is taught that end tokens stand there.
        scored = scored.fill_tail(run.policy.pad_id)
    all_rows, names = prepare_step(run, scored)
    return step_of_process(run, scored, all_rows, names)


def prepare_step(run: Run, scored: Rows) -> tuple[Rows, list[str]]:
    """The completions of all processes with what the algorithm prepares of them, and the names of these columns.

    Raises ConfigError as `prepare_columns`.
    """
    algorithm = run.algorithm
    figures = {"rewards": torch.from_numpy(scored.rewards)}
    if "correct" in algorithm.needs:
        figures["correct"] = torch.from_numpy(scored.correct)
    all_rows = gather_rows(scored.tensors().with_columns(**figures))
    # Rewards that are equal but for rounding are equal: dividing by their spread would make a signal of the rounding.
    rewards = torch.from_numpy(without_rounding(all_rows.rewards.numpy()))
    all_rows = all_rows.with_columns(rewards=rewards, share_done=run.state.step / run.config.max_steps)
    prepared = prepare_columns(algorithm, all_rows)
    if "engine_log_ratio" in all_rows:
        log_ratio = all_rows.total(all_rows.engine_log_ratio.double().sum(-1))
        prepared["advantages"] = prepared["advantages"] * all_rows.spread(engine_weights(log_ratio))
    return all_rows.with_columns(**prepared), [*prepared]


def engine_weights(log_ratio: torch.Tensor) -> torch.Tensor:
    """(E,) min(p / p_engine, `MOST_WEIGHT`), by which E episodes of an engine are weighed, from log(p / p_engine).

    p is the probability with which the model itself draws the tokens of an episode where they were unmasked, and
    p_engine the one with which the engine drew them, which rounds differently. Both are taken at the temperature of
    drawing, where alone their ratio is an importance weight: truncated importance sampling, as in TIS (Yao et al.,
    2025, "Your efficient RL framework secretly brings you off-policy RL training").
    """
    return log_ratio.exp().clamp(max=MOST_WEIGHT)


def step_of_process(run: Run, scored: Rows, all_rows: Rows, names: list[str]) -> tuple[torch.Tensor, Rows]:
    """The advantages of this process's completions, and the rows of the step that it updates with (`rows_to_learn`).

    scored: those of this process. all_rows: the completions of all processes. names: the columns of `all_rows`
    that `prepare` returned. The returned rows are those that change the loss, in the order of their groups. Their
    `totals_of_minibatches` and `counts_of_minibatches` are what `count_minibatches` returns.
    """
    batch, algorithm, device = run.config.batch, run.algorithm, run.policy.device
    group, episode = all_rows.group.numpy(), all_rows.episode.numpy()
    active = algorithm.active(all_rows.advantages).numpy(force=True)  # which completions change the loss
    counts, totals = count_minibatches(
        kinds_of_completions(all_rows, active),
        minibatch=group % batch.num_minibatches,
        episode=episode,
        lengths=all_rows.length.numpy(force=True),
        num_minibatches=batch.num_minibatches,
    )
    rows = rows_to_learn(scored, all_rows, run.config.model.sequence_parallel)
    # The row indices of these rows among those of all processes.
    indices_here = torch.from_numpy(np.flatnonzero(np.isin(episode, rows.episode.numpy())))
    # `prepared_here` has what was gathered from all processes, `rows_here` all columns of the same rows.
    prepared_here = all_rows.select(indices_here)
    num_episodes = int(episode[-1]) + 1  # episodes are numbered from 0, in ascending order
    rows_here = rows.with_columns(
        # The place of the episode in the step: some maskings spread the numbers of masks evenly over the episodes.
        quantile=prepared_here.episode.double() / num_episodes,
        **{name: prepared_here.get(name) for name in names},
    )
    step = rows_here.select(torch.from_numpy(active)[indices_here])
    prepared_columns = {name: step.get(name) for name in names}
    prepared_tensors = {
        name: column.to(device)
        for name, column in prepared_columns.items()
        if isinstance(column, torch.Tensor)
    }
    step = step.with_columns(
        **prepared_tensors,
        totals_of_minibatches=tuple(totals),
        counts_of_minibatches=tuple(counts),
    )
    own_advantages = prepared_here.advantages[torch.isin(prepared_here.episode, scored.episode)]
    return own_advantages, step


def rows_to_learn(scored: Rows, all_rows: Rows, sequence_parallel: int) -> Rows:
    """The rows that this process updates with: its own, or with --sequence-parallel those of its whole group.

    scored: the completions of this process. all_rows: those of all processes, on the CPU.
    """
    own = scored.tensors()
    if sequence_parallel == 1:
        return own
    episodes_by_process = gather([own.episode])
    first = rank() - rank() % sequence_parallel
    episodes = torch.cat(episodes_by_process[first : first + sequence_parallel])
    of_group = all_rows.select(torch.isin(all_rows.episode, episodes))
    columns = {name: column for name, column in vars(own).items() if isinstance(column, torch.Tensor)}
    return own.with_columns(
        shared_by=sequence_parallel,
        **{name: of_group.get(name).to(column.device) for name, column in columns.items()},
    )


def kinds_of_completions(rows: Rows, active: np.ndarray) -> ByKind:
    """{kind: which completions are of this kind}. active: (B,) bool, which completions change the loss."""
    return {
        "completions": np.ones_like(active),
        "scored_completions": active,  # usually those with an advantage, see `Algorithm.active`
        "rewarded_completions": (rows.advantages != 0).numpy(force=True),
    }


def count_minibatches(
    kinds: ByKind, *, minibatch: np.ndarray, episode: np.ndarray, lengths: np.ndarray, num_minibatches: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """(counts, totals), each a dict for each minibatch.

    counts: how many completions of the minibatch are of each kind, by which metrics are divided. totals, by which
    losses are divided: how many of its episodes have a completion of each kind, and under `tokens`, how many tokens all
    its completions have together. With one turn, the two differ in `tokens` alone.

    minibatch, episode, lengths: (B,), for each completion of all processes.
    """
    counts: list[dict[str, float]] = []
    totals: list[dict[str, float]] = []
    for number in range(num_minibatches):
        # {kind: (B,) bool, which completions are in this minibatch and of this kind}
        members = {kind: is_kind & (minibatch == number) for kind, is_kind in kinds.items()}
        counts.append({kind: float(chosen.sum()) for kind, chosen in members.items()})
        num_tokens = float(lengths[members["completions"]].sum())
        num_episodes = {kind: float(len(np.unique(episode[chosen]))) for kind, chosen in members.items()}
        totals.append({**num_episodes, "tokens": num_tokens})
    return counts, totals
