"""Losses of algorithms against plain autograd of their published formulas, one unpadded completion at a time."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from spg_trainer.algorithms import Algorithm, Loss
from spg_trainer.batch import Batch, Rollouts
from spg_trainer.likelihood import Masks, accumulate
from tests.common.likelihood_cases import (
    make_rollouts,
    naive_logps,
    relative,
    seeded,
    tiny_model,
    whole_gradient,
)

MASK = 257
LENGTHS, SIZE, PROMPTS = [9, 4, 1, 7], 9, [4, 2, 3, 1]
ADVANTAGES = [0.75, -0.25, 0.4, -0.7]


@dataclass(frozen=True)
class Row:
    """A completion of n tokens as a formula sees it: logps (M, n), current ones with a graph, and what was drawn."""

    logps: Tensor
    old: Tensor
    """Those of `logps`, detached, where the weights have not moved."""
    ref: Tensor
    scored: Tensor
    """(M, n) bool."""
    weight: Tensor
    """(M, n)."""
    advantage: float
    length: int
    completions: float
    index: int


def make_batch(mask: Tensor, advantages: list[float] = ADVANTAGES, completions: float = 8, **more) -> Batch:
    """A batch of an update that holds more completions than those at hand."""
    totals = {"completions": float(completions), "tokens": 50.0}
    return Batch(mask, torch.tensor(advantages, dtype=torch.float64), totals, **more)


def moved(model: nn.Module, seed: int, size: float) -> nn.Module:
    """A copy of tiny_model with weights that differ by a share of `size`."""
    other = tiny_model()
    other.load_state_dict(model.state_dict())
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1 + size * torch.randn(weight.shape, generator=stream, dtype=weight.dtype))
    return other


def with_old(algorithm: Algorithm, masks: Masks, batch: Batch, logps: Tensor) -> Loss:
    """The loss as the trainer asks for it: in a step's first update, the old logps are the current ones."""
    if algorithm.needs_old_logps and batch.old_logps is None:
        batch = replace(batch, old_logps=logps.detach())
    return algorithm.loss(logps, masks, batch)


def alone(rollouts: Rollouts, masks: Masks, row: int) -> tuple[Rollouts, Masks]:
    """One completion whose prompt has no padding."""
    one = torch.tensor([row])
    rollouts, masks = rollouts.select(one), masks.select(one)
    cut = rollouts.prompt_mask.shape[1] - int(rollouts.prompt_mask.sum())
    return rollouts.trim(), replace(masks, masked=masks.masked[:, :, cut:])


def largest_error(
    algorithm: Algorithm,
    formula: Callable[[Row], Tensor],
    *,
    off_policy: float = 0.0,
    advantages: list[float] = ADVANTAGES,
    prepared: dict[str, Tensor] | None = None,
) -> float:
    """Relative error of loss and gradient, in all ways of splitting rows and masks, to the sum of `formula` over rows.

    off_policy: how far the model that sampled lies from the current one; 0 = they are the same.
    """
    model = tiny_model()
    old_model, ref_model = moved(model, 1, off_policy), moved(model, 2, 0.003)
    rollouts = make_rollouts(LENGTHS, SIZE, PROMPTS)
    if algorithm.score_tail:
        rollouts = rollouts.count_tail(3)
    masks = algorithm.make_masking().draw(rollouts, seeded(3))
    batch = make_batch(rollouts.completion_mask, advantages, prepared=prepared or {})

    model.zero_grad(set_to_none=True)
    total = torch.zeros((), dtype=torch.float64)
    for row in range(len(rollouts)):
        one, its = alone(rollouts, masks, row)
        n = int(one.completion_mask.sum())
        logps = naive_logps(model, one, its, MASK)[0, :, :n]
        with torch.no_grad():
            old, ref = (naive_logps(other, one, its, MASK)[0, :, :n] for other in (old_model, ref_model))
        old = old if off_policy else logps.detach()
        drawn = (its.scored[0, :, :n], its.weight[0, :, :n])
        total = total + formula(Row(logps, old, ref, *drawn, advantages[row], n, 8.0, row))
    total.backward()
    expected = whole_gradient(model)

    with torch.no_grad():
        if off_policy:
            batch = replace(batch, old_logps=naive_logps(old_model, rollouts, masks, MASK))
        if algorithm.needs_ref_logps:
            batch = replace(batch, ref_logps=naive_logps(ref_model, rollouts, masks, MASK))
    errors = []
    for rows in (1, 3):
        for masks_at_once in (1, masks.scored.shape[1]):
            model.zero_grad(set_to_none=True)
            loss = torch.zeros((), dtype=torch.float64)
            for part in torch.arange(len(rollouts)).split(rows):
                some = masks.select(part)
                loss_fn = partial(with_old, algorithm, some, batch.select(part))
                options = {"mask_id": MASK, "masks_at_once": masks_at_once, "separable": algorithm.separable}
                loss = loss + accumulate(model, rollouts.select(part), some, loss_fn, **options).loss
            errors += [relative(whole_gradient(model), expected)]
            errors += [abs(float(loss - total.detach())) / abs(float(total.detach()))]
    return max(errors)


def logps_gradient(algorithm: Algorithm, masks: Masks, batch: Batch, logps: Tensor) -> tuple[Loss, Tensor]:
    """The loss, and its gradient in the logps."""
    logps = logps.detach().requires_grad_()
    loss = with_old(algorithm, masks, batch, logps)
    (gradient,) = torch.autograd.grad(loss.loss, logps)
    return replace(loss, loss=loss.loss.detach()), gradient


def surrogate(log_ratio: Tensor, advantage: float, low: float, high: float, held: list[bool]) -> Tensor:
    """PPO's clipped objective; notes whether the clip took the gradient away."""
    ratio = torch.exp(log_ratio)
    value = float(ratio.detach())
    clipped = min(max(value, 1 - low), 1 + high)
    held.append(clipped * advantage < value * advantage)
    return clipped * advantage * torch.ones_like(ratio) if held[-1] else ratio * advantage


def two_tokens(count: int = 1) -> Masks:
    """`count` completions of two tokens, with one mask that scores both at weight 1."""
    both = torch.ones(count, 1, 2, dtype=torch.bool)
    return Masks(both, both, both.double(), torch.ones(count, dtype=torch.float64), both[:, 0])
