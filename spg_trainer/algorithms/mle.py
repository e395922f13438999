"""Maximum likelihood of completions that are right, all alike: the loss of `sft`, as LLaDA is trained.

Source: LLaDA (arXiv 2502.09992), equation 5, with the number of masked tokens uniform on 1..T in place of a ratio. In
`sft` completions are given, and each of them counts as right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spg_trainer.algorithms.base import Loss, Need
from spg_trainer.algorithms.raft import RAFT
from spg_trainer.settings.ranges import Count
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class MLE(RAFT):
    """Raises the ELBO of every right completion, per token; padding behind the end counts as tokens, as in sft.

    loss = -sum over right b of ELBO_b * norm_b, with norm_b as `normalizer` says. Raises ConfigError for values out of
    range.
    """

    num_masks: Count = 1
    score_tail: bool = True

    needs: ClassVar[frozenset[Need]] = frozenset({"correct", "demonstrations"})
    advantage: ClassVar[str] = "correct"  # type: ignore[misc]
    """No choice: a completion that is right weighs 1, any other 0."""

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        return {"advantages": rows.correct.double()}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        return Loss(super().loss(logps, masks, batch).loss, {})  # all that there is to show is the loss
