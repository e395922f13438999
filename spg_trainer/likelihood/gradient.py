"""The gradient of any loss of logps, in memory that does not grow with the number of masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spg_trainer.batch import Rollouts
from spg_trainer.likelihood.logps import (
    Sequences,
    default_chunk_rows,
    head_gradient,
    head_logps,
    result_dtype,
    scored_states,
    sequences,
    weight_gradient_buffer,
)
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
    scorer = _Scorer(model, rollouts, masks, mask_id, chunk_rows)
    num_masks = masks.scored.shape[1]
    early = max(num_masks - masks_at_once, 0)
    replayed = [
        scorer.copies(start, min(start + masks_at_once, early)) for start in range(0, early, masks_at_once)
    ]
    random_states = []
    logps = torch.zeros(masks.scored.shape, dtype=result_dtype(scorer.weight), device=masks.scored.device)
    for copies in replayed:
        random_states.append(_random_state(model))
        with torch.no_grad():
            scorer.score(copies, logps)
    last = scorer.copies(early, num_masks)
    batch, states, normalisers = scorer.score(last, logps)

    leaf = logps.requires_grad_()
    result = loss_fn(leaf)
    if result.loss.requires_grad:
        (coefficients,) = torch.autograd.grad(result.loss, leaf)
        scorer.backward(batch, states, coefficients[scorer.index(last)], normalisers)
        del batch, states, normalisers
        for copies, random_state in zip(replayed, random_states, strict=True):
            scorer.replay(copies, coefficients, random_state)
    metrics = {name: value.detach() for name, value in result.metrics.items()}
    return replace(result, loss=result.loss.detach(), metrics=metrics)


class _Scorer:
    """One model and the masked copies it scores, numbered mask by mask: row + B * mask."""

    def __init__(
        self, model: nn.Module, rollouts: Rollouts, masks: Masks, mask_id: int, chunk_rows: int | None
    ) -> None:
        from spg_trainer.models.load import head_weight

        self.model, self.rollouts, self.masks, self.mask_id = model, rollouts, masks, mask_id
        self.weight = head_weight(model)
        self.chunk_rows = chunk_rows or default_chunk_rows(self.weight.shape[0])

    def copies(self, start: int, stop: int) -> Tensor:
        """The copies of masks start..stop-1."""
        count = len(self.rollouts)
        return torch.arange(start * count, stop * count, device=self.masks.scored.device)

    def index(self, copies: Tensor) -> tuple[Tensor, Tensor]:
        """Row and mask of each copy."""
        return copies % len(self.rollouts), copies // len(self.rollouts)

    def score(self, copies: Tensor, logps: Tensor) -> tuple[Sequences, Tensor, Tensor]:
        """Writes the copies' logps; returns what a backward pass needs: sequences, states and log-normalisers."""
        batch = sequences(self.rollouts, self.masks, *self.index(copies), self.mask_id)
        states = scored_states(self.model, batch)
        values, normalisers = head_logps(states, self.weight, batch.targets, self.chunk_rows)
        scattered = logps.new_zeros(batch.scored.shape).masked_scatter_(batch.scored, values)
        logps[self.index(copies)] = scattered
        return batch, states, normalisers

    def replay(self, copies: Tensor, coefficients: Tensor, random_state: list[Tensor] | None) -> None:
        """Sends copies through the model once more, now with a graph, and through the head once."""
        needed = (coefficients[self.index(copies)] != 0).any(-1)
        if not needed.any():
            return
        if random_state is None:  # dropout would fall differently on fewer copies
            copies = copies[needed]
        batch = sequences(self.rollouts, self.masks, *self.index(copies), self.mask_id)
        with _replayed(self.model, random_state):
            states = scored_states(self.model, batch)
        self.backward(batch, states, coefficients[self.index(copies)])

    def backward(
        self, batch: Sequences, states: Tensor, coefficients: Tensor, normalisers: Tensor | None = None
    ) -> None:
        """Adds the gradient of `sum(coefficients * logps)`; coefficients: (S, T)."""
        weight, buffer = self.weight, None
        # Chunks may be summed in place in these dtypes.
        in_place = weight.is_leaf and weight.requires_grad and weight.dtype in (torch.float32, torch.float64)
        if in_place:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            buffer = weight.grad
        elif weight.requires_grad:
            buffer = weight_gradient_buffer(weight)
        chosen = coefficients[batch.scored]
        gradient = head_gradient(states, weight, batch.targets, chosen, self.chunk_rows, normalisers, buffer)
        roots = [(states, gradient)] if states.requires_grad else []
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
