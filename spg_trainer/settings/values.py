"""Values as people type them: `KEY=VALUE` words, and nested mappings (flags, YAML, JSON) laid over a dataclass.

pydantic would do the second in some thirty lines less, for 0.16 s of every start.
"""

import json
import math
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from spg_trainer.errors import ConfigError, did_you_mean

T = TypeVar("T")
NAMES = {int: "a whole number", float: "a number", str: "text", dict: "names with values"}


def parse_pairs(words: Sequence[str], where: str) -> dict[str, object]:
    """`["a=1", "b=x"]` -> `{"a": 1, "b": "x"}`; ConfigError, at `where`, for other words or a key given twice."""
    pairs: dict[str, object] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key or key in pairs:
            problem = "gives a key twice" if key in pairs else "is not of the form KEY=VALUE"
            raise ConfigError(f"{where}: {word} {problem}.")
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
        raise ConfigError(f"{source} {path or 'it'} should hold `name: value` lines, not {values!r}.")
    hints, changes = get_type_hints(type(base)), {}
    below = {field.name: getattr(base, field.name) for field in fields(base)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in below:
            parts = [part for part, inner in below.items() if is_dataclass(inner) and hasattr(inner, key)]
            nearest = f"Did you mean '{parts[0]}.{key}'? " if parts else did_you_mean(key, below)
            known = ", ".join(below)
            raise ConfigError(f"{source} no setting {path}{key} (={value!r}). {nearest}Known: {known}.")
        if is_dataclass(below[key]):
            changes[key] = overlay(below[key], value, source, f"{path}{key}.")
            continue
        changes[key] = convert(value, hints[key], f"{source} {path}{key}")
        if isinstance(below[key], dict):
            changes[key] = below[key] | {str(name): item for name, item in changes[key].items()}
    return replace(base, **changes)  # type: ignore[type-var]


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value`, text or typed, as the annotated type: a scalar, Literal, optional, dict or tuple; else ConfigError."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):  # `... | None`
        return None if value in (None, "none", "None") else convert(value, options[0], where)
    if origin is Literal:
        if value in options:
            return value
        words = f"one of {', '.join(options)}. {did_you_mean(value, options)}".rstrip()
        raise ConfigError(f"{where}={value!r}: expected {words}")
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        items = items if isinstance(items, list | tuple) else [items]
        return tuple(convert(item, options[0], where) for item in items)
    kind = origin or hint
    read = scalar(value) if isinstance(value, str) and kind is not str else value
    if kind is float and type(read) is int:
        read = float(read)
    if type(read) is not kind or (kind is float and not math.isfinite(read)):
        raise ConfigError(f"{where}={value!r}: expected {NAMES.get(kind, 'true or false')}.")
    return read


def plain(settings: Any) -> dict[str, Any]:
    """Settings as JSON and YAML know them: nested dicts of scalars and lists, the rest as text."""
    values = settings if isinstance(settings, Mapping) else asdict(settings)
    return json.loads(json.dumps(values, default=str))


def flatten(tree: Mapping[str, Any], ignore: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`, without the dotted names in `ignore`; an empty mapping leaves nothing."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name not in ignore:
            leaves |= flatten(value, ignore, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return leaves
