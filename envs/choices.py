"""One check for constructor arguments that take a word from a short list."""

from collections.abc import Iterable

from envs.errors import EnvError, nearest


def check_choice(env: str, name: str, value: object, known: Iterable[object]) -> None:
    """Raises EnvError, naming the nearest known one, unless `value` is among `known`.

    env: the environment's short name; name: the argument's name.
    """
    known = list(known)
    # An int is not taken for a bool, nor 1.0 for 1: what is written into a run's config must be what was meant.
    if not any(type(value) is type(one) and value == one for one in known):
        words = [str(one) for one in known]
        raise EnvError(
            f'{env}: {name}="{value}" is unknown. {nearest(str(value), words)}Known: {", ".join(words)}.'
        )
