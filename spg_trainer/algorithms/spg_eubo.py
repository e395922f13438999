"""SPG with the EUBO alone as its negative half, over enough masked copies for this bound to see a token's contexts.

This algorithm is ours, not a paper's. On each task that we tried, training with it ends above its start, even where
training with the paper's mixture ends below. docs/algorithms/spg_eubo.md has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from spg_trainer.algorithms.spg import SPG
from spg_trainer.likelihood.masking import Masking
from spg_trainer.settings.ranges import AtLeast1, Below1, Count


@dataclass(frozen=True)
class SPGEUBO(SPG):
    """Raises the ELBO of completions better than their group's mean, and lowers the EUBO of the others.

    loss = -sum_b (A_b * bound_b + elbo_bonus * ELBO_b) * norm_b, where bound_b is the ELBO if A_b >= 0, else the EUBO,
    and norm_b is what `normalizer` says. Raises ConfigError for values out of range.
    """

    masking: str = "random"
    """What the model is shown when a completion is scored: any masking that shows a token in several contexts."""
    num_masks: Count = 8
    p_mask_prompt: Below1 = 0.0
    eubo_beta: AtLeast1 = 1.0

    negatives: ClassVar[str] = "eubo"  # type: ignore[misc]
    """Fixed here: the mixture also lowers the ELBO, and so a token even where the model would hardly write it."""
    mix_weight: ClassVar[float] = 1.0  # type: ignore[misc]
    """Fixed here, as nothing is mixed."""

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """The maskings that show a token in several contexts, which the EUBO compares."""
        return {name: masking for name, masking in super().maskings().items() if masking.varies_context}
