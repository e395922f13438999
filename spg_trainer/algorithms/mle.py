"""Maximum likelihood of right completions, each with the same weight: the loss of `sft`, as LLaDA is trained.

Source: LLaDA (arXiv 2502.09992), equation 5, with the number of masked tokens uniform on 1..T in place of a share. In
`sft` completions are given, and each of them counts as right. The second term, for models with a causal context, is
from Nemotron-Labs-Diffusion, whose code adds both sums.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from spg_trainer.algorithms.base import Loss, Need
from spg_trainer.algorithms.raft import RAFT
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import ContextMasking, GiftMasking, LiftMasking
from spg_trainer.settings.types import Count, NotNegative
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class MLE(RAFT):
    """Raises the ELBO per token of every right completion. Padding after the end counts as tokens (`score_tail`).

    loss = -sum over right b of (ELBO_b + context_weight * sum_i log p(x_i | prompt, x_1 .. x_{i-1})) * norm_b, with
    norm_b as `normalizer` says. Raises ConfigError for values out of range.
    """

    num_masks: Count = 1
    score_tail: bool = True
    context_weight: NotNegative = 0.0
    """Weight of a second term: the log-likelihood from left to right, each token given the clean text before it. It
    costs another copy, and needs a model with a causal context. 0 = no such term."""

    needs: ClassVar[frozenset[Need]] = frozenset({"correct", "demonstrations"})
    advantage: ClassVar[str] = "correct"  # type: ignore[misc]
    """No choice: a completion that is right weighs 1, any other 0."""

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """Those of `raft`, and two that mask where it teaches; of these, `lift` has no likelihood."""
        return {**super().maskings(), "lift": LiftMasking(), "gift": GiftMasking()}

    def make_masking(self) -> Masking:
        masking = super().make_masking()
        if not self.context_weight:
            return masking
        return ContextMasking(
            num_masks=masking.num_masks,
            p_mask_prompt=masking.p_mask_prompt,
            masked_copies=masking,
            context_weight=self.context_weight,
        )

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        return {"advantages": rows.correct.double()}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        return Loss(super().loss(logps, masks, batch).loss, {})  # the loss is the only figure
