"""Lays a nested mapping (a preset, a YAML file) over a config dataclass; unknown keys and wrong types are errors."""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from spg_trainer.errors import ConfigError

T = TypeVar("T")


def overlay(base: T, values: Mapping[str, Any], source: str, path: str = "") -> T:
    """A copy of `base` with `values` laid over it; dictionaries are merged key by key.

    Raises:
        ConfigError: unknown key or value of the wrong type, naming `source` and the key.
    """
    if not isinstance(values, Mapping):
        place = path.rstrip(".") or "the file"
        raise ConfigError(f"{source}: {place} should hold `name: value` lines, not {values!r}.")
    known = {f.name for f in fields(base)}  # type: ignore[arg-type]
    hints = get_type_hints(type(base))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            parts = [n for n in known if is_dataclass(getattr(base, n))]
            nested = [f"{n}.{key}" for n in parts if hasattr(getattr(base, n), str(key))]
            near = nested or get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(sorted(known))}."
            raise ConfigError(f"{source}: unknown setting {path + str(key)!r}.{hint}")
        current = getattr(base, key)
        if is_dataclass(current):
            changes[key] = overlay(current, value, source, f"{path}{key}.")
        elif isinstance(current, dict):
            changes[key] = {**current, **overlay_pairs(value, source, path + key)}
        else:
            changes[key] = convert(value, hints[key], f"{source}: {path}{key}")
    return replace(base, **changes)  # type: ignore[type-var]


def overlay_pairs(value: Any, source: str, name: str) -> dict[str, Any]:
    """The mapping of a `KEY=VALUE` setting."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{source}: {name} should be a mapping of names to values, not {value!r}.")
    return {str(key): item for key, item in value.items()}


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type: bool, int, float, str, Literal, optional or tuple."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        return convert(value, next(o for o in options if o is not type(None)), where)
    if origin is Literal:
        if value in options:
            return value
        raise ConfigError(f"{where}={value!r}: should be one of {', '.join(map(str, options))}.")
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(convert(item, options[0], where) for item in items)
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:  # YAML 1.1 reads 1e-3 as text
            return float(value)
        except ValueError:
            pass
    if type(value) is hint:
        return value
    raise ConfigError(f"{where}={value!r}: should be of type {getattr(hint, '__name__', hint)}.")
