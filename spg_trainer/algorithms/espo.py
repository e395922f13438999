"""ESPO, ELBO-based sequence-level policy optimization: one clipped ratio per completion, divided by its length.

Source: arXiv 2512.03759. docs/algorithms/espo.md has the formulas. `ESPORepro` follows the authors' code
(ML-GSAI/ESPO). Taken over from the code, with what the paper says in brackets:

1. The whole window is the completion: all T positions are masked and scored, and L is T [the completion's own tokens].
2. An advantage is the reward minus the mean of the other G - 1 completions [minus the group mean]. It is G/(G-1) times
   as large as the paper's.
3. The penalty is the square divided by L [the square itself]. The published weights are meant for the divided square.
4. Only the tokenizer's eos ends a completion.

Not reproduced: after the eos, the code scores what the sampler wrote, and this file scores padding. The code spreads
the numbers of masked tokens evenly over the rows of a local micro-batch. Here they are spread over the rows of the
step, and rounded down. The code reseeds globally for every mask, and cuts prompts at 400 tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from spg_trainer.algorithms.ratios import SequenceRatio, kl_k2
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import MASKINGS
from spg_trainer.settings.types import Below1, Count, NotNegative


@dataclass(frozen=True)
class ESPO(SequenceRatio):
    """Makes completions better than their group's mean likelier, the others less likely, by a clipped ratio for each.

    loss = sum_b (-min(r_b A_b, clip(r_b) A_b) + beta * k2_b) / completions, with r_b = exp((ELBO - ELBO_old) / L) on
    the same masks, L tokens, and k2_b = (ELBO - ELBO_ref)^2 / 2. Defaults are the paper's. Raises ConfigError for
    values out of range.
    """

    masking: str = "coupled"
    """Pairs of complementary masks (paper and code). Any other masking with a likelihood will do."""
    num_masks: Count = 4
    """M, an even number for `coupled`, whose masks come in pairs; 4 are two pairs (code: num_mc 2)."""
    p_mask_prompt: Below1 = 0.0
    """Chance that a prompt token is masked; 0 in paper and code."""
    epsilon: Below1 = 0.2
    """The ratio is clipped below 1 - epsilon. The code's recipe for Countdown has 0, the others 0.2."""
    beta: NotNegative = 1e-3 / 256
    """Weight of the KL penalty; 0 needs no reference. The code has 0.001 (GSM8K, MATH), 0.003 (Countdown) and 0.01
    (Sudoku) for the square divided by L = 256. Here the square is not divided, so 0.001 becomes 0.001 / 256."""

    def log_ratio(self, difference: Tensor, length: Tensor) -> Tensor:
        return difference / length


@dataclass(frozen=True)
class ESPORepro(ESPO):
    """ESPO with the semantics of its reference code; docs/experiments/differences.md lists the differences."""

    beta: NotNegative = 1e-3
    """Weight of the KL penalty: 0.001 (GSM8K, MATH), 0.003 (Countdown), 0.01 (Sudoku); 0 needs no reference."""
    score_tail: bool = True
    """Whether the positions after the first end token are scored, too, up to T. They then hold padding, whatever was
    sampled; LLaDA is padded with end tokens."""
    advantage: Literal["leave_one_out"] = "leave_one_out"

    end_tokens: ClassVar[Literal["any", "eos"]] = "eos"

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """The code's only masking."""
        return {"coupled": MASKINGS["coupled"]}

    def penalty(self, bound: Tensor, reference: Tensor, length: Tensor) -> Tensor:
        return kl_k2(bound, reference) / length
