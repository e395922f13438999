"""ESPO, ELBO-based sequence-level policy optimization: one clipped ratio per completion, by the token.

Source: arXiv 2512.03759. docs/algorithms/espo.md has the formulas. `ESPORepro` is the authors' code (ML-GSAI/ESPO),
where that differs from the paper:

1. The whole window is the completion: all T positions are masked and scored, and L is T [the completion's own tokens].
2. A reward is compared with the mean of the others, G/(G-1) times as far away [with the group mean].
3. The penalty is divided by L as well, so that the published weights go with 1/L [the bare square].
4. Only the tokenizer's eos ends a completion.

Not reproduced: what the sampler wrote behind the eos is scored there, here padding is; k runs over rows of a local
micro-batch, here over those of the step, rounded down; global reseeding for every mask; prompts cut at 400 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, Loss, Metric
from spg_trainer.algorithms.ratios import clipped_surrogate, kl_k2, sequence_metrics
from spg_trainer.batch import Batch
from spg_trainer.likelihood.bounds import elbo
from spg_trainer.likelihood.masks import LIKELIHOODS, CoupledMasking, Masking, Masks


@dataclass(frozen=True)
class ESPO(Algorithm):
    """Raises completions above their group's mean, lowers the others, within a trust region of whole sequences.

    loss = sum_b (-min(r_b A_b, clip(r_b) A_b) + beta * k2_b) / completions, with r_b = exp((ELBO - ELBO_old) / L) on
    the same masks, L tokens, and k2_b = (ELBO - ELBO_ref)^2 / 2. Defaults are the paper's. Raises ConfigError for
    values out of range.
    """

    masking: str = "coupled"
    """Pairs of complementary masks (paper and code); any with a likelihood behind it."""
    num_masks: int = 4
    """M, >= 1, even for `coupled`; two pairs (code: num_mc 2)."""
    p_mask_prompt: float = 0.0
    """Chance that a prompt token is masked, 0 up to but not 1; 0 in paper and code."""
    epsilon: float = 0.2
    """The ratio is clipped below 1 - epsilon, 0 up to but not 1; 0.2, on Countdown 0 (the code's recipes)."""
    epsilon_high: float | None = None
    """... and above 1 + epsilon_high, >= 0; none = epsilon."""
    beta: float = 1e-3
    """Weight of the KL penalty, >= 0; 0.001 (GSM8K, MATH), 0.003 (Countdown), 0.01 (Sudoku); 0 needs no reference."""

    needs_old_logps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("epsilon", 0 <= self.epsilon < 1, "from 0 up to, but not, 1, e.g. 0.2")
        self.require("epsilon_high", (self.epsilon_high or 0) >= 0, "0 or more, or none")
        self.require("beta", self.beta >= 0, "0 or more, e.g. 0.001")

    @property
    def needs_ref_logps(self) -> bool:
        return self.beta > 0

    @classmethod
    def maskings(cls) -> Mapping[str, type[Masking]]:
        """Those with a likelihood: the ratio is one of probabilities of whole completions."""
        return LIKELIHOODS

    def loss(self, logps: Tensor, masks: Masks, batch: Batch) -> Loss:
        bound, length = elbo(logps, masks), batch.length.to(logps)
        log_ratio = (bound - elbo(batch.old_logps, masks)) / length
        surrogate, stopped = clipped_surrogate(
            log_ratio, batch.advantages.to(logps), self.epsilon, self.epsilon_high
        )
        metrics = sequence_metrics(bound.detach(), log_ratio, stopped, batch)
        terms = -surrogate
        if self.needs_ref_logps:
            kl = self.penalty(kl_k2(bound, elbo(batch.ref_logps, masks)), length)
            metrics["kl"] = Metric(kl.detach().sum(), "scored_completions")
            terms = terms + self.beta * kl
        return Loss(terms.sum() / batch.totals["completions"], metrics)

    def penalty(self, k2: Tensor, length: Tensor) -> Tensor:
        """(B,) what `beta` weighs."""
        return k2


@dataclass(frozen=True)
class ESPORepro(ESPO):
    """ESPO with the semantics of its reference code; the differences are numbered at the top of the module."""

    score_tail: bool = True
    """Whether what lies behind the first end token counts as padding (LLaDA: end tokens) and is scored, up to T."""
    advantage: Literal["leave_one_out"] = "leave_one_out"

    end_tokens: ClassVar[Literal["any", "eos"]] = "eos"

    @classmethod
    def maskings(cls) -> Mapping[str, type[Masking]]:
        """The one that the code has."""
        return {"coupled": CoupledMasking}

    def penalty(self, k2: Tensor, length: Tensor) -> Tensor:
        return k2 / length
