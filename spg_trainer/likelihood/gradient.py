"""The gradient of any loss of logps, in memory that does not grow with the number of masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spg_trainer.likelihood.logps import (
    Chunk,
    Copies,
    Forward,
    Scorer,
    at,
    head_gradient,
    result_dtype,
    softmax_gradient,
)
from spg_trainer.seeding import gpus
from spg_trainer.tensors import Masks, Rollouts

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
    independent: bool = False,
    linear: Tensor | None = None,
) -> Loss:
    """Adds the gradient of `loss_fn(logps)` to `.grad` and returns the loss and its metrics, both detached.

    loss_fn: from logps (B, M, T), zero where not scored. mask_id: the model's [MASK] token. masks_at_once: B times so
    many masked copies may hold a graph at once, >= 1; where all do, every copy goes through the model once. What is
    known of the loss saves work: separable, that it is a sum of terms of one masked copy each; independent, of one
    completion each; linear: (B,) bool on the CPU, the completions in whose logps it has the same gradient whatever the
    logps are.

    Copies of linear completions go through the model once, as those of a separable loss do: their coefficients, one for
    each scored token, wait for no other copy. Where the others do not fit, all but the last pass of them are first
    scored without a graph. The loss then yields their coefficients, which are all that the backward pass of a copy
    needs: first of the copies that hold a graph, then of the others, which go through the model once more. Copies
    without a coefficient do not.
    """
    scorer = Scorer(model, rollouts, masks, mask_id, linear)
    objective = Objective(scorer, loss_fn, separable, independent)
    passes = scorer.passes(masks_at_once)
    once = sum(separable or scorer.are_linear(copies) for copies in passes)  # these come first
    replayed = []
    for number, copies in enumerate(passes):
        if once <= number < len(passes) - 1:
            replayed.append((copies, _random_state(model)))
            with torch.no_grad():
                scorer.score(copies)
        else:
            _score_and_send_back(scorer, copies, objective)
    result, coefficients = objective.evaluate()
    if coefficients is not None:
        for copies, random_state in replayed:
            _replay(scorer, copies, coefficients, random_state)
    return result


class Objective:
    """A loss of a scorer's logps and what is known of it; the arguments are those of `accumulate`."""

    def __init__(
        self, scorer: Scorer, loss_fn: Callable[[Tensor], Loss], separable: bool, independent: bool
    ) -> None:
        self.scorer, self.loss_fn = scorer, loss_fn
        self.enough = {"pass"}
        """What a chunk must hold as a whole for its coefficients to wait for no other chunk of the pass."""
        if independent or separable:
            self.enough.add("completions")
        if separable:
            self.enough.add("copies")
        self.known = _coefficients(loss_fn, scorer.logps)[1] if scorer.linear.any() else None
        """(B, M, T) coefficients, right for linear completions."""
        self.latest: tuple[int, tuple[Loss, Tensor | None]] | None = None

    def evaluate(self) -> tuple[Loss, Tensor | None]:
        """The loss of the logps written so far, detached, and its coefficients (B, M, T); None if it ignores them."""
        if self.latest is None or self.latest[0] != self.scorer.written:
            self.latest = self.scorer.written, _coefficients(self.loss_fn, self.scorer.logps)
        return self.latest[1]

    def follows(self, chunk: Chunk) -> bool:
        """Whether the coefficients of a chunk are known as soon as it is scored, after all passes before its own."""
        return chunk.linear or chunk.holds in self.enough

    def coefficients(self, chunk: Chunk) -> Tensor | None:
        """(B, M, T), right for the chunk; None if the loss ignores the logps."""
        return self.known if chunk.linear else self.evaluate()[1]


def _coefficients(loss_fn: Callable[[Tensor], Loss], logps: Tensor) -> tuple[Loss, Tensor | None]:
    """The loss, detached, and its gradient in the logps; None if it ignores them."""
    logps = logps.detach().requires_grad_()
    result, coefficients = loss_fn(logps), None
    if result.loss.requires_grad:
        (coefficients,) = torch.autograd.grad(result.loss, logps)
    metrics = {name: metric._replace(total=metric.total.detach()) for name, metric in result.metrics.items()}
    return replace(result, loss=result.loss.detach(), metrics=metrics), coefficients


