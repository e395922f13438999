"""JustGRPO: completions written from left to right have an exact likelihood, so plain GRPO applies.

Source: arXiv 2601.15165. docs/algorithms/justgrpo.md has the formulas. The published ratio divides a probability by
itself, detached. So the ratio is 1, its gradient is that of the log-probability, and its clip never acts: this file has
neither ratio nor clip. `JustGRPORepro` follows the authors' code (LeapLabTHU/JustGRPO). Taken over from the code, with
what `justgrpo` does in brackets:

1. All T tokens are scored, also those after the end, and a completion is divided by T [by its own tokens].
2. The sum is divided by the completions whose advantage is not 0 [by all].
3. Only the tokenizer's eos ends a completion.

Not reproduced: after the eos, the code scores what the sampler wrote, and this file scores padding. The code's divisor
counts the prompts that the processes work on at a time, and this file's divisor the prompts of the step. The code
replaces nan in a gradient by 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from spg_trainer.algorithms.base import Advantage, Algorithm, Compares, Loss, Metric
from spg_trainer.likelihood.bounds import elbo
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.random_masks import MASKINGS
from spg_trainer.settings.types import Count, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class JustGRPO(Algorithm):
    """Raises the exact log-likelihood of completions better than their group's mean, and lowers that of the others.

    loss = -sum_b A_b * log p_b / n_b / completions. log p_b is a sum over the n_b tokens of completion b, each
    predicted from the prompt and the tokens before it. To be on policy, completions must be sampled with --block-length
    1 at --temperature 1 and used once. Defaults are the paper's. Raises ConfigError for values out of range, and for
    prompts not shown in full.
    """

    masking: Literal["autoregressive"] = "autoregressive"
    """In each copy all places from one token on are masked, and this token is scored."""
    num_masks: Count = 256
    """M, the most tokens of a completion that are scored; if it has more, they are drawn at random."""
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""
    advantage: Advantage = "mean_std"
    """How a reward becomes an advantage; the paper divides by the group's standard deviation (GRPO)."""

    compares: ClassVar[Compares] = "copy"  # each copy has a term of its own
    left_to_right: ClassVar[bool] = True

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """Only the masking that follows the order in which the completion was written."""
        return {"autoregressive": MASKINGS["autoregressive"]}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        # With the masks of `autoregressive` this mean over copies is log p_b itself, not only a bound. (If a completion
        # has more than `num_masks` tokens, it is an estimate of log p_b without bias.)
        log_likelihood = elbo(logps, masks)
        per_token = log_likelihood / batch.length.to(logps)
        loss = -(batch.advantages.to(logps) * per_token / self.divisor(batch)).sum()
        num_scored = logps.new_tensor(len(logps))  # completions with the advantage 0 are not scored
        metrics = {
            "bound/share": Metric(num_scored, "completions"),
            "logps": Metric(logps.detach().sum(), "scored_tokens"),
        }
        return Loss(loss, metrics)

    def divisor(self, batch: Rows) -> float:
        """What the sum over completions is divided by."""
        return batch.totals["completions"]


@dataclass(frozen=True)
class JustGRPORepro(JustGRPO):
    """JustGRPO with the semantics of its reference code; docs/experiments/differences.md lists the differences."""

    score_tail: bool = True
    """Whether the positions after the first end token are scored, too, up to T. They then hold padding, whatever was
    sampled; LLaDA is padded with end tokens."""
    advantage: Literal["mean_std"] = "mean_std"

    end_tokens: ClassVar[Literal["any", "eos"]] = "eos"

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`advantages`, and `valid`, the share of the step's episodes whose advantage is not 0."""
        advantages = self.compute_advantages(rows.cut_into_groups(rows.rewards))  # of episodes
        return {"advantages": rows.spread(advantages), "valid": float((advantages != 0).double().mean())}

    def divisor(self, batch: Rows) -> float:
        return batch.totals["completions"] * batch.valid
