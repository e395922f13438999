"""The gradient of any loss of logps, in memory that does not grow with the number of masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spg_trainer.batch import Rollouts
from spg_trainer.likelihood.head import (
    default_chunk_rows,
    head_gradient,
    head_logps,
    weight_gradient_buffer,
)
from spg_trainer.likelihood.logps import Sequences, scored_states, sequences
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
    live: int,
    chunk_rows: int | None = None,
) -> Loss:
    """Adds the gradient of `loss_fn(logps)` to `.grad` and returns the loss and its metrics, both detached.

    loss_fn: from logps (B, M, T), zero where not scored. mask_id: the model's [MASK] token. live: how many
    of the M masks may hold a graph at once, >= 1; where all do, every masked copy goes through the model
    once. chunk_rows: positions whose logits exist at once (None: as many as make 128 MB).

    Otherwise the masks that do not fit are first scored without a graph. The loss then yields one
    coefficient per scored token, which is all that the backward pass of a copy needs: first of the masks
    that hold a graph, then of the others, which go through the model once more, `live` at a time. Copies
    without a coefficient do not.
    """
    worker = _Worker(model, rollouts, masks, mask_id, chunk_rows)
    num_masks = masks.scored.shape[1]
    early = max(num_masks - live, 0)
    replayed = [worker.copies(start, min(start + live, early)) for start in range(0, early, live)]
    random_states = []
    logps = worker.empty_logps()
    for part in replayed:
        random_states.append(_random_state(model))
        with torch.no_grad():
            worker.score(part, logps)
    held = worker.copies(early, num_masks)
    batch, hidden, normalisers = worker.score(held, logps)

    leaf = logps.requires_grad_()
    result = loss_fn(leaf)
    if result.loss.requires_grad:
        (coefficients,) = torch.autograd.grad(result.loss, leaf)
        worker.backward(batch, hidden, worker.pick(coefficients, held), normalisers)
        del batch, hidden, normalisers
        for part, state in zip(replayed, random_states, strict=True):
            worker.replay(part, coefficients, state)
    metrics = {name: value.detach() for name, value in result.metrics.items()}
    return replace(result, loss=result.loss.detach(), metrics=metrics)


class _Worker:
    """One model and the masked copies it scores, numbered mask by mask: row + B * mask."""

    def __init__(
        self, model: nn.Module, rollouts: Rollouts, masks: Masks, mask_id: int, chunk_rows: int | None
    ) -> None:
        from spg_trainer.models.load import head_weight

        self.model, self.rollouts, self.masks, self.mask_id = model, rollouts, masks, mask_id
        self.weight = head_weight(model)
        self.chunk_rows = chunk_rows or default_chunk_rows(self.weight.shape[0])

    def empty_logps(self) -> Tensor:
        dtype = torch.float64 if self.weight.dtype == torch.float64 else torch.float32
        return torch.zeros(self.masks.scored.shape, dtype=dtype, device=self.masks.scored.device)

    def copies(self, start: int, stop: int) -> Tensor:
        """The copies of masks start..stop-1."""
        count = len(self.rollouts)
        return torch.arange(start * count, stop * count, device=self.masks.scored.device)

    def rows_and_samples(self, copies: Tensor) -> tuple[Tensor, Tensor]:
        return copies % len(self.rollouts), copies // len(self.rollouts)

    def pick(self, values: Tensor, copies: Tensor) -> Tensor:
        """(S, T) entries of (B, M, T) values for these copies."""
        return values[self.rows_and_samples(copies)]

    def score(self, copies: Tensor, logps: Tensor) -> tuple[Sequences, Tensor, Tensor]:
        """Writes the copies' logps; returns what a backward pass needs: sequences, states and log-normalisers."""
        rows, samples = self.rows_and_samples(copies)
        batch = sequences(self.rollouts, self.masks, rows, samples, self.mask_id)
        hidden = scored_states(self.model, batch)
        values, normalisers = head_logps(hidden, self.weight, batch.targets, self.chunk_rows)
        logps[rows, samples] = logps.new_zeros(batch.scored.shape).masked_scatter_(batch.scored, values)
        return batch, hidden, normalisers

    def replay(self, copies: Tensor, coefficients: Tensor, random_state: list[Tensor] | None) -> None:
        """Sends copies through the model once more, now with a graph, and through the head once."""
        needed = (self.pick(coefficients, copies) != 0).any(-1)
        if not needed.any():
            return
        if random_state is None:  # dropout would fall differently on fewer copies
            copies = copies[needed]
        rows, samples = self.rows_and_samples(copies)
        batch = sequences(self.rollouts, self.masks, rows, samples, self.mask_id)
        with _replayed(self.model, random_state):
            hidden = scored_states(self.model, batch)
        self.backward(batch, hidden, self.pick(coefficients, copies))

    def backward(
        self, batch: Sequences, hidden: Tensor, coefficients: Tensor, normalisers: Tensor | None = None
    ) -> None:
        """Adds the gradient of `sum(coefficients * logps)`; coefficients: (S, T)."""
        chosen = coefficients[batch.scored]
        direct = self.weight.is_leaf and self.weight.requires_grad and self.weight.dtype in _SUMMABLE
        if direct and self.weight.grad is None:
            self.weight.grad = torch.zeros_like(self.weight)
        buffer = None
        if direct:
            buffer = self.weight.grad
        elif self.weight.requires_grad:
            buffer = weight_gradient_buffer(self.weight)
        gradient = head_gradient(
            hidden, self.weight, batch.targets, chosen, self.chunk_rows, normalisers, buffer
        )
        roots = [(hidden, gradient)] if hidden.requires_grad else []
        if buffer is not None and not direct:
            roots.append((self.weight, buffer.to(self.weight.dtype)))
        if roots:
            torch.autograd.backward(*zip(*roots, strict=True))


_SUMMABLE = (torch.float32, torch.float64)
"""Dtypes in which chunks of the head's gradient may be summed in place."""


def _random_state(model: nn.Module) -> list[Tensor] | None:
    """The global generators' states (CPU, then the model's GPU) where dropout acts; None where nothing is drawn."""
    for module in model.modules():
        rate = module.p if isinstance(module, nn.Dropout) else getattr(module, "attention_dropout", 0.0)
        if module.training and rate:
            device = _cuda_device(model)
            return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device else [])]
    return None


def _cuda_device(model: nn.Module) -> torch.device | None:
    """The GPU that the model draws from; None on a CPU."""
    device = next(model.parameters()).device
    return device if device.type == "cuda" else None


@contextmanager
def _replayed(model: nn.Module, state: list[Tensor] | None) -> Iterator[None]:
    """Runs the block under an earlier state of the global generators, then puts them back."""
    if state is None:
        yield
        return
    device = _cuda_device(model)
    with torch.random.fork_rng(devices=[device] if device else []):
        torch.set_rng_state(state[0])
        if device:
            torch.cuda.set_rng_state(state[1], device)
        yield
