"""Completions, streams and toy models that the likelihood and algorithm tests share."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spg_trainer.likelihood import MASKINGS, Masking, Masks, Streams
from spg_trainer.models import Policy
from spg_trainer.seeding import numpy_generator
from spg_trainer.tensors import Rows


def make_rollouts(
    lengths: Sequence[int],
    size: int,
    prompts: Sequence[int] | None = None,
    width: int = 4,
    seed: int = 0,
    tokens: int = 250,
    device: str = "cpu",
) -> Rows:
    """Completions of the given lengths in `size` tokens, after left-padded prompts of the given lengths."""
    prompts = prompts or [width] * len(lengths)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(width) >= width - torch.tensor(prompts)[:, None]
    rows = len(lengths)
    order = torch.stack([torch.randperm(size, generator=generator) for _ in range(rows)])
    columns = {
        "prompt_ids": torch.randint(tokens, (rows, width), generator=generator).masked_fill(~mask, 0),
        "prompt_mask": mask,
        "completion_ids": torch.randint(tokens, (rows, size), generator=generator),
        "completion_mask": torch.arange(size) < torch.tensor(lengths)[:, None],
        "unmask_step": order // 2,
        "unmask_logps": torch.zeros(rows, size),
    }
    return Rows(**{name: column.to(device) for name, column in columns.items()})


def policy_of(model: Any, mask_id: int | None) -> Policy:
    """A policy whose model and mask are all that is looked at."""
    return Policy(model, None, mask_id, pad_id=mask_id, end_token_ids=(), source="")


def make_masking(name: str, num_masks: int, p_mask_prompt: float = 0.0, **settings: object) -> Masking:
    """A masking of the table with these settings."""
    return replace(MASKINGS[name], num_masks=num_masks, p_mask_prompt=p_mask_prompt, **settings)


def streams_from(stream: Callable[[int, int | str], Any]) -> Streams:
    """`Streams` from a function of row and mask; "row" is the mask of what a row's masks share, "iterations" of all
    updates, and the row of what all rows share is -1.
    """
    return SimpleNamespace(
        of_mask=stream,
        of_row=lambda row: stream(row, "row"),
        of_iterations=lambda row: stream(row, "iterations"),
        of_everyone=lambda mask: stream(-1, mask),
    )


def one_stream(stream: Any) -> Streams:
    """`Streams` that are all the same."""
    return streams_from(lambda row, mask: stream)


def seeded_stream(seed: int, row: int, mask: int | str) -> np.random.Generator:
    """A stream of its own for each row and mask."""
    return numpy_generator(seed, "masks", row, {"row": -1, "iterations": -2}.get(mask, mask))


def seeded(seed: int = 0) -> Streams:
    """Streams keyed by row and mask, as the trainer makes them."""
    return streams_from(partial(seeded_stream, seed))


class Branching:
    """A stand-in for a generator: takes the branches of `path`, then always the first, and notes them."""

    def __init__(self, path: Sequence[int], p: float = 0.0) -> None:
        self.path, self.p = list(path), p
        self.taken: list[int] = []
        self.odds: list[list[float]] = []

    @property
    def probability(self) -> float:
        return float(np.prod([odds[choice] for choice, odds in zip(self.taken, self.odds, strict=True)]))

    def branch(self, odds: list[float]) -> int:
        depth = len(self.taken)
        choice = self.path[depth] if depth < len(self.path) else 0
        self.taken.append(choice)
        self.odds.append(odds)
        return choice

    def integers(self, low: int, high: int | None = None) -> int:
        low, high = (0, low) if high is None else (low, high)
        return low + self.branch([1 / (high - low)] * (high - low))

    def permutation(self, size: int) -> np.ndarray:
        orders = list(itertools.permutations(range(size)))
        return np.array(orders[self.branch([1 / len(orders)] * len(orders))], dtype=int)

    def random(self, size: int) -> np.ndarray:
        """Each entry lies below p or not."""
        return np.array([[0.0, 1.0][self.branch([self.p, 1 - self.p])] for _ in range(size)])


def every_draw(run: Callable[[Branching], Masks], p: float = 0.0) -> Iterator[tuple[float, Masks, list[int]]]:
    """(probability, result, path) for every way in which the draws of `run` can fall."""
    pending: list[list[int]] = [[]]
    while pending:
        path = pending.pop()
        stream = Branching(path, p)
        result = run(stream)
        yield stream.probability, result, stream.taken
        for depth in range(len(path), len(stream.taken)):
            pending += [[*stream.taken[:depth], other] for other in range(1, len(stream.odds[depth]))]


class ToyModel:
    """log p(token i | masked set): arbitrary, but the same for equal arguments."""

    def __init__(self, seed: int = 0, spread: float = 1.5) -> None:
        self.seed, self.spread = seed, spread

    def __call__(self, token: int, masked: Sequence[int]) -> float:
        stream = numpy_generator(self.seed, "toy", token, *sorted(int(h) for h in masked))
        return -self.spread * float(stream.exponential())

    def logps(self, masks: Masks, width: int) -> Tensor:
        """(B, M, T) float64 at scored positions; the masked set is that of the model's input."""
        result = torch.zeros(masks.scored.shape, dtype=torch.float64)
        for row, mask, token in masks.scored.nonzero().tolist():
            masked = masks.masked[row, mask, width:].nonzero().squeeze(-1).tolist()
            result[row, mask, token] = self(token, masked)
        return result


