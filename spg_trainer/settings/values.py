"""Values as people type them: `KEY=VALUE` words, and nested mappings (flags, YAML, JSON) laid over a dataclass.

pydantic would do the second in some thirty lines less, for 0.16 s of every start.
"""

import json
import math
import re
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from functools import cache
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


def read_word(flag: str, word: str) -> tuple[str, dict[str, object]]:
    """`spg:negatives=elbo,num_masks=4` -> ("spg", {"negatives": "elbo", "num_masks": 4}); values may hold commas."""
    name, *rest = re.split(r":(?=\w+=)", word, maxsplit=1)
    return name, parse_pairs(re.split(r",(?=\w+=)", rest[0]), f"{flag} {word}") if rest else {}


def scalar(text: str) -> object:
    """An int or float by Python's own rules (YAML 1.1 reads 1e-3 as text and 4:11 as a number), bool, None or text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


@cache
def hints(cls: type) -> dict[str, Any]:
    """The type of each field of a dataclass, without `Annotated`."""
    known = get_type_hints(cls)
    return {field.name: known[field.name] for field in fields(cls)}


@cache
def settings_of(cls: type, path: str = "") -> dict[str, tuple[str, Any]]:
    """{name of a setting: (its dotted name, its type)} of a command, in which each name is there once.

    `{"block_length": ("rollout.block_length", int), ...}`.
    """
    found: dict[str, tuple[str, Any]] = {}
    for name, hint in hints(cls).items():
        dotted = f"{path}{name}"
        found |= settings_of(hint, f"{dotted}.") if is_dataclass(hint) else {name: (dotted, hint)}
    return found


def read_nested(cls: type, values: Any, shown: Callable[[str], str], path: str = "") -> dict[str, Any]:
    """Nested values for a dataclass by dotted name, each converted to its type: `{"batch.num_generations": 6}`.

    A key of a dict field is a name of its own: `env_args.blanks`. shown: how an error writes a dotted name, with the
    place where it stands. Raises ConfigError for an unknown key or a wrong type.
    """
    if not isinstance(values, Mapping):
        group = path.rstrip(".")
        own = group.rpartition(".")[2]
        nearest = f" Did you mean {own}: {{{own}: {values}}}?" if own in hints(cls) else ""
        raise ConfigError(f"{shown(group or 'it')} should hold `name: value` lines, not {values!r}.{nearest}")
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        name, hint = f"{path}{key}", hints(cls).get(key)
        if hint is None:
            groups = {group: hints(inner) for group, inner in hints(cls).items() if is_dataclass(inner)}
            having = [group for group, names in groups.items() if key in names]
            nearest = f"Did you mean '{having[0]}.{key}'? " if having else did_you_mean(key, hints(cls))
            known = ", ".join(hints(cls))
            raise ConfigError(f"{shown(name)}={value!r}: no such setting. {nearest}Known: {known}.")
        if is_dataclass(hint):
            leaves |= read_nested(hint, value, shown, f"{name}.")
        else:
            leaves |= read_leaf(name, value, hint, shown(name))
    return leaves


def read_leaf(name: str, value: Any, hint: Any, where: str) -> dict[str, Any]:
    """One setting by its dotted name, converted to its type; of a dict each key, `env_args.blanks`."""
    read = convert(value, hint, where)
    return {f"{name}.{key}": item for key, item in read.items()} if isinstance(read, dict) else {name: read}


def replace_nested(base: T, leaves: Mapping[str, Any]) -> T:
    """A copy of a dataclass with values by dotted name, as `read_nested` returns them, in place of its own.

    `batch.num_generations` is a setting of a group, `env_args.blanks` a key of a dict, which keeps its others.
    """
    by_field: dict[str, dict[str, Any]] = {}
    for name, value in leaves.items():
        field_name, _, rest = name.partition(".")
        by_field.setdefault(field_name, {})[rest] = value
    changes: dict[str, Any] = {}
    for field_name, inner in by_field.items():
        old = getattr(base, field_name)
        if is_dataclass(old):
            changes[field_name] = replace_nested(old, inner)
        elif isinstance(old, dict):
            changes[field_name] = old | inner
        else:
            changes[field_name] = inner[""]  # a name without a dot has no rest
    return replace(base, **changes)  # type: ignore[type-var]


def overlay(base: T, values: Any, source: str) -> T:
    """A copy of the dataclass `base` with nested `values` laid over it; dicts are merged by key.

    source: what an error calls the place where the values stand. Raises ConfigError as `read_nested`.
    """
    return replace_nested(base, read_nested(type(base), values, lambda name: f"{source} {name}"))


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value`, text or typed, as the annotated type: a scalar, Literal, optional, dict or tuple; else ConfigError."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if type(None) in options:
            return None if value in (None, "none", "None") else convert(value, options[0], where)
        read = scalar(value) if isinstance(value, str) else value  # `int | str`: a number where it is one
        return read if type(read) in options else str(value)
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
