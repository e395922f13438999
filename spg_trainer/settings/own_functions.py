"""Loads a function of the user's, which a setting names by its file or module: `./mine.py:NAME`."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from spg_trainer.errors import ConfigError, did_you_mean
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use


def load_function(setting: str, name: str) -> Callable[..., object]:
    """The function behind `./file.py:NAME` or `package.module:NAME`, which is the value of a setting.

    Raises ConfigError if there is none, or if its file cannot be run.
    """
    where, _, function = name.rpartition(":")
    is_file = where.endswith(".py")
    if is_file and not Path(where).is_file():
        raise ConfigError(f"${setting}={name}: there is no file {Path(where)} (looked in {Path.cwd()}).")
    try:
        module = packages.envs.own_files.import_file(where) if is_file else import_module(where)
    except packages.errors() as error:
        raise ConfigError(f"${setting}={name}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever a user's file can raise
        text = f"${setting}={name}: importing {where} raised {type(error).__name__}: {error}"
        raise ConfigError(text) from error
    found: Callable[..., object] | None = getattr(module, function, None)
    if not callable(found):
        nearest = did_you_mean(function, [known for known, value in vars(module).items() if callable(value)])
        raise ConfigError(f"${setting}={name}: {where} has no function {function}. {nearest}".rstrip())
    return found
