"""The gradient of any loss of logps, the same as autograd's, in memory that does not grow with the number of masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spg_trainer.likelihood.logps import CopyIndex, nothing_scored, passes, score
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

    loss_fn: takes logps (B, M, T), zero where not scored; where the masks measure something, (B, M, 2T) as `score`
    returns. mask_id: the model's [MASK] token. masks_at_once: up to B times so many masked copies may hold a graph at
    once, >= 1. compares: as of an algorithm; with `copy`, the loss is a sum of terms of one masked copy each.

    Where all copies fit at once, each goes through the model once, forward and backward. Where they do not, they go in
    parts. If the loss compares no copies, each part goes backward as soon as it is scored. Otherwise all parts but the
    last are first scored without a graph; then the gradient of the loss in the logps is known, and the copies in which
    it is not zero go through the model once more, now with a graph, and backward.
    """
    parts = passes(masks, masks_at_once)
    logps = nothing_scored(model, masks)
    if compares == "copy" and len(parts) > 1:
        for copies in parts:
            with_graph = score(model, rollouts, masks, mask_id, copies)
            _, coefficients = _loss_and_gradient(loss_fn, with_graph)
            _send_back(with_graph, coefficients)
            logps = logps + with_graph.detach()
        result, _ = _loss_and_gradient(loss_fn, logps)
        return result
    scored_without_graph = []  # (copies, random state before they were scored)
    for copies in parts[:-1]:
        scored_without_graph.append((copies, _random_state(model)))
        with torch.no_grad():
            logps = logps + score(model, rollouts, masks, mask_id, copies)
    with_graph = score(model, rollouts, masks, mask_id, parts[-1]) if parts else logps
    all_logps = logps + with_graph if scored_without_graph else with_graph
    result, coefficients = _loss_and_gradient(loss_fn, all_logps)
    _send_back(with_graph, coefficients)
    del with_graph, all_logps  # else their graph would be in memory beside those of the other parts
    if coefficients is not None:
        for copies, random_state in scored_without_graph:
            _score_again(model, rollouts, masks, mask_id, copies, coefficients, random_state)
    return result


def _loss_and_gradient(loss_fn: Callable[[Tensor], Loss], logps: Tensor) -> tuple[Loss, Tensor | None]:
    """(loss, coefficients), both detached: the coefficients are the gradient of the loss in the logps.

    They are None if the loss does not depend on the logps.
    """
    logps = logps.detach().requires_grad_()
    result = loss_fn(logps)
    coefficients = None
    if result.loss.requires_grad:
        (coefficients,) = torch.autograd.grad(result.loss, logps)
    metrics = {name: metric._replace(total=metric.total.detach()) for name, metric in result.metrics.items()}
    return replace(result, loss=result.loss.detach(), metrics=metrics), coefficients


def _send_back(logps: Tensor, coefficients: Tensor | None) -> None:
    """The backward pass from the logps. There is none if nothing is scored or the model has no weight to train."""
    if coefficients is not None and logps.requires_grad:
        logps.backward(coefficients)


def _score_again(
    model: nn.Module,
    rollouts: Rollouts,
    masks: Masks,
    mask_id: int,
    copies: CopyIndex,
    coefficients: Tensor,
    random_state: list[Tensor] | None,
) -> None:
    """Sends copies through the model once more, now with a graph, and backward; those with coefficients 0 stay out.

    random_state: what `_random_state` returned before they went first, so that dropout drops the same units as then.
    None = no dropout acts. With dropout all copies go if any is needed, since in fewer of them it would drop others.
    """
    needed = (coefficients[copies] != 0).any(-1)  # (S,)
    if not needed.any():
        return
    if random_state is None:
        row, mask = copies
        copies = row[needed], mask[needed]
    device = needed.device
    with torch.random.fork_rng(gpus(device), enabled=random_state is not None):
        if random_state is not None:
            torch.set_rng_state(random_state[0])
            for gpu_state in random_state[1:]:
                torch.cuda.set_rng_state(gpu_state, device)
        logps = score(model, rollouts, masks, mask_id, copies)
    _send_back(logps, coefficients)


def _random_state(model: nn.Module) -> list[Tensor] | None:
    """The states of the global generators (CPU, then the model's GPU) if dropout acts; None if nothing is drawn."""
    for module in model.modules():
        rate = module.p if isinstance(module, nn.Dropout) else getattr(module, "attention_dropout", 0.0)
        if module.training and rate:
            device = next(model.parameters()).device
            gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
            return [torch.get_rng_state(), *gpu]
    return None
