"""RSPO: REINFORCE on the ELBO per token, with a penalty on the centred distance from an anchor.

    loss = -1/N sum_b sg(A_b - lambda dh_b) dh_b,   dh_b = d_b - sg(mean of all d),   d_b = (ELBO_b - ELBO_anc_b) / n_b

ELBO_anc is the ELBO under the anchor, on the same masks; sg stops the gradient. The anchor is the reference or the
model that sampled (`anchor=old`: this is GDSD, arXiv 2605.29398, without its clamp). Source: arXiv 2605.10218, equation
3.3, as a third party's notes give it; docs/algorithms/rspo.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from spg_trainer.algorithms.base import Advantage, CoupledAlgorithm, Loss, Metric, Need
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import likelihoods
from spg_trainer.settings.types import Count, NotNegative
from spg_trainer.tensors import Rows


@dataclass(frozen=True)
class RSPO(CoupledAlgorithm):
    """Makes completions better than their group's mean likelier, the others less likely.

    The distance from an anchor is penalised. Raises ConfigError for values out of range.
    """

    masking: str = "bernoulli"
    """Each token is masked with probability t and weighs 1/t. Any other masking with a likelihood will do."""
    num_masks: Count = 4
    """M; we do not know the paper's value."""
    advantage: Advantage = "mean_std"
    """How a reward becomes an advantage; the paper divides by the group's deviation."""
    beta: NotNegative = 0.01
    """lambda, the weight of the penalty; 0 = no anchor, which is REINFORCE."""
    anchor: Literal["ref", "old"] = "ref"
    """What a completion's distance is measured from. `ref`: the model that training started from. `old`: the model that
    sampled (GDSD); the distance is then 0 in the first update of a rollout."""

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
            anchor_bounds = episodes.old_bounds if self.anchor == "old" else episodes.ref_bounds
            distance = bounds - anchor_bounds
        distance = distance / length
        centred = distance - distance.detach().mean()
        coefficients = episodes.advantages.to(centred) - self.beta * centred.detach()
        metrics = {"bound/elbo": Metric((bounds.detach() / length).sum(), "scored_completions")}
        if self.beta > 0:
            metrics["kl"] = Metric(centred.detach().square().sum() / 2, "scored_completions")
        return Loss(-(coefficients * centred).sum() / episodes.totals["completions"], metrics)
