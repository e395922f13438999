"""Values as people type them: `KEY=VALUE` words, and nested mappings (YAML, JSON) laid over a dataclass.

pydantic would do the second, but adds 0.25 s to every `--help`; this adds none.
"""

import math
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from spg_trainer.errors import ConfigError, did_you_mean

T = TypeVar("T")
NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "names with values",
}


def parse_pairs(words: Sequence[str]) -> dict[str, object]:
    """`["a=1", "b=x"]` -> `{"a": 1, "b": "x"}`. Raises ValueError on a word without `=`, a repeated key, or no pair."""
    pairs: dict[str, object] = {}
    if not words:
        raise ValueError("needs at least one KEY=VALUE pair")
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"{word!r} is not of the form KEY=VALUE")
        if key in pairs:
            raise ValueError(f"{key!r} is given twice")
        pairs[key] = scalar(value)
    return pairs


def scalar(text: str) -> object:
    """An int or float by Python's own rules (YAML 1.1 reads 1e-3 as text and 4:11 as a number), bool, None or text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def overlay(base: T, values: Any, source: str, path: str = "") -> T:
    """A copy of the dataclass `base` with nested `values` laid over it; dicts are merged by key.

    source: what an error calls the place where the values stand. Raises ConfigError for an unknown key or wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {path.rstrip('.')} should hold `name: value` lines, not {values!r}.")
    below = {f.name: getattr(base, f.name) for f in fields(base)}  # type: ignore[arg-type]
    nested = {key: value for key, value in values.items() if is_dataclass(below.get(key))}
    plain = {key: value for key, value in values.items() if key not in nested}
    changes = convert_fields(type(base), plain, f"{source}:", path)
    changes |= {key: overlay(below[key], value, source, f"{path}{key}.") for key, value in nested.items()}
    pairs = {
        k: {**below[k], **{str(n): v for n, v in d.items()}}
        for k, d in changes.items()
        if isinstance(d, dict)
    }
    return replace(base, **{**changes, **pairs})  # type: ignore[type-var]


def convert_fields(cls: type, values: Mapping[str, Any], source: str, path: str = "") -> dict[str, Any]:
    """The values by name as the fields of a dataclass have them; ConfigError for an unknown name or wrong type."""
    hints, typed = get_type_hints(cls), {}
    names = [f.name for f in fields(cls)]
    for key, value in values.items():
        if key not in names:
            parts = [part for part in names if key in getattr(hints[part], "__dataclass_fields__", ())]
            nearest = f"Did you mean '{parts[0]}.{key}'? " if parts else did_you_mean(key, names)
            raise ConfigError(
                f"{source} no setting {path}{key} (={value!r}). {nearest}Known: {', '.join(names)}."
            )
        typed[key] = convert(value, hints[key], f"{source} {path}{key}")
    return typed


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value`, text or typed, as the annotated type: a scalar, Literal, optional, dict or tuple; else ConfigError."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):  # `... | None`
        return None if value in (None, "none", "None") else convert(value, options[0], where)
    if origin is Literal:
        if value in options:
            return value
        raise ConfigError(
            f"{where}={value!r}: expected one of {', '.join(options)}. {did_you_mean(value, options)}".rstrip()
        )
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        return tuple(
            convert(i, options[0], where) for i in (items if isinstance(items, list | tuple) else [items])
        )
    kind = origin or hint
    read = scalar(value) if isinstance(value, str) and kind is not str else value
    if kind is float and type(read) is int:
        read = float(read)
    if type(read) is not kind or (kind is float and not math.isfinite(read)):
        raise ConfigError(f"{where}={value!r}: expected {NAMES.get(kind, kind.__name__)}.")
    return read


def flatten(tree: Mapping[str, Any], ignore: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`, without the dotted names in `ignore`; an empty mapping leaves nothing."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name not in ignore:
            leaves |= flatten(value, ignore, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return leaves
