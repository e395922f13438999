"""In what order masked tokens are unmasked (`--remasking`), and how many of them in a pass (`--unmasking`).

Two tables of functions; a rule of one's own is a function and a line: `UNMASKING["mine"] = rule`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spg_trainer.rollout.draw import Generators, Measure, log_exponential
from spg_trainer.settings.decoding import Sampling


@dataclass(frozen=True)
class Pass:
    """What an unmasking rule knows of the b rows of a pass."""

    logps: Tensor
    """(b, n) of the drawn tokens, in the order in which they would be unmasked; -inf where a row has fewer than n."""
    masked: Sequence[int]
    """b; how many tokens of the row's block are masked."""
    number: Sequence[int]
    """b; number of this pass among those of the row's block, from 0 on."""


RemaskingRule = Callable[[Tensor, Generators, Sequence[int]], Tensor]
"""(logps (b, n) of the drawn tokens, b generators, b numbers of masked tokens) -> priority (b, n): the higher, the
earlier a token is unmasked; what stands behind a row's masked tokens is ignored. Equal priorities go by position."""
UnmaskingRule = Callable[[Pass, Sampling], "Sequence[int] | Tensor"]
"""How many tokens each row unmasks, (b,): a list where the settings alone say it, which costs no read from a GPU, or a
tensor. The sampler unmasks one at least, and never more than `max_tokens_per_step`."""


def by_confidence(logps: Tensor, generators: Generators, counts: Sequence[int]) -> Tensor:
    """The tokens that the model is surest of first."""
    return logps


def at_random(logps: Tensor, generators: Generators, counts: Sequence[int]) -> Tensor:
    """Any tokens first: one uniform float32 number per masked position, drawn after the noise of the tokens."""
    priority = torch.zeros(logps.shape, dtype=torch.float32, device=logps.device)
    for row, generator, count in zip(priority, generators, counts, strict=True):
        row[:count].uniform_(generator=generator)
    return priority


def by_position(logps: Tensor, generators: Generators, counts: Sequence[int]) -> Tensor:
    """From left to right: SDAR's `sequential` (arXiv 2510.06303)."""
    return torch.zeros_like(logps)


def by_plackett_luce(logps: Tensor, generators: Generators, counts: Sequence[int]) -> Tensor:
    """One position after another, each in proportion to exp(logps) among those that are left.

    So is the order of logps plus a Gumbel number each: minus the log of one float32 draw of Exp(1) per masked position,
    after the noise of the tokens.
    """
    noise = torch.zeros(logps.shape, dtype=torch.float32, device=logps.device)
    log_exponential([row[:count] for row, count in zip(noise, counts, strict=True)], generators)
    return logps - noise


def certainty(probabilities: Tensor) -> Tensor:
    """Minus the entropy, in nats: Dream's `entropy` (arXiv 2508.15487)."""
    return torch.special.entr(probabilities).sum(-1).neg()


def margin(probabilities: Tensor) -> Tensor:
    """How much more probable the best token is than the second: Dream's `topk_margin` (arXiv 2508.15487)."""
    best, second = probabilities.topk(2, -1).values.unbind(-1)
    return best - second


def confidence(probabilities: Tensor) -> Tensor:
    """The log-probability of the best token, which depends on the state alone."""
    return probabilities.amax(-1).log()


def by_schedule(now: Pass, sampling: Sampling) -> list[int]:
    """As many in each pass, the first ones one more: LLaDA (arXiv 2502.09992), `get_num_transfer_tokens`."""
    counts = unmask_counts(sampling.block_length, sampling.steps_per_block)
    # Where `max_tokens_per_step` allows fewer than the schedule, a block takes more passes, as the last one in number.
    return [counts[min(number, len(counts) - 1)] for number in now.number]


def by_threshold(now: Pass, sampling: Sampling) -> Tensor:
    """All of at least this probability: Fast-dLLM (arXiv 2505.22618)."""
    return (now.logps.double() >= math.log(sampling.threshold)).sum(-1)


def by_threshold_or_schedule(now: Pass, sampling: Sampling) -> Tensor:
    """All of at least the threshold's probability, and no fewer than the schedule's: SDAR, LLaDA2.0."""
    sure = by_threshold(now, sampling)
    return sure.maximum(torch.tensor(by_schedule(now, sampling)).to(sure.device, non_blocking=True))


def by_factor(now: Pass, sampling: Sampling) -> Tensor:
    """The longest run of ranks n whose probability is at least 1 - factor / (n + 1), the first always in it.

    One that stops a single token short takes that too, as the published code does. Source: Fast-dLLM (arXiv
    2505.22618), theorem 1.
    """
    ranks = torch.arange(1, now.logps.shape[1] + 1, dtype=torch.float64, device=now.logps.device)
    lowest = (1 - sampling.factor / (ranks + 1)).clamp(min=0).log()
    is_sure = now.logps >= lowest
    is_sure[:, 0] = True
    masked = torch.tensor(now.masked).to(now.logps.device, non_blocking=True)
    run = is_sure.long().cumprod(-1).sum(-1).minimum(masked)
    return torch.where(run == masked - 1, masked, run)


REMASKING: dict[str, RemaskingRule] = {
    "low_confidence": by_confidence,
    "random": at_random,
    "entropy": by_confidence,
    "margin": by_confidence,
    "sequential": by_position,
    "plackett_luce": by_plackett_luce,
}
"""What `--remasking NAME` chooses from."""
MEASURES: dict[str, Measure] = {"entropy": certainty, "margin": margin, "plackett_luce": confidence}
"""The rules of `REMASKING` that see, in place of the log-probability of the drawn token, this measure of the position.
"""
DRAWS_POSITIONS = "plackett_luce"
"""The remasking whose measure is divided by `--position-temperature`, and which records (`unmask_order`) in which order
the positions of a step were drawn."""
UNMASKING: dict[str, UnmaskingRule] = {
    "schedule": by_schedule,
    "threshold": by_threshold,
    "factor": by_factor,
    "dynamic": by_threshold_or_schedule,
}
"""What `--unmasking NAME` chooses from."""


def unmask_counts(masked: int, steps: int) -> list[int]:
    """How many of `masked` tokens each of `steps` steps unmasks: evenly, the first steps one more.

    Source: LLaDA (arXiv 2502.09992), `get_num_transfer_tokens`.
    """
    base, more = divmod(masked, steps)
    return [base + (step < more) for step in range(steps)]
