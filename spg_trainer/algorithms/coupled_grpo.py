"""coupled-GRPO (DiffuCoder): GRPO of tokens, scored with all of them masked, with some masked, and with the others.

    loss = -sum_{b,i} [min(r A_b, clip(r, 1 +- epsilon) A_b) - beta k3] / tokens,   r = e^(phi_bi - old phi_bi)
    phi  = 1/2 [log p(x_i | all masked) + h_i/t log p(x_i | h masked) + (1 - h_i)/(1-t) log p(x_i | the others masked)]

h is the first mask of a pair: h_i is 1 if it masks token i (with probability t), else 0. k3 is the KL to the
reference. phi is no log-probability: the weights of a token sum to 3/2 on average, and to between 1.125 and 3 in a
single draw. Source: arXiv 2506.20639, formulas as in its code (apple/ml-diffucoder); docs/algorithms/coupled_grpo.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from spg_trainer.algorithms.base import Advantage, Compares, Loss, Metric, divide_by_normalizer
from spg_trainer.algorithms.diffu_grpo import DiffuGRPO
from spg_trainer.algorithms.ratios import clipped_surrogate, kl_k3
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import MASKINGS
from spg_trainer.settings.types import Below1, Count, CountOrZero, NotNegative, Probability, Share
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class CoupledGRPO(DiffuGRPO):
    """Token-level GRPO on a weighted sum of three log-probabilities. Raises ConfigError for values out of range."""

    masking: str = "coupled_full"
    """One copy masks all tokens. The others come in pairs: one masks some tokens, and the other all the rest."""
    num_masks: Count = 3
    """M, odd: one copy all masked, the others in pairs; 3 in paper and code."""
    p_mask_prompt: Below1 = 0.0
    """Chance that a prompt token is masked; 0 in paper and code."""
    advantage: Advantage = "leave_one_out"
    """How a reward becomes an advantage; paper and code subtract the mean of the others."""
    beta: NotNegative = 0.01
    """Weight of the KL to the reference; 0 = no reference (code)."""
    ref_model_sync_steps: CountOrZero = 64
    """How many updates lie between two moves of the reference towards the current weights (code), if all weights are
    trained; 0 = the reference stays the model that training started from."""
    ref_model_mixup_alpha: Probability = 0.6
    """The share of the current weights in the moved reference (the default of TRL, on which the code is built)."""
    normalizer: Literal["length", "tokens"] = "tokens"
    """Divisor. `length`: the completion's own tokens, then all completions. `tokens` (code): all tokens of the update.
    """
    min_ratio: Share = 0.2
    """Least t, the probability with which the first mask of a pair masks a token."""
    max_ratio: Share = 0.8
    """Greatest t, at least `min_ratio`; both inside 0..1."""

    compares: ClassVar[Compares] = "completion"

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = 0 < self.min_ratio <= self.max_ratio < 1
        self.require(
            "max_ratio", fine, f"at least min_ratio={self.min_ratio} and below 1, and min_ratio above 0"
        )

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"coupled_full": MASKINGS["coupled_full"]}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        weight = masks.weight.to(logps)

        def phi(of_copies: Tensor) -> Tensor:
            """(B, T), the formula's phi of each token, from log-probabilities (B, M, T)."""
            # A token weighs M/2 in the full copy, so the mean over the M copies has the formula's 1/2.
            return (weight * of_copies).mean(1)

        log_ratio = phi(logps) - phi(batch.old_logps)
        objective, clipped = clipped_surrogate(log_ratio, batch.advantages.to(logps)[:, None], self.epsilon)
        # Metrics are means over the tokens of all copies, so that a token counts once for each copy that scores it.
        num_copies = masks.scored.sum(1)
        metrics = {
            "logps": Metric(logps.detach().sum(), "scored_tokens"),
            "ratio/mean": Metric((log_ratio.detach().exp() * num_copies).sum(), "scored_tokens"),
            "ratio/clip_fraction": Metric((clipped * num_copies).sum(), "rewarded_tokens"),
        }
        if self.beta > 0:
            kl = kl_k3(phi(logps), phi(batch.ref_logps))
            objective = objective - self.beta * kl
            metrics["kl"] = Metric((kl.detach() * num_copies).sum(), "scored_tokens")
        terms = divide_by_normalizer((objective * batch.completion_mask).sum(-1), batch, self.normalizer)
        return Loss(-terms.sum(), metrics)
