"""Rules of decoding from a file or a module: `--remasking ./mine.py:parity`, `--unmasking ./mine.py:two_then_four`.

A rule must pass a trial first. An order (--remasking) takes log-probabilities (b, n) of the tokens that were drawn for
b rows, the places (b, n) of these tokens in their completions, from 0, and b generators on the model's device. It
returns a priority (b, n), float32: the higher, the earlier a token is unmasked; equal priorities go from left to right.
A row may have columns that are not drawn, with the log-probability -inf; the priorities returned for these are ignored.

A count (--unmasking) is an `UnmaskingRule` (`unmasking.py`), as our own are: count(this_pass, sampling) returns how
many tokens each row unmasks.
"""

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from spg_trainer.errors import ConfigError, did_you_mean
from spg_trainer.rollout.draw import Generators
from spg_trainer.rollout.unmasking import UNMASKING, Pass, UnmaskingRule
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.decoding import Sampling

OwnOrder = Callable[[Tensor, Tensor, Generators], Tensor]
"""The signature of a user's order; the text at the top of this file says what it takes and returns."""


def own_order(name: str) -> OwnOrder:
    """The function behind `./file.py:NAME` or `package.module:NAME`, tried on a small example.

    Raises ConfigError if it cannot be loaded, and for what `refuse_order` finds.
    """
    order = cast(OwnOrder, _load("remasking", name))
    refuse_order(name, order)
    return order


def unmasking_rule(sampling: Sampling) -> UnmaskingRule:
    """The rule of `--unmasking`, by its name in our table, or the user's own, tried on a small example.

    Raises ConfigError if it cannot be loaded, and for what `refuse_count` finds.
    """
    if ":" not in sampling.unmasking:
        return UNMASKING[sampling.unmasking]
    count = cast(UnmaskingRule, _load("unmasking", sampling.unmasking))
    refuse_count(count, sampling)
    return count


def _load(setting: str, name: str) -> Callable[..., object]:
    """The function behind the name that a setting has; ConfigError if there is none, or if its file cannot be run."""
    where, _, function = name.rpartition(":")
    is_file = where.endswith(".py")
    if is_file and not Path(where).is_file():
        raise ConfigError(f"${setting}={name}: there is no file {Path(where)} (looked in {Path.cwd()}).")
    try:
        module = packages.envs.own_files.import_file(where) if is_file else importlib.import_module(where)
    except packages.errors() as error:
        raise ConfigError(f"${setting}={name}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever a user's file can raise
        text = f"${setting}={name}: importing {where} raised {type(error).__name__}: {error}"
        raise ConfigError(text) from error
    rule = getattr(module, function, None)
    if not callable(rule):
        nearest = did_you_mean(function, [known for known, value in vars(module).items() if callable(value)])
        raise ConfigError(f"${setting}={name}: {where} has no function {function}. {nearest}".rstrip())
    return cast("Callable[..., object]", rule)


@cache
def refuse_count(count: UnmaskingRule, sampling: Sampling) -> None:
    """Raises ConfigError unless a count keeps its contract, tried on 3 rows of 8 tokens.

    The contract: it returns a whole number for each row, changes no tensor that it gets, returns the same the second
    time, and counts a row's tokens whatever the other rows are.
    """

    def refusal(what: str) -> ConfigError:
        return ConfigError(
            f"$unmasking={sampling.unmasking}: {what}. A count is a function count(this_pass, sampling) that returns "
            "how many tokens each row unmasks: a list of b whole numbers, or a tensor (b,) of them. this_pass has "
            "logps (b, n), the first to be unmasked first, and masked and number, b numbers each."
        )

    def counts_of(rows: slice) -> list[object]:
        returned = count(Pass(logps[rows].clone(), masked[rows], number[rows]), sampling)
        if isinstance(returned, Tensor) and returned.dtype in (torch.int64, torch.int32):
            returned = returned.tolist()
        is_whole = isinstance(returned, list) and all(type(item) is int for item in returned)
        if not is_whole or len(returned) != len(masked[rows]):
            raise refusal(f"for {len(masked[rows])} rows it returned {returned!r:.80}")
        return returned

    logps = torch.linspace(-0.1, -4, 8).repeat(3, 1) * torch.tensor([[0.01], [1.0], [2.0]])
    masked, number = [8, 5, 2], [0, 1, 2]
    logps[1, 5:], logps[2, 2:] = -torch.inf, -torch.inf
    given = logps.clone()
    try:
        with torch.no_grad():
            count(Pass(given, masked[:], number[:]), sampling)
            first = counts_of(slice(0, 3))
            again = counts_of(slice(0, 3))
            alone = [counts_of(slice(row, row + 1))[0] for row in range(3)]
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise refusal(f"on 3 rows of 8 tokens it raised {type(error).__name__}: {error}") from error
    if not torch.equal(given, logps):
        raise refusal("it changed the log-probabilities that it was given. Work on a copy")
    if again != first:
        raise refusal("it returned other numbers the second time")
    if alone != first:
        raise refusal("the number of a row depends on the other rows, so that it would change with the batch")


@cache
def refuse_order(name: str, order: OwnOrder) -> None:
    """Raises ConfigError unless an order keeps its contract, tried on 3 rows of 8 tokens.

    The contract: it returns finite floating-point numbers of the right shape, changes none of its arguments, draws only
    from the generators that it gets, and gives a row the same priorities whatever the other rows are.
    """

    def priority_of(rows: slice) -> Tensor:
        """The priorities that the order gives these of the 3 rows, called with copies and with new generators."""
        generators = [torch.Generator().manual_seed(row) for row in range(3)][rows]
        with torch.no_grad():
            return order(logps[rows].clone(), places[rows].clone(), generators)

    def refusal(what: str) -> ConfigError:
        return ConfigError(
            f"$remasking={name}: {what}. An order is a function order(logps (b, n), places (b, n), generators) that "
            "returns a priority for each place, (b, n) floating-point, the largest first, and draws from the "
            "generators alone."
        )

    # The columns are shuffled, so that no row is sorted.
    logps = torch.linspace(-4, -0.1, 24).view(3, 8)[:, [3, 0, 6, 1, 7, 2, 5, 4]]
    places = torch.arange(8, 16).repeat(3, 1)  # the second block of a completion
    logps_before, places_before = logps.clone(), places.clone()
    rng_before = torch.get_rng_state()
    try:
        generators = [torch.Generator().manual_seed(row) for row in range(3)]
        with torch.no_grad():
            priority = order(logps, places, generators)
    except (Exception, SystemExit) as error:
        raise refusal(
            f"order(logps (3, 8), places (3, 8), 3 generators) raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(priority, Tensor) or priority.shape != (3, 8) or not priority.is_floating_point():
        returned = repr(priority)
        if isinstance(priority, Tensor):
            returned = f"{tuple(priority.shape)} {priority.dtype}"
        raise refusal(f"it returned {returned:.80}, not floating-point priorities of the shape (3, 8)")
    if not priority.isfinite().all():
        raise refusal("it returned priorities that are not finite")
    if not (torch.equal(logps, logps_before) and torch.equal(places, places_before)):
        raise refusal("it changed the tensors that it was given. Work on copies")
    priority = priority.clone()
    drew_globally = not torch.equal(torch.get_rng_state(), rng_before)
    if drew_globally or not torch.equal(priority_of(slice(0, 3)), priority):
        raise refusal("it gave other priorities the second time. Draw from the generators, one for each row")
    if not all(torch.equal(priority_of(slice(row, row + 1))[0], priority[row]) for row in range(3)):
        raise refusal(
            "the priorities of a row depend on the other rows, so that they would change with the batch"
        )
