"""SPG, the sandwiched policy gradient: raises a lower bound for good completions and lowers an upper one for bad.

The bounds on a completion's log-likelihood are the ELBO and the EUBO (likelihood/bounds.py).
Source: arXiv 2510.09541. docs/algorithms/spg.md has the formulas, and says where paper, code and this file differ.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, Compares, Loss, Metric, divide_by_normalizer
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.bounds import elbo, eubo, mixture, penalty
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import MASKINGS, BlockMasking
from spg_trainer.settings.types import AtLeast1, Below1, Count, NotNegative, Share
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class SPG(Algorithm):
    """Raises the ELBO of completions better than their group's mean, and lowers an upper bound of the others.

    loss = -sum_b (A_b * bound_b + elbo_bonus * ELBO_b) * norm_b, where bound_b is the ELBO if A_b >= 0, else what
    `negatives` says, and norm_b what `normalizer` says. Defaults are the paper's, whose eubo_beta is 1.0 on Sudoku.
    Raises ConfigError for values out of range, and if the masks allow no upper bound.
    """

    p_mask_prompt: Below1 = 0.15
    """Chance that a prompt token is masked; with the masking `block`, a token of an earlier block, too."""
    negatives: Literal["zero", "elbo", "eubo", "mix", "penalty"] = "mix"
    """Bound of completions below the mean: none at all, the ELBO, the EUBO, or a mixture of both. For a model without
    [MASK] alone, `penalty`, which is no bound: the power mean over the copies that hide a token."""
    eubo_beta: AtLeast1 = 1.5
    """Exponent of EUBO and penalty; the larger it is, the more the contexts count in which a token was likely."""
    mix_weight: Share = 0.5
    """Share of the EUBO in `mix`."""
    normalizer: Literal["tokens", "completions", "length"] = "completions"
    """Divisor. `tokens` (SPG's code): all tokens of the update. `completions` (the paper's 1/g): all completions.
    `length`: the completion's own tokens, then all completions."""
    elbo_bonus: NotNegative = 0.0
    """Weight of the ELBO of all sampled completions, right or wrong (DiPOD, arXiv 2606.13795, has 0.05)."""

    sharpness: float = 1.5
    """How strongly `masking=informed` prefers tokens that depended on others: 0 = not at all, below 0 = it avoids them.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        masking = self.make_masking()
        if not hasattr(masking, "sharpness"):
            only_informed = "left out, as only masking=informed has a sharpness"
            self.require("sharpness", self.sharpness == SPG.sharpness, only_informed)
        if self.negatives in ("eubo", "mix") and self.edit_noise:
            raise ConfigError(
                f"negatives={self.negatives}: SPG's upper bound holds only where the shown tokens are right, and not "
                f"with edit_noise={self.edit_noise:g}; set $algorithm_args negatives=elbo"
            )
        if self.negatives in ("eubo", "mix") and not masking.has_eubo:
            raise ConfigError(self._why_no_eubo(masking))
        if self.negatives == "penalty" and (masking.noise != "uniform" or masking.is_likelihood):
            raise ConfigError(
                f"negatives=penalty is for masking=flat of a model that hides tokens by random ones, and this is "
                f"masking={self.masking}; set $algorithm_args negatives=elbo"
            )

    def _why_no_eubo(self, masking: Masking) -> str:
        """The message for masks that show each token in one context only."""
        may_choose = "negatives" in {f.name for f in fields(self)}  # `spg_eubo` has no such choice
        what_compares = f"negatives={self.negatives}" if may_choose else "the EUBO"
        if masking.noise == "uniform":
            instead = "set $algorithm_args negatives=elbo" if may_choose else "use $algorithm=spg"
            return (
                f"{what_compares}: SPG's upper bound holds only where hidden tokens are shown as [MASK], and not for "
                f"masking={self.masking}; {instead}"
            )
        text = f"{what_compares} compares the contexts in which a token is masked, and masking={self.masking}"
        if masking.varies_context:
            # Twice as many: in masks that are drawn in pairs, a pair shows each token once.
            remedy = f"num_masks={2 * self.num_masks}" + (" (or negatives=elbo)" if may_choose else "")
            return f"{text} num_masks={self.num_masks} has only one; set $algorithm_args {remedy}"
        if getattr(masking, "block_length", 0) == 1:
            text += " block_length=1"
        remedy = "negatives=elbo" if may_choose else "masking=random"
        return f"{text} shows each token in one context only; set $algorithm_args {remedy}"

    @property
    def compares(self) -> Compares:
        # The EUBO compares the copies of a completion; without it, nothing is compared ("copy").
        return "copy" if self.negatives in ("zero", "elbo") else "completion"

    def active(self, advantages: Tensor) -> Tensor:
        if self.elbo_bonus:
            return torch.ones_like(advantages, dtype=torch.bool)
        return advantages > 0 if self.negatives == "zero" else advantages != 0

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        advantages = batch.advantages.to(logps)
        lower = elbo(logps, masks)
        upper = None
        if self.negatives == "penalty":
            upper = penalty(logps, masks, self.eubo_beta)
        elif self.make_masking().has_eubo:
            upper = eubo(logps, masks, self.eubo_beta)
        cost = -advantages * torch.where(advantages >= 0, lower, self.negative(lower, upper))
        if self.elbo_bonus:
            cost = cost - self.elbo_bonus * lower
        terms = divide_by_normalizer(cost, batch, self.normalizer)
        return Loss(terms.sum(), self.metrics(terms, lower, upper, batch))

    def negative(self, lower: Tensor, upper: Tensor | None) -> Tensor:
        """(B,) the bound of completions below the mean, as `negatives` says."""
        if self.negatives == "zero":
            return torch.zeros_like(lower)
        if self.negatives == "mix":
            return mixture(lower, upper, self.mix_weight)
        return upper if self.negatives in ("eubo", "penalty") else lower

    @torch.no_grad()
    def metrics(self, terms: Tensor, lower: Tensor, upper: Tensor | None, batch: Rows) -> dict[str, Metric]:
        """The halves of the loss, the share of completions that are scored, and their bounds in nats per token.

        terms, lower, upper: (B,), of the loss, the ELBO and the EUBO or the penalty, which is no bound.
        """
        positive = batch.advantages > 0
        bounds = [lower] if upper is None else [lower, upper, upper - lower]
        per_token = (torch.stack(bounds) / batch.length).sum(-1)
        halves = (terms * torch.stack([positive, ~positive])).sum(-1)
        result = {
            "bound/share": Metric(lower.new_tensor(len(lower)), "completions"),
            "bound/elbo": Metric(per_token[0], "scored_completions"),
            "loss/positive": Metric(halves[0], "update"),
            "loss/negative": Metric(halves[1], "update"),
        }
        if self.negatives == "penalty":
            result["penalty"] = Metric(per_token[1], "scored_completions")
        elif upper is not None:
            result["bound/eubo"] = Metric(per_token[1], "scored_completions")
            result["bound/gap"] = Metric(per_token[2], "scored_completions")
        return result


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


@dataclass(frozen=True)
class SPGRepro(SPG):
    """SPG with the semantics of its reference code; docs/experiments/differences.md lists the differences."""

    advantage: Literal["mean"] = "mean"
    normalizer: Literal["tokens"] = "tokens"

    elbo_bonus: ClassVar[float] = 0.0  # type: ignore[misc]
    """Fixed here, as the code has no such term."""
    end_tokens: ClassVar[Literal["any", "eos"]] = "eos"

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """`block` draws blocks as the code does (its `block_random`)."""
        return {"random": MASKINGS["random"], "block": BlockMasking(modulo=True)}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        advantages = batch.advantages.to(logps)
        length = batch.length.to(logps)
        lower, upper = length * mean_elbo(logps, masks), None
        if self.make_masking().has_eubo:
            upper = length * mean_eubo(logps, masks, length, self.eubo_beta)
        bound = torch.where(advantages > 0, lower, self.negative(lower, upper))
        terms = -advantages * bound / batch.totals["tokens"]
        return Loss(terms.sum(), self.metrics(terms, lower, upper, batch))


def mean_elbo(logps: Tensor, masks: Masks) -> Tensor:
    """(B,) mean logp over the masked tokens of each mask, then over masks."""
    return ((logps * masks.scored).sum(-1) / masks.scored.sum(-1).clamp(min=1)).mean(-1)


def mean_eubo(logps: Tensor, masks: Masks, length: Tensor, beta: float) -> Tensor:
    """(B,) mean over positions masked at least once of log(mean_m p^beta / t_hat) / beta, with t_hat = K/n.

    length: (B,) n. K counts the masked tokens of each mask.
    """
    ratio = masks.scored.sum(-1).to(logps) / length[:, None]
    powers = torch.where(masks.scored, beta * logps - ratio.log()[:, :, None], -math.inf)
    seen = masks.scored.any(1)
    means = torch.where(seen, powers.logsumexp(1) - math.log(logps.shape[1]), 0.0)
    return means.sum(-1) / (beta * seen.sum(-1))
