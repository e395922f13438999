"""RSPO: REINFORCE on the ELBO by the token, held to an anchor by a penalty whose differences are centred.

    loss = -1/N sum_b sg(A_b - lambda dh_b) dh_b,   dh_b = d_b - sg(mean of all d),   d_b = (ELBO_b - ELBO_anc_b) / n_b

ELBO_anc is that of the anchor, on the same masks: of the reference, or of the model that sampled, which is GDSD (arXiv
2605.29398) without its clamp; sg stops the gradient. Source: arXiv 2605.10218, equation 3.3, by a third party's notes;
docs/algorithms/rspo.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from spg_trainer.algorithms.base import Advantage, CoupledAlgorithm, Loss, Metric, Need
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.masks import likelihoods
from spg_trainer.settings.ranges import Below1, Count, NotNegative
from spg_trainer.tensors import Rows


@dataclass(frozen=True)
class RSPO(CoupledAlgorithm):
    """Raises completions above their group's mean and lowers the others, as far as the anchor lets them.

    Raises ConfigError for values out of range.
    """

    masking: str = "bernoulli"
    """Each token masked with probability t, weighing 1/t; any with a likelihood behind it."""
    num_masks: Count = 4
    """M; the paper's is not known here."""
    p_mask_prompt: Below1 = 0.0
    """Chance that a prompt token is masked."""
    advantage: Advantage = "mean_std"
    """What a reward is compared with; the paper divides by the group's deviation."""
    beta: NotNegative = 0.01
    """lambda, the weight of the penalty; 0 = no anchor, which is REINFORCE."""
    anchor: Literal["ref", "old"] = "ref"
    """What a completion's distance is measured from: the model that training started from, or the one that sampled
    (GDSD), from which it is 0 in the first update of a rollout."""

    @property
    def needs(self) -> frozenset[Need]:
        if self.beta == 0:
            return frozenset()
        return frozenset({"old" if self.anchor == "old" else "reference"})

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return likelihoods()

    def coupled_loss(self, episodes: Rows) -> Loss:
        bounds, length = episodes.bounds, episodes.length.to(episodes.bounds)
        distance = bounds
        if self.beta > 0:
            distance = bounds - (episodes.old_bounds if self.anchor == "old" else episodes.ref_bounds)
        distance = distance / length
        centred = distance - distance.detach().mean()
        coefficients = episodes.advantages.to(centred) - self.beta * centred.detach()
        metrics = {"bound/elbo": Metric((bounds.detach() / length).sum(), "scored_completions")}
        if self.beta > 0:
            metrics["kl"] = Metric(centred.detach().square().sum() / 2, "scored_completions")
        return Loss(-(coefficients * centred).sum() / episodes.totals["completions"], metrics)
