"""OPSD: on-policy self-distillation. The teacher is the reference model, shown some of what was written later.

    l_m = sum_{i unmasked at step t_m} sg( log p_i - log q_i ) log p_i

l_m is the term of copy m in the loss (own_right.py). p is the model, which sees the state before the step, as the
sampler did. q is the reference (the model that training started from), which also sees a hint: a share of the tokens
that were unmasked later in the same completion. sg stops the gradient. On policy, l_m has the gradient of KL(p || q),
estimated from the tokens that the sampler drew. Only right completions teach. Source: d-OPSD (arXiv 2606.18195), whose
code (xingzhejun/d-opsd-code) sums a clamped KL over the teacher's 20 best tokens; docs/algorithms/opsd.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from spg_trainer.algorithms.base import Loss, Metric, Need
from spg_trainer.algorithms.own_right import OwnRight
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import HintMasking
from spg_trainer.settings.ranges import Probability
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class OPSD(OwnRight):
    """Brings the model nearer to a reference that is shown a hint, on right completions, by the reverse KL.

    Raises ConfigError for values out of range.
    """

    hint_share: Probability = 0.25
    """The share of the later text that the teacher sees."""
    hint: Literal["blocks", "steps"] = "blocks"
    """What the later text is. `blocks` (as in the authors' code): everything after the block in which the step writes.
    `steps`: everything that is still masked at the step, so also the rest of this block. A step without later text is
    left out."""

    @property
    def needs(self) -> frozenset[Need]:
        return super().needs | {"reference"}

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": HintMasking()}

    def copy_terms(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        distance = (logps - batch.ref_logps).detach()
        metrics = {
            "hint/kl": Metric(distance.sum(), "scored_tokens"),
            "logps": Metric(logps.detach().sum(), "scored_tokens"),
        }
        return Loss((distance * logps).sum(-1), metrics)
