"""In what order masked tokens are unmasked (`--remasking`), and how many of them in a pass (`--unmasking`).

The rules are functions in two tables, REMASKING and UNMASKING. To add a rule: `UNMASKING["mine"] = rule`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spg_trainer.rollout.draw import Generators, Measure
from spg_trainer.settings.decoding import Sampling


@dataclass(frozen=True)
class Pass:
    """What an unmasking rule gets of the b rows of a pass. A token has been drawn for each of their masked places."""

    logps: Tensor
    """(b, n), log-probabilities of the drawn tokens, in the order in which these would be unmasked; with `--fallback
    leftmost`, the highest ones at their places. A row with fewer than n tokens ends with -inf."""
    masked: Sequence[int]
    """b numbers: how many places of each row's block are masked."""
    number: Sequence[int]
    """b numbers: how many passes each row's block has had before this one."""


RemaskingRule = Callable[[Tensor, Generators, Sequence[int]], Tensor]
"""Takes log-probabilities (b, n) of the drawn tokens, b generators, and b counts: how many of the n each row has.

Returns the priority (b, n): the higher, the earlier a token is unmasked. Equal priorities go by position; priorities
after a row's count are ignored. A rule in `MEASURES` gets its measure in place of log-probabilities."""
UnmaskingRule = Callable[[Pass, Sampling], "Sequence[int] | Tensor"]
"""Returns how many tokens each row unmasks, (b,): a list if the settings alone decide it, which needs no read from a
GPU; else a tensor. The sampler unmasks at least one, and never more than `max_tokens_per_step`."""


def surest_first(logps: Tensor, generators: Generators, counts: Sequence[int]) -> Tensor:
    """The surer the model is of a token, the earlier it is unmasked."""
    return logps


def random_order(logps: Tensor, generators: Generators, counts: Sequence[int]) -> Tensor:
    """In random order: one uniform float32 number per drawn token, drawn after the noise of the tokens."""
    priority = torch.zeros(logps.shape, dtype=torch.float32, device=logps.device)
    for row, generator, count in zip(priority, generators, counts, strict=True):
        row[:count].uniform_(generator=generator)
    return priority


def leftmost_first(logps: Tensor, generators: Generators, counts: Sequence[int]) -> Tensor:
    """From left to right: SDAR's `sequential` (arXiv 2510.06303)."""
    return torch.zeros_like(logps)  # equal priorities go by position


def certainty(probabilities: Tensor) -> Tensor:
    """Minus the entropy, in nats: Dream's `entropy` (arXiv 2508.15487)."""
    return torch.special.entr(probabilities).sum(-1).neg()


def margin(probabilities: Tensor) -> Tensor:
    """How much more probable the best token is than the second: Dream's `topk_margin` (arXiv 2508.15487)."""
    best, second = probabilities.topk(2, -1).values.unbind(-1)
    return best - second


def confidence(probabilities: Tensor) -> Tensor:
    """The log-probability of the best token; unlike the drawn token's, it does not depend on noise."""
    return probabilities.amax(-1).log()


def scheduled_counts(this_pass: Pass, sampling: Sampling) -> list[int]:
    """The numbers of `unmask_counts`, from the settings alone."""
    counts = unmask_counts(sampling.block_length, sampling.steps_per_block)
    # If `max_tokens_per_step` allows fewer than the schedule, a block takes more passes; these repeat the last number.
    return [counts[min(number, len(counts) - 1)] for number in this_pass.number]


def counts_above_threshold(this_pass: Pass, sampling: Sampling) -> Tensor:
    """The number of tokens with at least the probability `threshold`: Fast-dLLM (arXiv 2505.22618)."""
    return (this_pass.logps.double() >= math.log(sampling.threshold)).sum(-1)


def none_is_sure(logps: Tensor, sampling: Sampling) -> Tensor:
    """(b,) bool, whether `counts_above_threshold` is 0 for a row, so that it falls back on one token. logps: (b, n)."""
    return (logps.double() < math.log(sampling.threshold)).all(-1)


def counts_above_threshold_or_scheduled(this_pass: Pass, sampling: Sampling) -> Tensor:
    """The larger of the numbers of `counts_above_threshold` and `scheduled_counts`: SDAR, LLaDA2.0."""
    sure = counts_above_threshold(this_pass, sampling)
    return sure.maximum(
        torch.tensor(scheduled_counts(this_pass, sampling)).to(sure.device, non_blocking=True)
    )


def counts_within_budget(this_pass: Pass, sampling: Sampling) -> Tensor:
    """How many of the surest tokens fit into a budget of doubt, the sum of 1 - p, for tokens with p above `threshold`.

    The budget is factor * (1 - threshold). If the model's probabilities are right, it bounds the chance that any of
    these tokens is wrong, since the chance of any of several events is at most the sum of their chances. At least as
    many tokens are unmasked as `scheduled_counts` says. Source: SLIM-RL (arXiv 2607.00208), budget decoding.
    """
    doubt = -this_pass.logps.double().expm1()  # 1 - p, in ascending order
    allowed = 1 - sampling.threshold
    within = (doubt < allowed) & (doubt.cumsum(-1) <= sampling.factor * allowed)
    return within.sum(-1).maximum(
        torch.tensor(scheduled_counts(this_pass, sampling)).to(doubt.device, non_blocking=True)
    )


def counts_within_factor(this_pass: Pass, sampling: Sampling) -> Tensor:
    """How many of the surest tokens come before the first that is too unsure.

    The n-th token is too unsure if its probability is below 1 - factor / (n + 1). The first token is always taken. If a
    single masked place would be left, it is taken, too, as in the published code. Source: Fast-dLLM (arXiv 2505.22618),
    theorem 1.
    """
    ranks = torch.arange(1, this_pass.logps.shape[1] + 1, dtype=torch.float64, device=this_pass.logps.device)
    lowest_logps = (1 - sampling.factor / (ranks + 1)).clamp(min=0).log()
    is_sure = this_pass.logps >= lowest_logps
    is_sure[:, 0] = True
    masked = torch.tensor(this_pass.masked).to(this_pass.logps.device, non_blocking=True)
    count = is_sure.long().cumprod(-1).sum(-1).minimum(masked)  # up to the first token that is not sure
    return torch.where(count == masked - 1, masked, count)


REMASKING: dict[str, RemaskingRule] = {
    "low_confidence": surest_first,
    "random": random_order,
    "entropy": surest_first,
    "margin": surest_first,
    "sequential": leftmost_first,
}
"""{NAME of --remasking: rule}."""
MEASURES: dict[str, Measure] = {"entropy": certainty, "margin": margin}
"""{rule of `REMASKING`: measure}. These rules get a measure of the model's probabilities at each position in place of
the drawn token's log-probability."""
UNMASKING: dict[str, UnmaskingRule] = {
    "schedule": scheduled_counts,
    "threshold": counts_above_threshold,
    "factor": counts_within_factor,
    "dynamic": counts_above_threshold_or_scheduled,
    "budget": counts_within_budget,
}
"""{NAME of --unmasking: rule}."""


FALLBACKS = ("surest", "leftmost", "leftmost_drawn")
"""The names of --fallback: which token `--unmasking threshold` writes if the model is sure of none."""


def unmask_counts(masked: int, steps: int) -> list[int]:
    """How many of `masked` tokens each of `steps` steps unmasks: equally many; the first steps take the remainder.

    E.g. 8 tokens in 3 steps are [3, 3, 2]. Source: LLaDA (arXiv 2502.09992), `get_num_transfer_tokens`.
    """
    each, rest = divmod(masked, steps)
    return [each + 1 if step < rest else each for step in range(steps)]