def _score_and_send_back(scorer: Scorer, copies: Copies, objective: Objective) -> None:
    """Sends copies through the model, writes their logps and adds the gradient of the loss in them."""
    out, head = scorer.forward(copies), HeadGradient(scorer.weight)
    if head.learns:
        gradient = _learning_head(out, scorer, objective, head)
    else:
        gradient = _frozen_head(out, scorer, objective)
    if gradient is not None:
        head.send_back(out.states, gradient)


def _frozen_head(out: Forward, scorer: Scorer, objective: Objective) -> Tensor | None:
    """The gradient (n, D) in the states, None if there is none: coefficients times what waits for none of them."""
    gradient, chunks = torch.empty_like(out.states), scorer.chunks(out)
    for chunk in chunks:
        states, targets, part = scorer.softmax(out, chunk)
        scorer.write(out, chunk, part)
        ones = torch.ones_like(part.logps)
        gradient[chunk.positions] = softmax_gradient(*part[:2], states, scorer.weight, targets, ones, None)
        del part  # its logits would be alive beside those of the next chunk
    for chunk in chunks:
        coefficients = objective.coefficients(chunk)
        if coefficients is None:
            return None
        gradient[chunk.positions] *= coefficients[at(out, chunk)][:, None].to(gradient.dtype)
    return gradient


def _learning_head(out: Forward, scorer: Scorer, objective: Objective, head: HeadGradient) -> Tensor | None:
    """The same, and adds to `head`: from the logits at hand if their coefficients are known, else from new ones."""
    gradient, behind = torch.zeros_like(out.states), []
    for chunk in scorer.chunks(out):
        states, targets, part = scorer.softmax(out, chunk)
        scorer.write(out, chunk, part)
        if not objective.follows(chunk):
            behind.append((chunk, states, targets, part.normalisers))
        elif (coefficients := objective.coefficients(chunk)) is not None:
            chosen = coefficients[at(out, chunk)]
            gradient[chunk.positions] = softmax_gradient(
                *part[:2], states, scorer.weight, targets, chosen, head.sum()
            )
        del part
    for chunk, states, targets, normalisers in behind:
        if (coefficients := objective.coefficients(chunk)) is not None:
            chosen = coefficients[at(out, chunk)]
            gradient[chunk.positions] = head_gradient(
                states, scorer.weight, targets, chosen, scorer.chunk_rows, normalisers, head.sum()
            )
    return None if head.buffer is None else gradient


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
    head = HeadGradient(scorer.weight)
    chosen, size = coefficients[out.places], scorer.chunk_rows
    gradient = head_gradient(out.states.detach(), scorer.weight, out.targets, chosen, size, None, head.sum())
    head.send_back(out.states, gradient)


class HeadGradient:
    """Where the gradient with respect to the head's weight is summed, chunk by chunk."""

    def __init__(self, weight: Tensor) -> None:
        self.weight, self.learns = weight, weight.requires_grad
        # Chunks may be summed in place in these dtypes.
        self.in_place = weight.is_leaf and self.learns and weight.dtype in (torch.float32, torch.float64)
        self.buffer: Tensor | None = None

    def sum(self) -> Tensor | None:
        """(V, D) to add to, of zeros or `.grad` itself; None if the head does not learn."""
        weight = self.weight
        if self.in_place:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            self.buffer = weight.grad
        elif self.learns and self.buffer is None:
            self.buffer = torch.zeros_like(weight, dtype=result_dtype(weight))
        return self.buffer

    def send_back(self, states: Tensor, gradient: Tensor) -> None:
        """The backward pass from the states, with their gradient, and from a head that is no leaf, with its sum."""
        roots = [(states, gradient)] if states.requires_grad else []
        if self.buffer is not None and not self.in_place:
            roots.append((self.weight, self.buffer.to(self.weight.dtype)))
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
