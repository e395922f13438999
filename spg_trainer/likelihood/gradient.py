"""The gradient of any loss of logps, in memory that does not grow with the number of masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spg_trainer.batch import Rollouts
from spg_trainer.likelihood.logps import Copies, Forward, Scorer, head_gradient, result_dtype
from spg_trainer.likelihood.masks import Masks
from spg_trainer.seeding import gpus

if TYPE_CHECKING:
    from spg_trainer.algorithms.base import Loss


def accumulate(
    model: nn.Module,
    rollouts: Rollouts,
    masks: Masks,
    loss_fn: Callable[[Tensor], Loss],
    *,
    mask_id: int,
    masks_at_once: int,
    separable: bool = False,
) -> Loss:
    """Adds the gradient of `loss_fn(logps)` to `.grad` and returns the loss and its metrics, both detached.

    loss_fn: from logps (B, M, T), zero where not scored. mask_id: the model's [MASK] token. masks_at_once: how many of
    the M masks may hold a graph at once, >= 1; where all do, every masked copy goes through the model once. separable:
    whether the loss is a sum of terms that depend on one mask each.

    Where not all masks fit, the others are first scored without a graph. The loss then yields one coefficient per
    scored token, which is all that the backward pass of a copy needs: first of the masks that hold a graph, then of the
    others, which go through the model once more, `masks_at_once` at a time. Copies without a coefficient do not. In a
    separable loss a mask's coefficients do not wait for other masks, so that every copy goes through the model once.
    """
    scorer = Scorer(model, rollouts, masks, mask_id)
    passes = scorer.passes(masks_at_once)
    if not passes:  # nothing is scored
        return _coefficients(loss_fn, scorer.logps)[0]
    *early, last = passes
    replayed = []
    for copies in early:
        if separable:
            out, normalisers = scorer.score(copies)
            coefficients = _coefficients(loss_fn, scorer.logps)[1]
            if coefficients is not None:
                _backward(scorer, out, normalisers, coefficients[copies])
            del out, normalisers
            continue
        replayed.append((copies, _random_state(model)))
        with torch.no_grad():
            scorer.score(copies)
    out, normalisers = scorer.score(last)

    result, coefficients = _coefficients(loss_fn, scorer.logps)
    if coefficients is not None:
        _backward(scorer, out, normalisers, coefficients[last])
        del out, normalisers
        for copies, random_state in replayed:
            _replay(scorer, copies, coefficients, random_state)
    return result


def _coefficients(loss_fn: Callable[[Tensor], Loss], logps: Tensor) -> tuple[Loss, Tensor | None]:
    """The loss, detached, and its gradient in the logps; None if it ignores them."""
    logps = logps.detach().requires_grad_()
    result, coefficients = loss_fn(logps), None
    if result.loss.requires_grad:
        (coefficients,) = torch.autograd.grad(result.loss, logps)
    metrics = {name: metric._replace(total=metric.total.detach()) for name, metric in result.metrics.items()}
    return replace(result, loss=result.loss.detach(), metrics=metrics), coefficients


def _replay(scorer: Scorer, copies: Copies, coefficients: Tensor, random_state: list[Tensor] | None) -> None:
    """Sends copies through the model once more, now with a graph, and through the head once."""
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
        out = scorer.forward(copies)
    _backward(scorer, out, None, coefficients[copies])


def _backward(scorer: Scorer, out: Forward, normalisers: Tensor | None, coefficients: Tensor) -> None:
    """Adds the gradient of `sum(coefficients * logps)`; normalisers: (n,) if known, coefficients: (S, T)."""
    weight, buffer = scorer.weight, None
    # Chunks may be summed in place in these dtypes.
    in_place = weight.is_leaf and weight.requires_grad and weight.dtype in (torch.float32, torch.float64)
    if in_place:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        buffer = weight.grad
    elif weight.requires_grad:
        buffer = torch.zeros_like(weight, dtype=result_dtype(weight))
    chosen = coefficients[out.scored]
    gradient = head_gradient(out.states, weight, out.targets, chosen, scorer.chunk_rows, normalisers, buffer)
    roots = [(out.states, gradient)] if out.states.requires_grad else []
    if buffer is not None and not in_place:
        roots.append((weight, buffer.to(weight.dtype)))
    if roots:
        torch.autograd.backward(*zip(*roots, strict=True))


def _random_state(model: nn.Module) -> list[Tensor] | None:
    """The global generators' states (CPU, then the model's GPU) where dropout acts; None where nothing is drawn."""
    for module in model.modules():
        rate = module.p if isinstance(module, nn.Dropout) else getattr(module, "attention_dropout", 0.0)
        if module.training and rate:
            device = next(model.parameters()).device
            gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
            return [torch.get_rng_state(), *gpu]
    return None
