"""The gradient of one update: masks, logps and loss over this process's completions, a micro-batch at a time."""

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from spg_trainer.algorithms import Algorithm
from spg_trainer.batch import Batch, Rollouts
from spg_trainer.config import micro_batch_size
from spg_trainer.likelihood import Masks, accumulate, token_logps
from spg_trainer.models import Policy
from spg_trainer.seeding import numpy_generator


@dataclass
class Update:
    """The completions of a step that change the loss on this process, and what every update of it needs."""

    policy: Policy
    algorithm: Algorithm
    rollouts: Rollouts
    index: np.ndarray
    """(B,) int64, problem of each completion."""
    generation: np.ndarray
    """(B,) int64, number of the completion in its group."""
    batch: Batch
    """Without old and reference logps, which belong to the masks of an iteration."""
    per_device_batch_size: int
    iterations: list[tuple[Masks, Batch]] = field(default_factory=list)

    def micro_batches(self, size: int) -> list[Tensor]:
        """Row numbers (b,) int64 of up to `size` completions each, on the device of the rollouts."""
        rows = torch.arange(len(self.rollouts), device=self.rollouts.completion_ids.device)
        return [part for part in rows.split(size) if len(part)]


def draw_masks(update: Update, seed: int, step: int, num_iterations: int) -> None:
    """Draws the masks of all iterations, then old and reference logps on them, before any weight changes."""
    algorithm = update.algorithm
    masks = [iteration_masks(update, seed, step, iteration) for iteration in range(num_iterations)]
    old = ref = [None] * num_iterations
    if algorithm.needs_old_logps:
        old = [fixed_logps(update, m) for m in masks]
    if algorithm.needs_ref_logps:  # the model below its adapters (config.check asks for them)
        with update.policy.model.disable_adapter():
            ref = [fixed_logps(update, m) for m in masks]
    update.iterations = [
        (m, replace(update.batch, old_logps=o, ref_logps=r)) for m, o, r in zip(masks, old, ref, strict=True)
    ]


def iteration_masks(update: Update, seed: int, step: int, iteration: int) -> Masks:
    """The masks of one iteration, drawn from streams keyed by problem and generation, not by place."""

    def stream(row: int, mask: int) -> np.random.Generator:
        problem, generation = int(update.index[row]), int(update.generation[row])
        return numpy_generator(seed, "masks", step, problem, generation, iteration, mask)

    return update.algorithm.make_masking().draw(update.rollouts, stream)


def fixed_logps(update: Update, masks: Masks) -> Tensor:
    """(B, M, T) logps of the model as it stands, without a graph, a few rows at a time."""
    policy, parts = update.policy, [torch.zeros(0, *masks.scored.shape[1:], device=masks.scored.device)]
    for rows in update.micro_batches(update.per_device_batch_size):
        parts.append(token_logps(policy.model, *select(update.rollouts, masks, rows), policy.mask_id))
    return torch.cat(parts)


def select(rollouts: Rollouts, masks: Masks, rows: Tensor) -> tuple[Rollouts, Masks]:
    """Some completions, without the prompt columns that are padding in all of them."""
    rollouts, masks = rollouts.select(rows), masks.select(rows)
    cut = rollouts.prompt_mask.shape[1] - int(rollouts.prompt_mask.sum(-1).max())
    prompt = {name: getattr(rollouts, name)[:, cut:] for name in ("prompt_ids", "prompt_mask")}
    return replace(rollouts, **prompt), replace(masks, masked=masks.masked[:, :, cut:])


def gradient(update: Update, iteration: int) -> dict[str, float]:
    """Adds this process's gradient of the loss to `.grad`; returns the metrics, loss included, as its share of sums."""
    policy, algorithm, sums = update.policy, update.algorithm, {}
    all_masks, batch = update.iterations[iteration]
    size, masks_at_once = micro_batch_size(update.per_device_batch_size, algorithm.num_masks)
    for rows in update.micro_batches(size):
        rollouts, masks = select(update.rollouts, all_masks, rows)
        loss_fn = partial(algorithm.loss, masks=masks, batch=batch.select(rows))
        loss = accumulate(
            policy.model, rollouts, masks, loss_fn, masks_at_once=masks_at_once, mask_id=policy.mask_id
        )
        for name, value in {"loss": loss.loss, **loss.metrics}.items():
            sums[name] = sums.get(name, 0.0) + value.double()
    return {name: float(value) for name, value in sums.items()}
