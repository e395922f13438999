"""In what order masked tokens are unmasked (`--remasking`), and how many of them in a pass (`--unmasking`).

The rules are functions, which the tables of `settings/rules.py` name. Or a user names one of a file or a module:
`--remasking ./mine.py:parity`, `--unmasking ./mine.py:two_then_four`. Such a rule must pass a trial first
(`check_own_rules`).

An order (--remasking) takes log-probabilities (b, n) of the tokens that were drawn for b rows, the places (b, n) of
these tokens in their completions, from 0, and b generators on the model's device. It returns a priority (b, n),
float32: the higher, the earlier a token is unmasked; equal priorities go from left to right. A row may have columns
that are not drawn, with the log-probability -inf; the priorities returned for these are ignored. A count (--unmasking)
is an `UnmaskingRule`: count(this_pass, sampling) returns how many tokens each row unmasks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from spg_trainer.errors import ConfigError
from spg_trainer.rollout.draw import Generators
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.own_functions import load_function
from spg_trainer.settings.rules import UNMASKING


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
after a row's count are ignored. A rule with a `measure` gets this in place of log-probabilities."""
UnmaskingRule = Callable[[Pass, Sampling], "Sequence[int] | Tensor"]
"""Returns how many tokens each row unmasks, (b,): a list if the settings alone decide it, which needs no read from a
GPU; else a tensor. The sampler unmasks at least one, and never more than `max_tokens_per_step`."""


def surest_first(logps: Tensor, generators: Generators, counts: Sequence[int]) -> Tensor:
    """(b, n) the surer the model is of a token, the earlier it is unmasked. logps: (b, n)."""
    return logps


def random_order(logps: Tensor, generators: Generators, counts: Sequence[int]) -> Tensor:
    """(b, n) a random order: one uniform float32 number per drawn token, drawn after the noise of the tokens."""
    priority = torch.zeros(logps.shape, dtype=torch.float32, device=logps.device)
    for row, generator, count in zip(priority, generators, counts, strict=True):
        row[:count].uniform_(generator=generator)
    return priority


def leftmost_first(logps: Tensor, generators: Generators, counts: Sequence[int]) -> Tensor:
    """(b, n) from left to right: SDAR's `sequential` (arXiv 2510.06303). logps: (b, n)."""
    return torch.zeros_like(logps)  # equal priorities go by position


def certainty(probabilities: Tensor) -> Tensor:
    """(b, n) minus the entropy, in nats, of probabilities (b, n, V): Dream's `entropy` (arXiv 2508.15487)."""
    return torch.special.entr(probabilities).sum(-1).neg()


def margin(probabilities: Tensor) -> Tensor:
    """(b, n) how much more probable the best token is than the second, from probabilities (b, n, V).

    Source: Dream's `topk_margin` (arXiv 2508.15487).
    """
    best, second = probabilities.topk(2, -1).values.unbind(-1)
    return best - second


def confidence(probabilities: Tensor) -> Tensor:
    """(b, n) the log-probability of the best token, from probabilities (b, n, V); it does not depend on noise."""
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


def unmask_counts(masked: int, steps: int) -> list[int]:
    """How many of `masked` tokens each of `steps` steps unmasks: equally many; the first steps take the remainder.

    E.g. 8 tokens in 3 steps are [3, 3, 2]. Source: LLaDA (arXiv 2502.09992), `get_num_transfer_tokens`.
    """
    each, rest = divmod(masked, steps)
    return [each + 1 if step < rest else each for step in range(steps)]


MANY = 200
"""How often the rows of a trial stand in its largest batch."""

OwnOrder = Callable[[Tensor, Tensor, Generators], Tensor]
"""The signature of a user's order; the text at the top of this file says what it takes and returns."""


def check_own_rules(sampling: Sampling) -> None:
    """Loads and tries rules of a user's file or module (`own_order`, `unmasking_rule`), which raise ConfigError."""
    if ":" in sampling.remasking:
        own_order(sampling.remasking)
    if not sampling.unmasking_rule.redraws:
        unmasking_rule(sampling)


def function_named(rule: str | Callable[..., Any]) -> Callable[..., Any]:
    """The function of a rule or a measure in `settings/rules.py`, which has it or its name in this file."""
    return cast(Callable[..., Any], globals()[rule]) if isinstance(rule, str) else rule


def own_order(name: str) -> OwnOrder:
    """The function behind `./file.py:NAME` or `package.module:NAME`, tried on a small example.

    Raises ConfigError if it cannot be loaded, and for what `refuse_order` finds.
    """
    order = cast(OwnOrder, load_function("remasking", name))
    refuse_order(name, order)
    return order


def unmasking_rule(sampling: Sampling) -> UnmaskingRule:
    """The rule of `--unmasking`, by its name in our table, or the user's own, tried on a small example.

    Raises ConfigError if it cannot be loaded, and for what `refuse_count` finds.
    """
    if ":" not in sampling.unmasking:
        return function_named(UNMASKING[sampling.unmasking].function)
    count = cast(UnmaskingRule, load_function("unmasking", sampling.unmasking))
    refuse_count(count, sampling)
    return count


