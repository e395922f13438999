"""The errors of this package, and the check of arguments that raises them most often."""

from collections.abc import Iterable

from verifiers.errors import did_you_mean


class EnvError(Exception):
    """An environment that is unknown, misused, or breaks its contract; the text names it and the problem."""


class MissingPackage(EnvError):
    """An environment that needs a package which is not installed; the text says how to get it."""


class NoDemonstration(EnvError):
    """An environment, or one of its problems, whose author gave no demonstration; the text says what would do."""


class JudgeFailed(EnvError):
    """An `async` reward function that raised; what it asks may answer the next time."""


class DataUnavailable(EnvError):
    """A published data set that cannot be had here; the text says where it comes from and what would do instead."""


def check_choice(env: str, name: str, value: object, known: Iterable[object], other: str = "") -> None:
    """Raises EnvError, naming the nearest known one, unless the argument `name` of `env` is among `known`.

    other: what else would do, as the end of a sentence.
    """
    known = list(known)
    # An int is not taken for a bool, nor 1.0 for 1: what is written into a run's config must be what was meant.
    if not any(type(value) is type(one) and value == one for one in known):
        words = [str(one) for one in known if one is not None]
        hint = did_you_mean(value, words)
        more = f", {other}" if other else ""
        raise EnvError(f'{env}: {name}="{value}" is unknown. {hint}Known: {", ".join(words)}{more}.')
