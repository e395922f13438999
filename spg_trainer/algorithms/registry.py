"""Algorithms by name, and their hyper-parameters from the text that people type."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import import_module

from spg_trainer.errors import ConfigError

if typing.TYPE_CHECKING:
    from spg_trainer.algorithms.base import Algorithm

ALGORITHMS = {
    "spg": "spg_trainer.algorithms.spg:SPG",
    "spg_repro": "spg_trainer.algorithms.spg_repro:SPGRepro",
}
"""Name -> where its class is; imported only when asked for, so that names and help cost nothing."""


def get(name: str) -> type[Algorithm]:
    """The class of an algorithm, e.g. `get("spg")`. Raises ConfigError with the nearest name."""
    if name not in ALGORITHMS:
        raise ConfigError(f"--algorithm {name}: no such algorithm. {_known(name, ALGORITHMS)}")
    module, _, cls = ALGORITHMS[name].partition(":")
    return getattr(import_module(module), cls)


def build(name: str, args: Mapping[str, object] | None = None) -> Algorithm:
    """An algorithm from its name and the values of `--algorithm-args`, text or typed.

    Raises ConfigError for an unknown name, key or value, naming what would be right.
    """
    cls = get(name)
    hints = typing.get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    values = {}
    for key, value in (args or {}).items():
        if key not in known:
            raise ConfigError(
                f"--algorithm-args {key}={value}: {name} has no such setting. {_known(key, known)}"
            )
        values[key] = _coerce(key, value, hints[key])
    return cls(**values)


def _coerce(key: str, value: object, kind: object) -> object:
    """`value` as the field's type: a Literal of words, an int or a float."""
    if typing.get_origin(kind) is typing.Literal:
        words = typing.get_args(kind)
        if value not in words:
            raise ConfigError(f"--algorithm-args {key}={value}: no such choice. {_known(str(value), words)}")
        return value
    number = _number(value)
    if number is None or (kind is int and number != int(number)):
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(
            f"--algorithm-args {key}={value}: {key} is {what}, e.g. {key}={2 if kind is int else 0.5}"
        )
    return int(number) if kind is int else number


def _number(value: object) -> float | None:
    """A finite number, or None; true and false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def _known(word: str, words: Iterable[str]) -> str:
    """`Did you mean 'x'? Known: x, y, z.`"""
    words = list(words)
    near = difflib.get_close_matches(str(word), words, n=1, cutoff=0.5)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(words)}."
