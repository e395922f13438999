"""Losses and gradients of algorithms against plain autograd of their formulas, on single sequences without padding."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from spg_trainer.algorithms import Algorithm
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
ADVANTAGES = [0.75, -0.25, 0.0, -0.9]
TOTALS = {"completions": 8.0, "tokens": 50.0}

Formula = Callable[[Tensor, Masks, Batch], Tensor]
"""(logps (1, M, T), masks, batch) of one completion -> its part of the loss."""


def make_batch(rollouts: Rollouts, advantages: list[float] | None = None, **more: object) -> Batch:
    """The rollouts as a part of a larger update."""
    given = torch.tensor(ADVANTAGES if advantages is None else advantages, dtype=torch.float64)
    return Batch(rollouts.completion_mask, given, TOTALS, **more)


def alone(rollouts: Rollouts, masks: Masks, row: int) -> tuple[Rollouts, Masks]:
    """One completion without the padding of its prompt."""
    one = torch.tensor([row])
    single, some = rollouts.select(one).trim(), masks.select(one)
    cut = rollouts.prompt_ids.shape[1] - single.prompt_ids.shape[1]
    return single, replace(some, masked=some.masked[:, :, cut:])


def moved(logps: Tensor, masks: Masks, spread: float, seed: int) -> Tensor:
    """Log-probabilities as of another model, where scored."""
    noise = torch.randn(logps.shape, generator=torch.Generator().manual_seed(seed), dtype=logps.dtype)
    return (logps.detach() + spread * noise) * masks.scored


def gradient_error(
    algorithm: Algorithm,
    formula: Formula,
    *,
    spread: float = 0.0,
    advantages: list[float] | None = None,
    **prepared: Tensor,
) -> float:
    """The greatest relative error of loss or gradient, with one mask at a time and all, in parts of 1, 3 and all.

    spread: how far the old logps are from the current ones (0 = equal); the reference is twice as far.
    """
    model, rollouts = tiny_model(), make_rollouts(LENGTHS, SIZE, PROMPTS)
    masks = algorithm.make_masking().draw(rollouts, seeded(algorithm.num_masks))
    logps = naive_logps(model, rollouts, masks, MASK)
    old, reference = moved(logps, masks, spread, 1), moved(logps, masks, 2 * spread or 0.3, 2)
    batch = make_batch(rollouts, advantages, old_logps=old, ref_logps=reference, prepared=prepared)
    expected = torch.zeros(())
    for row in range(len(rollouts)):
        single, some = alone(rollouts, masks, row)
        part = formula(naive_logps(model, single, some, MASK), some, batch.select(torch.tensor([row])))
        expected = expected + part
    model.zero_grad(set_to_none=True)
    expected.backward()
    direct, value = whole_gradient(model), float(expected.detach())
    assert float(direct.norm()) > 1e-6
    errors = []
    for live in {1, masks.scored.shape[1]}:
        for size in (1, 3, len(rollouts)):
            model.zero_grad(set_to_none=True)
            found = 0.0
            for rows in torch.arange(len(rollouts)).split(size):
                some = masks.select(rows)
                loss_fn = partial(algorithm.loss, masks=some, batch=batch.select(rows))
                part = accumulate(
                    model,
                    rollouts.select(rows),
                    some,
                    loss_fn,
                    mask_id=MASK,
                    masks_at_once=live,
                    separable=algorithm.separable,
                )
                found += float(part.loss)
            errors.append(relative(whole_gradient(model), direct))
            errors.append(abs(found - value) / abs(value))
    return max(errors)
