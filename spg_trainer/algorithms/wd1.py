"""wd1: a weighted log-likelihood without ratios, its weights a softmax over each group's advantages.

    loss = -1/N sum_b (w+_b - w-_b) log p_b,   w+ = softmax(psi A),   w- = softmax(-psi A) over a group

Source: arXiv 2507.08838, with log p as in d1: every token is predicted from the prompt alone. `wd1_repro` follows its
public code (trainer type wll_d1_neg). Taken over from the code, with what the paper says in brackets:

1. The loss is summed over a group and averaged over groups [1/G in front, that is, averaged over completions].
2. Only the tokenizer's eos ends a completion (LLaDA: endoftext), in rollout, masks and text [not said].
3. A rollout is used 12 times, on Sudoku 8 times [8]; the recipes set this.

Not reproduced: a softmax over the rows of a micro-batch, which equals that over a group only if the micro-batch is one
group, as published (6 rows); mask seeds counted by micro-batch; reseeding of the global generators; rollouts with
dropout and bfloat16 noise; LoRA dropout 0.05; NF4 weights; prompts cut at 200 tokens. wd1++, in which each denoising
step is a sample, is another algorithm.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Advantage, Algorithm, Compares, Loss, Metric
from spg_trainer.likelihood.bounds import elbo
from spg_trainer.settings.types import Below1, Count, Positive
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class WD1(Algorithm):
    """Raises the likelihood of a group's best completions and lowers that of its worst, by bounded weights.

    Its advantages are the weights w+ - w-. They sum to 0 over a group and lie between -1 and 1; the scale of the
    rewards acts as an inverse temperature. Raises ConfigError for values out of range.
    """

    masking: str = "all"
    """`all` shows the model nothing of the completion, as in d1; other maskings estimate the likelihood by a bound."""
    num_masks: Count = 1
    """M; copies differ only in which prompt tokens are masked. The paper draws these once for each iteration."""
    p_mask_prompt: Below1 = 0.15
    """Chance that a prompt token is masked (as in d1)."""
    advantage: Advantage = "mean"
    """A, which goes into the softmax; the paper does not divide by the deviation."""
    psi: Positive = 1.0
    """Inverse temperature of the weights: 1 / (lambda + beta) of the paper, which has lambda 1 and beta 0."""
    normalizer: Literal["completions", "groups"] = "completions"
    """Divisor. `completions` (the paper's 1/G): all completions. `groups` (its code): all groups."""

    compares: ClassVar[Compares] = "copy"  # each copy has a term of its own

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`advantages`, and `group_size`, how many completions a group has, from which the number of groups follows."""
        return {**super().prepare(rows), "group_size": rows.cut_into_groups(rows.rewards).shape[1]}

    def compute_advantages(self, rewards: Tensor) -> Tensor:
        """(P*G,) w+ - w- of rewards (P, G); exactly zero where all rewards of a group are equal."""
        scores = self.psi * super().compute_advantages(rewards).view_as(rewards)
        return (scores.softmax(1) - (-scores).softmax(1)).view(-1)

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        weights = batch.advantages.to(logps)
        divisor = batch.totals["completions"]
        if self.normalizer == "groups":
            divisor = divisor / batch.group_size
        terms = -weights * elbo(logps, masks) / divisor
        return Loss(terms.sum(), self.metrics(terms, weights, logps))

    @torch.no_grad()
    def metrics(self, terms: Tensor, weights: Tensor, logps: Tensor) -> dict[str, Metric]:
        """The halves of the loss, the mean log-probability of a scored token, and the mean size of the weights.

        terms, weights: (B,). logps: (B, M, T).
        """
        return {
            "logps": Metric(logps.sum(), "scored_tokens"),
            "weight/abs": Metric(weights.abs().sum(), "completions"),
            "loss/positive": Metric((terms * (weights > 0)).sum(), "update"),
            "loss/negative": Metric((terms * (weights < 0)).sum(), "update"),
        }