@cache
def refuse_count(count: UnmaskingRule, sampling: Sampling) -> None:
    """Raises ConfigError unless a count keeps its contract, tried on 3 rows of 8 tokens, and on many of them.

    The contract: it returns a whole number for each row, changes no tensor that it gets, returns the same the second
    time, and counts a row's tokens whatever the other rows are.
    """

    def refusal(what: str) -> ConfigError:
        return ConfigError(
            f"$unmasking={sampling.unmasking}: {what}. A count is a function count(this_pass, sampling) that returns "
            "how many tokens each row unmasks: a list of b whole numbers, or a tensor (b,) of them. this_pass has "
            "logps (b, n), the first to be unmasked first, and masked and number, b numbers each."
        )

    def counts_of(rows: list[int]) -> list[object]:
        this_pass = Pass(logps[rows].clone(), [masked[row] for row in rows], [number[row] for row in rows])
        returned = count(this_pass, sampling)
        if isinstance(returned, Tensor) and returned.dtype in (torch.int64, torch.int32):
            returned = returned.tolist()
        is_whole = isinstance(returned, list) and all(type(item) is int for item in returned)
        if not is_whole or len(returned) != len(rows):
            raise refusal(f"for {len(rows)} rows it returned {returned!r:.80}")
        return returned

    logps = torch.linspace(-0.1, -4, 8).repeat(3, 1) * torch.tensor([[0.01], [1.0], [2.0]])
    masked, number = [8, 5, 2], [0, 1, 2]
    logps[1, 5:], logps[2, 2:] = -torch.inf, -torch.inf
    given = logps.clone()
    try:
        with torch.no_grad():
            count(Pass(given, masked[:], number[:]), sampling)
            first = counts_of([0, 1, 2])
            again = counts_of([0, 1, 2])
            alone = [counts_of([row])[0] for row in range(3)]
            in_large_batch = counts_of([0, 1, 2] * MANY)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise refusal(f"on 3 rows of 8 tokens it raised {type(error).__name__}: {error}") from error
    if not torch.equal(given, logps):
        raise refusal("it changed the log-probabilities that it was given. Work on a copy")
    if again != first:
        raise refusal("it returned other numbers the second time")
    if alone != first or in_large_batch != first * MANY:
        raise refusal("the number of a row depends on the other rows, so that it would change with the batch")


@cache
def refuse_order(name: str, order: OwnOrder) -> None:
    """Raises ConfigError unless an order keeps its contract, tried on 3 rows of 8 tokens.

    The contract: it returns finite floating-point numbers of the right shape, changes none of its arguments, draws only
    from the generators that it gets, and gives a row the same priorities whatever the other rows are.
    """

    def priority_of(rows: list[int]) -> Tensor:
        """The priorities that the order gives these of the 3 rows, called with copies and with new generators."""
        copies = logps[rows], places[rows]
        generators = [torch.Generator().manual_seed(row) for row in rows]
        try:
            with torch.no_grad():
                priority = order(*copies, generators)
        except (Exception, SystemExit) as error:
            b = len(rows)
            raise refusal(
                f"order(logps ({b}, 8), places ({b}, 8), {b} generators) raised {type(error).__name__}: {error}"
            ) from error
        if not (torch.equal(copies[0], logps[rows]) and torch.equal(copies[1], places[rows])):
            raise refusal("it changed the tensors that it was given. Work on copies")
        return priority

    def refusal(what: str) -> ConfigError:
        return ConfigError(
            f"$remasking={name}: {what}. An order is a function order(logps (b, n), places (b, n), generators) that "
            "returns a priority for each place, (b, n) floating-point, the largest first, and draws from the "
            "generators alone."
        )

    # The columns are shuffled, so that no row is sorted.
    logps = torch.linspace(-4, -0.1, 24).view(3, 8)[:, [3, 0, 6, 1, 7, 2, 5, 4]]
    places = torch.arange(8, 16).repeat(3, 1)  # the second block of a completion
    rng_before = torch.get_rng_state()
    priority = priority_of([0, 1, 2])
    if not isinstance(priority, Tensor) or priority.shape != (3, 8) or not priority.is_floating_point():
        returned = repr(priority)
        if isinstance(priority, Tensor):
            returned = f"{tuple(priority.shape)} {priority.dtype}"
        raise refusal(f"it returned {returned:.80}, not floating-point priorities of the shape (3, 8)")
    if not priority.isfinite().all():
        raise refusal("it returned priorities that are not finite")
    drew_globally = not torch.equal(torch.get_rng_state(), rng_before)
    if drew_globally or not torch.equal(priority_of([0, 1, 2]), priority):
        raise refusal("it gave other priorities the second time. Draw from the generators, one for each row")
    alone = all(torch.equal(priority_of([row])[0], priority[row]) for row in range(3))
    if not alone or not torch.equal(priority_of([0, 1, 2] * MANY), priority.repeat(MANY, 1)):
        raise refusal(
            "the priorities of a row depend on the other rows, so that they would change with the batch"
        )
