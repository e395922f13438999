"""The gradient of one update: masks, logps and loss over this process's completions, a micro-batch at a time."""

from collections.abc import Callable
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
    advantages: Tensor
    """(B,) float64."""
    totals: dict[str, float]
    """Over all processes and every completion, skipped ones included."""
    per_device_batch_size: int
    masks: list[Masks] = field(default_factory=list)
    """One per iteration."""
    old_logps: list[Tensor | None] = field(default_factory=list)
    ref_logps: list[Tensor | None] = field(default_factory=list)

    def micro_batches(self, size: int) -> list[Tensor]:
        """Row numbers (b,) int64 of up to `size` completions each, on the device of the rollouts."""
        count = len(self.rollouts)
        rows = torch.arange(count, device=self.rollouts.completion_ids.device)
        return list(rows.split(size)) if count else []


def mask_streams(
    seed: int, step: int, iteration: int, index: np.ndarray, generation: np.ndarray
) -> Callable[[int, int], np.random.Generator]:
    """The streams masks are drawn from: `streams(row, mask)`, keyed by problem and generation, not by place."""

    def stream(row: int, mask: int) -> np.random.Generator:
        return numpy_generator(seed, "masks", step, int(index[row]), int(generation[row]), iteration, mask)

    return stream


def draw_masks(update: Update, seed: int, step: int, num_iterations: int) -> None:
    """Draws the masks of all iterations, then old and reference logps on them, before any weight changes."""
    algorithm, masking = update.algorithm, update.algorithm.make_masking()
    for iteration in range(num_iterations):
        streams = mask_streams(seed, step, iteration, update.index, update.generation)
        update.masks.append(masking.draw(update.rollouts, streams))
    update.old_logps = update.ref_logps = [None] * num_iterations
    if algorithm.needs_old_logps:
        update.old_logps = [fixed_logps(update, masks) for masks in update.masks]
    if algorithm.needs_ref_logps:  # the model below its adapters (settings.check asks for them)
        with update.policy.model.disable_adapter():
            update.ref_logps = [fixed_logps(update, masks) for masks in update.masks]


def fixed_logps(update: Update, masks: Masks) -> Tensor:
    """(B, M, T) logps of the model as it stands, without a graph, a few rows at a time."""
    policy, parts = update.policy, [torch.zeros(0, *masks.scored.shape[1:], device=masks.scored.device)]
    for rows in update.micro_batches(update.per_device_batch_size):
        chosen = without_common_padding(update.rollouts.select(rows), masks.select(rows))
        parts.append(token_logps(policy.model, *chosen, policy.mask_id))
    return torch.cat(parts)


def without_common_padding(rollouts: Rollouts, masks: Masks) -> tuple[Rollouts, Masks]:
    """The same completions without the prompt columns that are padding in all of them."""
    width = rollouts.prompt_mask.shape[1]
    cut = width - int(rollouts.prompt_mask.sum(-1).max())
    if cut == 0:
        return rollouts, masks
    prompt = {name: getattr(rollouts, name)[:, cut:] for name in ("prompt_ids", "prompt_mask")}
    return replace(rollouts, **prompt), replace(masks, masked=masks.masked[:, :, cut:])


def gradient(update: Update, iteration: int) -> dict[str, float]:
    """Adds this process's gradient of the loss to `.grad`; returns the metrics, loss included, as its share of sums."""
    policy, algorithm, sums = update.policy, update.algorithm, {}
    old, ref = update.old_logps[iteration], update.ref_logps[iteration]
    size, masks_at_once = micro_batch_size(update.per_device_batch_size, algorithm.num_masks)
    for rows in update.micro_batches(size):
        batch = Batch(
            completion_mask=update.rollouts.completion_mask[rows],
            advantages=update.advantages[rows],
            totals=update.totals,
            old_logps=None if old is None else old[rows],
            ref_logps=None if ref is None else ref[rows],
        )
        rollouts, masks = without_common_padding(
            update.rollouts.select(rows), update.masks[iteration].select(rows)
        )
        loss_fn = partial(algorithm.loss, masks=masks, batch=batch)
        loss = accumulate(
            policy.model, rollouts, masks, loss_fn, masks_at_once=masks_at_once, mask_id=policy.mask_id
        )
        for name, value in {"loss": loss.loss, **loss.metrics}.items():
            sums[name] = sums.get(name, 0.0) + value.double()
    return {name: float(value) for name, value in sums.items()}
