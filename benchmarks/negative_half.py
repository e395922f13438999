"""Other forms of SPG's negative half, each an algorithm: `--algorithm benchmarks/negative_half.py:Contrast`.

All raise the any-order ELBO of completions above their group's mean reward as `spg` does with `masking=random`, and
differ in how they push the others down; `GroupBonus` is `spg` and raises all. docs/experiments/negative_half.md has
what came of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from spg_trainer.algorithms import Algorithm, Loss, Metric
from spg_trainer.algorithms.base import Compares, divide_by_normalizer
from spg_trainer.algorithms.spg import SPG
from spg_trainer.likelihood.bounds import elbo
from spg_trainer.likelihood.masking import Completion, Copies, Masking
from spg_trainer.likelihood.path_masks import StepMergeMasking
from spg_trainer.likelihood.random_masks import RandomMasking
from spg_trainer.settings.types import AtLeast1, Below1, Count
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class SmallSPG(SPG):
    """`spg` with random masks and otherwise what its recipe for small models asks for."""

    masking: str = "random"
    p_mask_prompt: Below1 = 0.0
    eubo_beta: AtLeast1 = 1.0


@dataclass(frozen=True)
class Contrast(SmallSPG):
    """Pushes a wrong completion down only at the tokens in which it differs from every right one of its group.

    Tokens are compared with those at the same position. Where no completion of the group is right, none is pushed down.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"correct"})

    def prepare(self, rows: Rows) -> dict[str, Tensor]:
        advantages = super().prepare(rows)["advantages"]
        taught = (advantages >= 0)[:, None] | differing_tokens(rows)
        taught &= rows.completion_mask
        return {"advantages": advantages.where(taught.any(1), 0.0), "taught": taught}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        taught = batch.taught
        scored = masks.scored & taught[:, None]
        masks = replace(masks, scored=scored, weight=masks.weight * scored, part=masks.part & taught)
        return super().loss(logps, masks, batch)


def differing_tokens(rows: Rows) -> Tensor:
    """(B, T) bool, the tokens that no right completion of the group (in turns: at the same turn) has at their position.

    All are false where the group has no right completion.
    """
    tokens = rows.completion_ids.where(rows.completion_mask, -1)  # no token is behind the end
    right = rows.correct
    differ = torch.zeros_like(rows.completion_mask)
    for group, turn in {*zip(rows.group.tolist(), rows.turn.tolist(), strict=True)}:
        in_turn = (rows.group == group) & (rows.turn == turn)
        if (in_turn & right).any():
            differ[in_turn] = (tokens[in_turn][:, None] != tokens[in_turn & right]).all(1)
    return differ & rows.completion_mask


@dataclass(frozen=True)
class RandomAndPathMasking(Masking):
    """`num_masks` random copies, and behind them the sampler's path in up to `path_masks` segments.

    The loss reads the two parts apart; their sum is a likelihood of neither.
    """

    target: ClassVar[str] = "own"
    path_masks: Count = 20

    def count(self, size: int) -> int:
        return self.num_masks + min(self.path_masks, size)

    def copies(self, row: Completion) -> Copies:
        parts = RandomMasking(self.num_masks).copies(row), StepMergeMasking(self.path_masks).copies(row)
        weights = [np.broadcast_to(part.weight, part.scored.shape) for part in parts]
        masked, scored = (np.concatenate([getattr(p, name) for p in parts]) for name in ("masked", "scored"))
        return Copies(masked, scored, np.concatenate(weights))


@dataclass(frozen=True)
class Path(Algorithm):
    """Raises the any-order ELBO of completions above the mean, and lowers the likelihood of the others' sampled paths.

    With `path_masks` of at least the number of denoising steps, that is the likelihood of exactly these steps.
    """

    masking: str = "random_and_path"
    p_mask_prompt: Below1 = 0.0
    path_masks: Count = 20
    """Segments into which the sampler's path is cut, a copy each, beside `num_masks` random copies."""

    compares: ClassVar[Compares] = "copy"

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"random_and_path": RandomAndPathMasking()}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        is_random = slice(None, self.num_masks), slice(self.num_masks, None)
        lower, path = (elbo(logps[:, at], replace(masks, weight=masks.weight[:, at])) for at in is_random)
        advantages = batch.advantages.to(logps)
        bound = torch.where(advantages >= 0, lower, path)
        terms = -advantages * bound / batch.totals["completions"]
        return Loss(terms.sum(), halves(terms, advantages))


def halves(terms: Tensor, advantages: Tensor) -> dict[str, Metric]:
    """What completions above the mean and the others add to the loss."""
    terms, rises = terms.detach(), advantages > 0
    return {
        "loss/positive": Metric((terms * rises).sum(), "update"),
        "loss/negative": Metric((terms * ~rises).sum(), "update"),
    }


@dataclass(frozen=True)
class Scaled(SmallSPG):
    """Makes the negative half of each group at most as large as its positive half.

    The size of a half is the sum of its gradient's absolute values in the logits, halved: a token of probability p that
    weighs w in the loss adds w (1 - p). By the advantages alone, both halves of a group are always equal.
    """

    compares: ClassVar[Compares] = "group"

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        # All of it is a constant; it has a graph only for `algorithms check`, which looks behind what is detached.
        at = logps.detach().requires_grad_()
        with torch.enable_grad():
            unscaled = super().loss(at, masks, batch).loss
            (slope,) = torch.autograd.grad(unscaled, at, create_graph=True)
        sizes = (slope.abs() * (1 - at.exp())).sum((1, 2))
        groups, group = batch.group.unique(return_inverse=True)
        falls = batch.advantages < 0
        positive, negative = (
            sizes.new_zeros(len(groups)).index_add(0, group, sizes * half) for half in (~falls, falls)
        )
        share = (positive / negative.clamp(min=torch.finfo(sizes.dtype).tiny)).clamp(max=1).detach()
        advantages = batch.advantages * torch.where(falls, share[group], 1)
        return super().loss(logps, masks, batch.with_columns(advantages=advantages))


@dataclass(frozen=True)
class Decay(SmallSPG):
    """The negative half weighs 1 in the first step of a run, and ever less, to 0 behind the last."""

    def prepare(self, rows: Rows) -> dict[str, Tensor]:
        advantages = super().prepare(rows)["advantages"]
        return {"advantages": advantages.where(advantages >= 0, (1 - rows.share_done) * advantages)}


@dataclass(frozen=True)
class GroupBonus(SPG):
    """`spg` with an `elbo_bonus` for each completion that is the share of its group that is right (DiPOD).

    With `negatives=elbo` and rewards of 0 and 1, wrong completions then weigh nothing.
    """

    p_mask_prompt: Below1 = 0.0
    eubo_beta: AtLeast1 = 1.0

    elbo_bonus: ClassVar[float] = 0.0  # type: ignore[misc]
    """Fixed here: the bonus comes from the group."""
    needs: ClassVar[frozenset[str]] = frozenset({"correct"})

    def active(self, advantages: Tensor) -> Tensor:
        return torch.ones_like(advantages, dtype=torch.bool)

    def prepare(self, rows: Rows) -> dict[str, Tensor]:
        solved = rows.cut_into_groups(rows.correct.double())
        bonus = rows.spread(solved.mean(1, keepdim=True).expand_as(solved).flatten())
        return {**super().prepare(rows), "bonus": bonus}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        without = super().loss(logps, masks, batch)
        raised = divide_by_normalizer(batch.bonus.to(logps) * elbo(logps, masks), batch, self.normalizer)
        return Loss(without.loss - raised.sum(), without.metrics)
