"""One optimizer step: masks, bounds, loss and gradient over this process's completions, summed over all processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from spg_trainer.algorithms import Algorithm, Loss
from spg_trainer.batch import Batch, Rollouts
from spg_trainer.config import OptimizerConfig, micro_batch_size
from spg_trainer.likelihood import Masks, accumulate, token_logps
from spg_trainer.models import Policy
from spg_trainer.seeding import numpy_generator


@dataclass
class Update:
    """The completions of a step that carry a learning signal on this process, and what every update of it needs."""

    policy: Policy
    algorithm: Algorithm
    rollouts: Rollouts
    index: np.ndarray
    """(B,) int64, problem of each completion."""
    generation: np.ndarray
    """(B,) int64, number of the completion in its group."""
    signal: dict[str, Tensor]
    """Name -> (B,) float, from `Algorithm.prepare`."""
    totals: dict[str, float]
    """Over all processes and every completion, skipped ones included."""
    per_device_batch_size: int
    masks: list[Masks] = field(default_factory=list)
    """One per iteration."""
    old_logps: list[Tensor | None] = field(default_factory=list)
    ref_logps: list[Tensor | None] = field(default_factory=list)


def mask_streams(
    seed: int, step: int, iteration: int, index: np.ndarray, generation: np.ndarray
) -> Callable[[int, int], np.random.Generator]:
    """The streams masks are drawn from: `streams(row, mask)`, keyed by problem and generation, not by place."""

    def stream(row: int, mask: int) -> np.random.Generator:
        return numpy_generator(seed, "masks", step, int(index[row]), int(generation[row]), iteration, mask)

    return stream


def draw_masks(update: Update, seed: int, step: int, num_iterations: int) -> None:
    """Draws the masks of all iterations, then old and reference logps on them, before any weight changes."""
    strategy = update.algorithm.strategy
    for iteration in range(num_iterations):
        streams = mask_streams(seed, step, iteration, update.index, update.generation)
        update.masks.append(strategy.draw(update.rollouts, streams))
    needs = update.algorithm
    update.old_logps = [fixed_logps(update, m) if needs.needs_old_logps else None for m in update.masks]
    if needs.needs_ref_logps:  # the reference is the model below its adapters (settings.check asks for them)
        with update.policy.model.disable_adapter():
            update.ref_logps = [fixed_logps(update, m) for m in update.masks]
    else:
        update.ref_logps = [None] * num_iterations


def fixed_logps(update: Update, masks: Masks) -> Tensor:
    """(B, M, T) logps of the model as it stands, without a graph, a few rows at a time."""
    if not len(update.rollouts):  # a process without signal
        return torch.zeros(masks.scored.shape)
    parts = []
    with torch.no_grad():
        for rows in row_numbers(update).split(update.per_device_batch_size):
            chosen, some = without_common_padding(update.rollouts.select(rows), masks.select(rows))
            samples = [
                token_logps(update.policy.model, chosen, some, slice(m, m + 1), update.policy.mask_id)
                for m in range(some.scored.shape[1])
            ]
            parts.append(torch.cat(samples, dim=1))
    return torch.cat(parts)


def micro_batches(update: Update) -> Sequence[tuple[Tensor, int]]:
    """Rows of each micro-batch, and how many of their mask samples may have a live graph at once."""
    rows, live = micro_batch_size(update.per_device_batch_size, update.algorithm.strategy.num_masks)
    return [(chosen, live) for chosen in row_numbers(update).split(rows) if len(chosen)]


def row_numbers(update: Update) -> Tensor:
    """(B,) int64, on the device of the rollouts, so that choosing rows copies nothing."""
    return torch.arange(len(update.rollouts), device=update.rollouts.completion_ids.device)


def without_common_padding(rollouts: Rollouts, masks: Masks) -> tuple[Rollouts, Masks]:
    """The same completions without the prompt columns that are padding in all of them."""
    width = rollouts.prompt_mask.shape[1]
    cut = width - int(rollouts.prompt_mask.sum(-1).max())
    if cut == 0:
        return rollouts, masks
    prompt = {name: getattr(rollouts, name)[:, cut:] for name in ("prompt_ids", "prompt_mask")}
    return replace(rollouts, **prompt), replace(masks, input_hidden=masks.input_hidden[:, :, cut:])


def gradient(update: Update, iteration: int) -> dict[str, float]:
    """Adds this process's gradient of the loss to `.grad`; returns the metrics, loss included, as its share of sums."""
    sums: dict[str, Tensor] = {}
    for rows, live in micro_batches(update):
        old, ref = update.old_logps[iteration], update.ref_logps[iteration]
        batch = Batch(
            completion_mask=update.rollouts.completion_mask[rows],
            signal={name: values[rows] for name, values in update.signal.items()},
            totals=update.totals,
            old_logps=None if old is None else old[rows],
            ref_logps=None if ref is None else ref[rows],
        )
        rollouts, masks = without_common_padding(
            update.rollouts.select(rows), update.masks[iteration].select(rows)
        )

        def loss_fn(logps: Tensor, masks: Masks = masks, batch: Batch = batch) -> Loss:
            return update.algorithm.loss(logps, masks, batch)

        loss = accumulate(
            update.policy.model, rollouts, masks, loss_fn, live=live, mask_id=update.policy.mask_id
        )
        for name, value in {"loss": loss.loss, **loss.metrics}.items():
            sums[name] = sums.get(name, 0.0) + value.double()
    return {name: float(value) for name, value in sums.items()}


def make_optimizer(parameters: Sequence[Tensor], config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters."""
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        weight_decay=config.weight_decay,
    )


def warmed_up(config: OptimizerConfig, updates: int) -> float:
    """The learning rate of the update after `updates` others: linear warm-up, then constant."""
    return config.learning_rate * min(1.0, (updates + 1) / max(1, config.warmup_steps))
