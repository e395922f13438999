"""Distillation for parallel decoding: from right completions, the model learns to write several steps at once.

    l_m = mean over near i of ( -log p_i + certainty_weight H_i [x_i is the likeliest] )
          + far_weight mean over far i of kl( q_i || p_i )

l_m is the term of copy m in the loss (own_right.py). The copy shows the state before a step. The near tokens are those
of this step and the following ones, `horizon` steps in all; the far tokens are those that later steps wrote in the same
blocks. H_i is the entropy at temperature 0.5; [x_i is the likeliest] is 1 where no token is likelier than x_i, else 0.
q is the reference, which is shown the near tokens. kl is the KL of the event that the token is x_i, a lower bound of
KL(q || p). Sources: TAD (arXiv 2605.09536), hard near and soft far steps; dParallel (arXiv 2509.26488), certainty
forcing; docs/algorithms/distil.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Loss, Metric, Need
from spg_trainer.algorithms.own_right import OwnRight, detached_sum, mean_over
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import HorizonMasking
from spg_trainer.settings.ranges import Count, NotNegative
from spg_trainer.tensors import Masks, Rows

SUREST = -1e-6
"""The log-probability above which a token counts as certain: in float32, the log-probability of all other tokens would
then be rounding error."""


@dataclass(frozen=True)
class Distil(OwnRight):
    """Teaches a model to write the tokens of `horizon` steps at once. Raises ConfigError for values out of range.

    It learns from right completions. The near tokens are targets. The far ones are learned from a reference that is
    shown the near ones.
    """

    num_masks: Count = 8
    horizon: Count = 4
    """How many denoising steps' tokens the model learns to write at once (TAD)."""
    certainty_weight: NotNegative = 2.0
    """Weight of the entropy at near tokens that are the likeliest at their place (dParallel); 0 = no such term."""
    far_weight: NotNegative = 1.0
    """Weight of the far tokens (TAD); 0 = no such term, and no reference."""

    @property
    def needs(self) -> frozenset[Need]:
        needs: set[Need] = {*super().needs}
        if self.certainty_weight > 0:
            needs.add("measured")
        if self.far_weight > 0:
            needs.add("reference")
        return frozenset(needs)

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": HorizonMasking()}

    def copy_terms(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        # The reference is shown the near tokens and not the far ones. The last T columns are those of the completion.
        near = masks.scored & ~masks.ref_masked[:, :, -logps.shape[-1] :]
        far = masks.scored & ~near
        terms = -mean_over(logps, near)
        metrics = {
            "logps": Metric(detached_sum(logps, masks.scored), "scored_tokens"),
            "near/share": Metric(near.sum(), "scored_tokens"),
        }
        # `measured` is H_i where x_i is the likeliest token, else 0 (`HorizonMasking`).
        if self.certainty_weight > 0:
            terms = terms + self.certainty_weight * mean_over(batch.measured, near)
            metrics["near/entropy"] = Metric(detached_sum(batch.measured, near), "scored_tokens")
        if self.far_weight > 0:
            kl = kl_of_token(batch.ref_logps, logps)
            terms = terms + self.far_weight * mean_over(kl, far)
            metrics["far/kl"] = Metric(detached_sum(kl, far), "scored_tokens")
        return Loss(terms, metrics)


def kl_of_token(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of the event that a token is this one, from its log-probabilities under both.

    It is at most the KL over all tokens of the vocabulary, equals it for a vocabulary of two tokens, and is 0 only if
    the probabilities of this token are equal.
    """
    teacher, student = teacher.clamp(max=SUREST), student.clamp(max=SUREST)
    # The log-probabilities that the token is another one.
    teacher_other, student_other = torch.log(-torch.expm1(teacher)), torch.log(-torch.expm1(student))
    p = teacher.exp()
    return p * (teacher - student) + (1 - p) * (teacher_other - student_other)
