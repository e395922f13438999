"""The gradient of any loss of logps, in memory that does not grow with the number of masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spg_trainer.batch import Rollouts
from spg_trainer.likelihood.logps import Forward, Scorer, head_gradient, result_dtype
from spg_trainer.likelihood.masks import Masks

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
    chunk_rows: int | None = None,
) -> Loss:
    """Adds the gradient of `loss_fn(logps)` to `.grad` and returns the loss and its metrics, both detached.

    loss_fn: from logps (B, M, T), zero where not scored. mask_id: the model's [MASK] token. masks_at_once: how
    many of the M masks may hold a graph at once, >= 1; where all do, every masked copy goes through the model
    once. chunk_rows: positions whose logits exist at once (None: as many as make 128 MB).

    Otherwise the masks that do not fit are first scored without a graph. The loss then yields one
    coefficient per scored token, which is all that the backward pass of a copy needs: first of the masks
    that hold a graph, then of the others, which go through the model once more, `masks_at_once` at a time.
    Copies without a coefficient do not.
    """
    scorer = Scorer(model, rollouts, masks, mask_id, chunk_rows)
    num_masks = masks.scored.shape[1]
    early = max(num_masks - masks_at_once, 0)
    starts = range(0, early, masks_at_once)
    replayed = [scorer.copies(start, min(start + masks_at_once, early)) for start in starts]
    random_states, logps = [], scorer.empty_logps()
    for copies in replayed:
        random_states.append(_random_state(model))
        with torch.no_grad():
            scorer.score(copies, logps)
    last = scorer.copies(early, num_masks)
    out, normalisers = scorer.score(last, logps)

    leaf = logps.requires_grad_()
    result = loss_fn(leaf)
    if result.loss.requires_grad:
        (coefficients,) = torch.autograd.grad(result.loss, leaf)
        _backward(scorer, out, coefficients[scorer.index(last)], normalisers)
        del out, normalisers
        for copies, random_state in zip(replayed, random_states, strict=True):
            _replay(scorer, copies, coefficients, random_state)
    metrics = {name: value.detach() for name, value in result.metrics.items()}
    return replace(result, loss=result.loss.detach(), metrics=metrics)


def _replay(scorer: Scorer, copies: Tensor, coefficients: Tensor, random_state: list[Tensor] | None) -> None:
    """Sends copies through the model once more, now with a graph, and through the head once."""
    needed = (coefficients[scorer.index(copies)] != 0).any(-1)
    if not needed.any():
        return
    if random_state is None:  # dropout would fall differently on fewer copies
        copies = copies[needed]
    with _replayed(scorer.model, random_state):
        out = scorer.forward(copies)
    _backward(scorer, out, coefficients[scorer.index(copies)])


def _backward(scorer: Scorer, out: Forward, coefficients: Tensor, normalisers: Tensor | None = None) -> None:
    """Adds the gradient of `sum(coefficients * logps)`; coefficients: (S, T)."""
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
            return [torch.get_rng_state(), *(torch.cuda.get_rng_state(gpu) for gpu in _gpus(model))]
    return None


def _gpus(model: nn.Module) -> list[torch.device]:
    """The GPU that the model draws from; none on a CPU."""
    device = next(model.parameters()).device
    return [device] if device.type == "cuda" else []


@contextmanager
def _replayed(model: nn.Module, state: list[Tensor] | None) -> Iterator[None]:
    """Runs the block under an earlier state of the global generators, then puts them back."""
    if state is None:
        yield
        return
    gpus = _gpus(model)
    with torch.random.fork_rng(devices=gpus):
        torch.set_rng_state(state[0])
        for gpu, gpu_state in zip(gpus, state[1:], strict=True):
            torch.cuda.set_rng_state(gpu_state, gpu)
        yield
