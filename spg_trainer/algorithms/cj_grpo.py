"""CJ-GRPO: GRPO of single tokens over the whole trajectory of the sampler, step by step.

    loss = -1/N sum_b 1/S_b sum_s 1/n_bs sum_{i unmasked at step s} [min(r A_b, clip(r, 1 +- epsilon) A_b) - beta k3]

r and k3 are the ratio of token i and its KL to the reference. S_b is the number of denoising steps that unmasked a
scored token of completion b, and n_bs the number of scored tokens that step s unmasked. So all these steps weigh the
same in their completion. Source: arXiv 2509.23924, formulas as in its code; docs/algorithms/cj_grpo.md. The paper's
decoding (few tokens in early steps, late end tokens) is no part of this.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spg_trainer.algorithms.ratios import TokenRatio
from spg_trainer.likelihood.bounds import weighted_sum
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import MASKINGS
from spg_trainer.settings.types import Count, Positive, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class CJGRPO(TokenRatio):
    """Token-level GRPO on every step of the sampler's path. Raises ConfigError for values out of range."""

    masking: str = "step_merge"
    """A copy shows what the sampler saw at a step."""
    num_masks: Count = 256
    """The most passes of a completion: one for each step, or, if it has more steps, one for several neighbouring steps.
    """
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""
    score_temperature: Positive = 1.0
    """The temperature at which log-probabilities are taken: 1, or the rollout's, at which the tokens were drawn."""

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": MASKINGS["step_merge"]}

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`advantages`, and `share` (B, T), what each token weighs in its completion: 1 / (S_b n_bs).

        E.g. if the first of 2 steps unmasked 3 tokens, each of these weighs 1/6. S_b of an episode counts the steps of
        all its turns.
        """
        steps = rows.unmask_step.where(rows.completion_mask, -1).cpu()
        share, steps_of_turn = torch.zeros(steps.shape, dtype=torch.float64), torch.zeros(len(steps))
        for row, step in enumerate(steps):
            scored = step >= 0
            _, number, tokens_of_step = step[scored].unique(return_inverse=True, return_counts=True)
            share[row, scored] = 1 / tokens_of_step[number].double()
            steps_of_turn[row] = len(tokens_of_step)
        # (B,), the same number for each turn of an episode.
        steps_of_episode = rows.spread(rows.total(steps_of_turn))
        return {**super().prepare(rows), "share": share / steps_of_episode.clamp(min=1)[:, None]}

    def weigh(self, objective: Tensor, masks: Masks, batch: Rows) -> Tensor:
        share = batch.share.to(objective)[:, None]
        return weighted_sum(objective * share, masks) / batch.totals["completions"]
