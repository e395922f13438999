"""The errors of this package, and the check of arguments that raises them most often."""

from collections.abc import Iterable, Sequence

from verifiers.errors import did_you_mean


class EnvError(Exception):
    """An environment that is unknown, misused, or breaks its contract; the text names it and the problem."""


class MissingPackage(EnvError):
    """An environment that needs a package which is not installed; the text says how to get it."""


class NoDemonstration(EnvError):
    """An environment, or one of its problems, whose author gave no demonstration; the text says how to give one."""


class JudgeFailed(EnvError):
    """An `async` reward function that raised; what it asks may answer the next time."""


class BadRows(EnvError):
    """Some rows of a file of the user's that cannot be used; the text names those that `refused_rows` shows."""


class DataUnavailable(EnvError):
    """A published data set that is not here and cannot be downloaded; the text names it and what to use instead."""


SHOWN_ROWS = 10
"""Rows that cannot be used and are named; the others are counted."""


def refused_rows(file: str, wrong: Sequence[str], count: int) -> EnvError:
    """The error for rows that cannot be used: BadRows, or EnvError where it is all of them.

    All of them have most likely been asked for by a wrong name of a column. wrong: what is to be said of each, at least
    one, in the order of the file. count: how many rows the file has.
    """
    if len(wrong) == count > 1:
        return EnvError(f"{wrong[0]} None of the other {count - 1:,} rows of {file} can be used either.")
    if len(wrong) == 1:
        return BadRows(wrong[0])
    more = [f"... and {len(wrong) - SHOWN_ROWS:,} more."] if len(wrong) > SHOWN_ROWS else []
    head = f"{len(wrong):,} of {count:,} rows of {file} cannot be used:"
    return BadRows("\n  ".join([head, *wrong[:SHOWN_ROWS], *more]))


def check_choice(env: str, name: str, value: object, known: Iterable[object], other: str = "") -> None:
    """Raises EnvError, naming the nearest known value, unless the argument `name` of `env` has one of the `known` ones.

    other: what else is allowed, for the list of known values in the error, e.g. "or the path of a file".
    """
    known = list(known)
    # An int is not taken for a bool, nor 1.0 for 1: what is written into a run's config must be what was meant.
    if not any(type(value) is type(choice) and value == choice for choice in known):
        words = [str(choice) for choice in known if choice is not None]
        hint = did_you_mean(value, words)
        or_other = f", {other}" if other else ""
        raise EnvError(f'{env}: {name}="{value}" is unknown. {hint}Known: {", ".join(words)}{or_other}.')