def tiny_model(dtype: torch.dtype = torch.float64, seed: int = 0, **sizes: int) -> torch.nn.Module:
    """A very small LLaDA with weights large enough that its predictions differ."""
    from spg_trainer.models import new_tiny

    model = new_tiny(**{"hidden_size": 16, "layers": 2, "heads": 2, "ffn": 24, "seed": seed, **sizes}).to(
        dtype
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model


def naive_logps(model: torch.nn.Module, rollouts: Rows, masks: Masks, mask_id: int) -> Tensor:
    """(B, M, T) by the model's own forward and a softmax over all positions; zero where not scored.

    Where the masks measure something, it stands behind, (B, M, 2T).

    Positions count real tokens: rotary angles are float32 in every model, so a shift would show at 1e-8.
    """
    rows = []
    for row in range(len(rollouts)):
        ids = torch.cat([rollouts.prompt_ids[row], rollouts.completion_ids[row]])
        real = torch.cat([rollouts.prompt_mask[row], torch.ones_like(rollouts.completion_mask[row])])
        positions = (real.long().cumsum(0) - 1).clamp(min=0)
        shown = torch.where(masks.masked[row], mask_id, ids)  # (M, L+T)
        attention, positions = real.long().expand_as(shown), positions.expand_as(shown)
        logits = model(input_ids=shown, attention_mask=attention, position_ids=positions).logits
        logits, written = logits[:, -len(rollouts.completion_ids[row]) :], rollouts.completion_ids[row]
        law = logits
        if masks.temperature != 1:  # that of the sampler, which never draws the mask
            law = torch.where(
                torch.arange(logits.shape[-1]) == mask_id, -math.inf, logits / masks.temperature
            )
        values = law.log_softmax(-1).gather(-1, written.expand(logits.shape[:2])[..., None]).squeeze(-1)
        if masks.measured is not None:
            measured = [
                naive_measure(masks.measure, of_copy, written, scored)
                for of_copy, scored in zip(logits, masks.scored[row], strict=True)
            ]
            values = torch.cat([values, torch.stack(measured)], -1)
        rows.append(values * masks.valued[row])
    return torch.stack(rows)


def naive_measure(name: str, logits: Tensor, written: Tensor, scored: Tensor) -> Tensor:
    """(T,) from logits (T, V) and the tokens (T,): the token's logit where it is scored and the best one elsewhere, or
    the entropy.
    """
    if name == "raw_logit":
        of_token = logits.gather(-1, written[:, None]).squeeze(-1)
        return torch.where(scored, of_token, logits.amax(-1))
    assert name == "entropy"
    law = logits.softmax(-1)
    return -(law * law.log()).sum(-1)


def whole_gradient(model: torch.nn.Module) -> Tensor:
    """All gradients in one vector."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def relative(a: Tensor, b: Tensor) -> float:
    """Norm of the difference over the norm of `b`."""
    return float((a - b).norm() / b.norm())


def count_sequences(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many sequences go through a model from now on, with and without a graph."""
    import spg_trainer.models.forward as states

    seen, original = {"graph": 0, "no graph": 0, "largest graph": 0}, states.hidden_states

    def counted(model, input_ids, attention_mask=None, **keep):
        graph = torch.is_grad_enabled()
        seen["graph" if graph else "no graph"] += len(input_ids)
        if graph:
            seen["largest graph"] = max(seen["largest graph"], len(input_ids))
        return original(model, input_ids, attention_mask, **keep)

    monkeypatch.setattr(states, "hidden_states", counted)
    return seen
