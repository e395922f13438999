"""The errors that the trainer raises on purpose.

A message says what is wrong, the value seen, what would be right, and the next step.

A message names a setting as the command line does, `--block-length 0`, also to a caller from Python. It is written as
`$block_length=0`.
"""

import re
from collections.abc import Callable, Iterable
from functools import wraps
from importlib import import_module
from inspect import Parameter, signature
from pathlib import PurePath
from typing import Any, TypeVar, cast, get_args

Function = TypeVar("Function", bound=Callable[..., Any])

SETTINGS: set[str] = set()
"""The names of all settings; filled by `settings/types.py`. In messages, any other `$name` stays as it is."""
SETTINGS_MODULE = "spg_trainer.settings.configs"
"""The module that is imported when a message with a `$` is shown, so that all settings are known then."""
QUOTED = r"""(?<!\w)(?:'[^'\n]*'|"[^"\n]*")(?!\w)"""
"""A text in quotes; the apostrophe of a word is no quote."""
NAMED = re.compile(
    rf"{QUOTED}|"  # taken whole, so that no setting is found in it
    r"""(?<![\w'"/=.$\\-])\$([a-z][a-z0-9_]*)"""  # $name
    r"(=?)"  # whether a value follows
)
"""A setting in a message: its name, and whether its value follows. What stands in quotes, or behind an equals sign or a
slash, is the user's own text, whatever it holds."""


class SpgError(Exception):
    """Base of all errors raised by `spg_trainer`; the command line prints its text alone and exits with 2."""

    def __str__(self) -> str:
        return in_flags(super().__str__())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class ConfigError(SpgError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class ModelError(SpgError, ValueError):
    """A model folder, hub id or tokenizer that cannot be used."""


class CheckpointError(SpgError, RuntimeError):
    """A run folder or checkpoint that cannot be read, written or continued."""


class TrainingError(SpgError, RuntimeError):
    """A run that must stop: gradients stay non-finite, or the environment fails too often."""


class ScoringFailed(TrainingError):
    """Too many completions could not be scored: the task's code failed. The code that ends the run sets `go_on`."""

    def __init__(self, what: str, traceback: str = "") -> None:
        super().__init__(what, traceback)
        self.go_on = ""
        """The settings that continue the run, each with a `$`; "" = there is none to continue."""

    def __str__(self) -> str:
        what, traceback = self.args
        shown = f"The environment raised\n{traceback.rstrip()}\n" if traceback else ""
        then = f"continue with {self.go_on}" if self.go_on else "start again"
        return in_flags(f"{shown}{what} Fix the environment, then {then}.")


class ProcessLost(TrainingError):
    """Another process of the run has not answered in time."""


def written(error: BaseException) -> str:
    """The text of an error with flags. An error of `envs` shows them so only here; its `str` has Python's keywords."""
    write = getattr(error, "written", None)
    return str(write()) if write else str(error)


def as_flag(name: str) -> str:
    """`optimizer.learning_rate` -> `--learning-rate`."""
    _, _, own_name = name.rpartition(".")
    return f"--{own_name.replace('_', '-')}"


def in_flags(message: str) -> str:
    """A message with flags: `$block_length=0` -> `--block-length 0`, `$mix right=1` -> `--mix right=1`."""
    if "$" not in message:
        return message
    import_module(SETTINGS_MODULE)

    def flag(found: re.Match[str]) -> str:
        """The setting that was found, as a flag; as it was written if its name is no setting, or stands in quotes."""
        name, equals = found.groups()
        return f"{as_flag(name)}{' ' if equals else ''}" if name in SETTINGS else found[0]

    return NAMED.sub(flag, message)


def first_line(error: Exception) -> str:
    """The first line of an error, without its full stop."""
    return (written(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def python_value(value: Any) -> Any:
    """A value as a plain one of Python; a value of any other type is returned as it is.

    A number of numpy or a tensor without axes becomes a number, a path becomes its text, and a number type of torch
    becomes its name (`bfloat16`).
    """
    if isinstance(value, PurePath):
        return str(value)
    if type(value).__name__ == "dtype" and str(value).startswith("torch."):  # torch need not be imported
        return str(value).removeprefix("torch.")
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def naming_keywords(function: Function) -> Function:
    """The function, wrapped so that an unknown keyword is refused with the name of the nearest one that it has.

    The function is called with `python_value` of each argument. A keyword that is None counts as not given, as in
    `defaults`. One that takes an `int` refuses anything else, and one that takes a `bool` anything but True and False:
    the text "false" would count as true.
    """
    known = signature(function).parameters
    whole_numbers = {name for name, parameter in known.items() if parameter.annotation is int}
    truth_values = {name for name, parameter in known.items() if parameter.annotation is bool}
    # `sampling: Sampling | None` has the settings of decoding as its fields.
    settings_class = get_args(known["sampling"].annotation)[0] if "sampling" in known else None

    @wraps(function)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        for name in keywords.keys() - known.keys():
            near = did_you_mean(name, known)
            if settings_class and not near and name in settings_class.__dataclass_fields__:
                near = (
                    f"Settings of decoding are passed as one argument: sampling=Sampling({name}=..., ...). "
                )
            takes = ", ".join(known)
            raise ConfigError(f"{function.__name__}({name}=...): no such argument. {near}Known: {takes}.")
        given = [python_value(value) for value in arguments]
        named = {
            name: python_value(value)
            for name, value in keywords.items()
            if value is not None or known[name].default is Parameter.empty
        }
        given_by_name = dict(zip(known, given, strict=False))  # `known` has the parameters in their order
        for name, value in {**given_by_name, **named}.items():
            is_int = isinstance(value, int) and not isinstance(value, bool)
            if name in whole_numbers and not is_int:
                raise ConfigError(f"{function.__name__}({name}={value!r:.60}): should be a whole number.")
            if name in truth_values and not isinstance(value, bool):
                raise ConfigError(f"{function.__name__}({name}={value!r:.60}): should be True or False.")
            if name == "seed" and value < 0:
                raise ConfigError(f"{function.__name__}(seed={value}): should be 0 or more.")
        return function(*given, **named)

    return cast("Function", checked)


def plural(n: int, noun: str) -> str:
    """A number with its noun: "1 line", "2 lines"."""
    from spg_trainer.settings.packages import verifiers

    return verifiers.errors.plural(n, noun)


def did_you_mean(word: object, known: Iterable[str], shown_as: str = "'{}'") -> str:
    """`Did you mean 'sudoku'? ` for the known name nearest to `word`; "" if none is near.

    shown_as: how the name is shown, e.g. `--{}` for a flag.
    """
    from spg_trainer.settings.packages import verifiers

    return verifiers.errors.did_you_mean(word, known, shown_as)
