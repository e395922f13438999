"""diffu-GRPO (d1): GRPO of single tokens, each predicted from the prompt alone, with all of the completion masked.

    loss = -1/N sum_b 1/n_b sum_i [min(r A_b, clip(r, 1 - epsilon, 1 + epsilon) A_b) - beta k3],   r = p_bi / old p_bi

N is the number of completions, n_b the number of tokens of completion b, and k3 the KL of token i to the reference.
Source: arXiv 2504.12216, equation 3. `diffu_grpo_repro`, an entry of registry.py without a file of its own, is closer
to the public code in two points:

1. Divisor. Code: the tokens of all completions of a micro-batch. `diffu_grpo_repro`: those of the whole update. Paper:
   each completion's own tokens, then N.
2. End. Code and `diffu_grpo_repro`: only the tokenizer's eos ends a completion (LLaDA: endoftext), in rollout, masks
   and text. The paper does not say.

Not reproduced: a divisor per micro-batch and process; mask seeds counted by micro-batch (with 12 iterations and 2
accumulation steps, 6 seeds are never used); reseeding of the global generators; the old and reference passes of all
iterations in one batch; rollouts with dropout and bfloat16 noise; LoRA dropout 0.05; NF4 weights; prompts cut at 200.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from spg_trainer.algorithms.base import Advantage, divide_by_normalizer
from spg_trainer.algorithms.ratios import TokenRatio
from spg_trainer.likelihood.bounds import weighted_sum
from spg_trainer.settings.types import Below1, Count
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class DiffuGRPO(TokenRatio):
    """Makes the tokens of good completions likelier, those of bad ones less likely, by a clipped ratio for each token.

    Tokens weigh as in the ELBO of their masking; at a ratio of 1 the gradient is that of the advantage times the bound.
    Raises ConfigError for values out of range.
    """

    masking: str = "all"
    """Which tokens of the completion the model is shown as [MASK]: all of them (section 3.2)."""
    num_masks: Count = 1
    """M; copies differ only in which prompt tokens are masked. The paper draws these once for each iteration."""
    p_mask_prompt: Below1 = 0.15
    """Chance that a prompt token is masked (d1)."""
    advantage: Advantage = "mean"
    """How a reward becomes an advantage; d1 does not divide by the deviation."""
    normalizer: Literal["length", "tokens"] = "length"
    """Divisor. `length` (equation 3): the completion's own tokens, then all completions. `tokens` (d1's code): all
    tokens of the update."""

    def weigh(self, objective: Tensor, masks: Masks, batch: Rows) -> Tensor:
        return divide_by_normalizer(weighted_sum(objective, masks), batch, self.normalizer)
