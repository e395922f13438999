"""Per-token log-probabilities of completions under a model, at scored positions only.

A sequence is one masked copy of one completion, named by its row and its mask. Axes: S sequences, B
completions, M masks, L prompt tokens, T completion tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spg_trainer.batch import Rollouts
from spg_trainer.likelihood.head import TargetLogps, default_chunk_rows
from spg_trainer.likelihood.masks import Masks


@dataclass(frozen=True)
class Sequences:
    """Some masked copies of some completions, ready for the model."""

    input_ids: Tensor
    """(S, L+T) int64, with the mask id wherever the copy is hidden."""
    attention_mask: Tensor
    """(S, L+T) bool, false on prompt padding."""
    scored: Tensor
    """(S, T) bool, the positions whose log-probability is asked for."""
    targets: Tensor
    """(n,) int64, the tokens at the scored positions, in the order of `scored`."""


def sequences(rollouts: Rollouts, masks: Masks, rows: Tensor, samples: Tensor, mask_id: int) -> Sequences:
    """The masked copies `samples` of the completions `rows`; both (S,) int64."""
    ids = torch.cat([rollouts.prompt_ids[rows], rollouts.completion_ids[rows]], dim=1)
    attention = torch.ones_like(ids, dtype=torch.bool)
    attention[:, : rollouts.prompt_mask.shape[1]] = rollouts.prompt_mask[rows]
    scored = masks.scored[rows, samples]
    hidden_ids = ids.masked_fill(masks.input_hidden[rows, samples], mask_id)
    return Sequences(hidden_ids, attention, scored, rollouts.completion_ids[rows][scored])


def scored_states(model: nn.Module, batch: Sequences) -> Tensor:
    """Last hidden states at the scored positions, (n, D), in the order of `batch.targets`."""
    from spg_trainer.models.load import hidden_states

    count, width = batch.input_ids.shape
    completion = torch.arange(width - batch.scored.shape[1], width, device=batch.scored.device)
    keep = completion.expand(count, -1)
    return hidden_states(model, batch.input_ids, batch.attention_mask, keep=keep)[batch.scored]


def token_logps(
    model: nn.Module,
    rollouts: Rollouts,
    masks: Masks,
    samples: slice,
    mask_id: int,
    chunk_rows: int | None = None,
) -> Tensor:
    """Log-probabilities (B, m, T) of the scored tokens in the masks `samples`; zero where nothing is scored.

    Differentiable; float32, or float64 when the model is. mask_id: the model's [MASK] token. chunk_rows:
    positions whose logits exist at once (None: as many as make 128 MB). For old and reference logps call
    it under `no_grad`.
    """
    from spg_trainer.models.load import head_weight

    weight = head_weight(model)
    chosen = torch.arange(masks.scored.shape[1], device=masks.scored.device)[samples]
    count = len(rollouts)
    rows = torch.arange(count, device=chosen.device).repeat_interleave(len(chosen))
    batch = sequences(rollouts, masks, rows, chosen.repeat(count), mask_id)
    chunk_rows = chunk_rows or default_chunk_rows(weight.shape[0])
    values = TargetLogps.apply(scored_states(model, batch), weight, batch.targets, chunk_rows)
    logps = torch.zeros(batch.scored.shape, dtype=values.dtype, device=values.device)
    return logps.masked_scatter(batch.scored, values).view(count, len(chosen), -1)
