"""What this package raises on purpose: what is wrong, the value seen, what would be right, the next step."""

import difflib
from collections.abc import Iterable


class EnvError(Exception):
    """An environment that is unknown, misused, or breaks its contract; the text names it and the problem."""


def nearest(name: str, known: Iterable[str]) -> str:
    """'Did you mean "sudoku"? ' for the closest known name (case ignored), or '' if none is close."""
    spelled = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.5)
    return f'Did you mean "{spelled[close[0]]}"? ' if close else ""


def check_choice(env: str, name: str, value: object, known: Iterable[object]) -> None:
    """Raises EnvError, naming the nearest known one, unless the argument `name` of `env` is among `known`."""
    known = list(known)
    # An int is not taken for a bool, nor 1.0 for 1: what is written into a run's config must be what was meant.
    if not any(type(value) is type(one) and value == one for one in known):
        words = [str(one) for one in known]
        raise EnvError(
            f'{env}: {name}="{value}" is unknown. {nearest(str(value), words)}Known: {", ".join(words)}.'
        )
