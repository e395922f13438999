"""The gradient of any loss of logps, as autograd's, in memory that does not grow with the number of masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spg_trainer.likelihood.logps import Copies, nothing_scored, passes, score
from spg_trainer.seeding import gpus
from spg_trainer.tensors import Masks, Rollouts

if TYPE_CHECKING:
    from spg_trainer.algorithms.base import Compares, Loss


def accumulate(
    model: nn.Module,
    rollouts: Rollouts,
    masks: Masks,
    loss_fn: Callable[[Tensor], Loss],
    *,
    mask_id: int,
    masks_at_once: int,
    compares: Compares = "completion",
) -> Loss:
    """Adds the gradient of `loss_fn(logps)` to `.grad` and returns the loss and its metrics, both detached.

    loss_fn: from logps (B, M, T), zero where not scored, or from (B, M, 2T), as `score` gives them. mask_id: the
    model's [MASK] token. masks_at_once: B times so many masked copies may hold a graph at once, >= 1. compares: as of
    an algorithm; `copy` says that the loss is a sum of terms of one masked copy each.

    Where all copies fit at once, each goes through the model once. Where they do not, a loss that compares no copies is
    sent back part by part. For any other, all parts but the last are first scored without a graph; the loss then has
    its gradient in the logps, and the copies where it is not zero go through the model once more.
    """
    parts = passes(masks, masks_at_once)
    known = nothing_scored(model, masks)
    if compares == "copy" and len(parts) > 1:
        for copies in parts:
            live = score(model, rollouts, masks, mask_id, copies)
            _send_back(live, _loss_and_gradient(loss_fn, live)[1])
            known = known + live.detach()
        return _loss_and_gradient(loss_fn, known)[0]
    again = []
    for copies in parts[:-1]:
        again.append((copies, _random_state(model)))
        with torch.no_grad():
            known = known + score(model, rollouts, masks, mask_id, copies)
    live = score(model, rollouts, masks, mask_id, parts[-1]) if parts else known
    result, coefficients = _loss_and_gradient(loss_fn, known + live if again else live)
    _send_back(live, coefficients)
    del live  # its graph would be alive beside those of the others
    for copies, random_state in again if coefficients is not None else ():
        _score_again(model, rollouts, masks, mask_id, copies, coefficients, random_state)
    return result


def _loss_and_gradient(loss_fn: Callable[[Tensor], Loss], logps: Tensor) -> tuple[Loss, Tensor | None]:
    """The loss, detached, and its gradient in the logps; None if it ignores them."""
    logps = logps.detach().requires_grad_()
    result, coefficients = loss_fn(logps), None
    if result.loss.requires_grad:
        (coefficients,) = torch.autograd.grad(result.loss, logps)
    metrics = {name: metric._replace(total=metric.total.detach()) for name, metric in result.metrics.items()}
    return replace(result, loss=result.loss.detach(), metrics=metrics), coefficients


def _send_back(logps: Tensor, coefficients: Tensor | None) -> None:
    """The backward pass from the logps; there is none where nothing is scored, or the model has no weight to train."""
    if coefficients is not None and logps.requires_grad:
        logps.backward(coefficients)


def _score_again(
    model: nn.Module,
    rollouts: Rollouts,
    masks: Masks,
    mask_id: int,
    copies: Copies,
    coefficients: Tensor,
    random_state: list[Tensor] | None,
) -> None:
    """Sends copies through the model once more, now with a graph, and back; those without a coefficient need not go.

    random_state: of `_random_state` before they went first, so that dropout falls as it did; None = nothing is drawn.
    """
    needed = (coefficients[copies] != 0).any(-1)
    if not needed.any():
        return
    if random_state is None:  # dropout would fall differently on fewer copies
        copies = copies[0][needed], copies[1][needed]
    device = needed.device
    with torch.random.fork_rng(gpus(device), enabled=random_state is not None):
        if random_state is not None:
            torch.set_rng_state(random_state[0])
            for gpu_state in random_state[1:]:
                torch.cuda.set_rng_state(gpu_state, device)
        live = score(model, rollouts, masks, mask_id, copies)
    _send_back(live, coefficients)


def _random_state(model: nn.Module) -> list[Tensor] | None:
    """The global generators' states (CPU, then the model's GPU) where dropout acts; None where nothing is drawn."""
    for module in model.modules():
        rate = module.p if isinstance(module, nn.Dropout) else getattr(module, "attention_dropout", 0.0)
        if module.training and rate:
            device = next(model.parameters()).device
            gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
            return [torch.get_rng_state(), *gpu]
    return None
