"""Where a line holds its completions and references: dotted names, the names other tools use, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from verifiers.command.lines import LineError
from verifiers.reward import unwrap

Names = tuple[str, ...]  # of one field, the first that a line has counts

_ABSENT = object()
_SHOWN = 24  # field names in an error


class Preset(NamedTuple):
    """How a tool names things; `{}` is a reference field of the task."""

    completion: Names
    references: Names
    answer: Names
    """Further names where the task has one reference field."""


PRESETS = {
    "lm-eval": Preset(("resps",), ("doc.{}",), ("target",)),
    "trl": Preset(("completion",), ("{}",), ("solution", "answer", "ground_truth")),
    "verl": Preset(
        ("output", "responses"), ("{}", "extra_info.{}"), ("gts", "reward_model.ground_truth", "ground_truth")
    ),
    "qa": Preset(("response",), ("{}",), ("answer",)),
}


def reference_names(preset: Preset | None, fields: Iterable[str]) -> dict[str, Names]:
    """Reference field -> its names in a file of that tool."""
    fields = tuple(fields)
    if preset is None:
        return {field: (field,) for field in fields}
    further = preset.answer if len(fields) == 1 else ()
    return {field: (*(name.format(field) for name in preset.references), *further) for field in fields}


def columns_of(names: Iterable[str]) -> set[str]:
    """The columns of a table in which fields of these names may lie."""
    return {column for name in names for column in (name, name.partition(".")[0])}


def find_field(row: dict[str, Any], names: Names) -> Any:
    """The value of the first of `names` that the row has, `is_absent` if none.

    A dot goes into an object, or into a list by position; a key that holds the dot itself comes first.
    """
    for name in names:
        if name in row:
            return row[name]
        value = _walk(row, name.split(".")) if "." in name else _ABSENT
        if value is not _ABSENT:
            return value
    return _ABSENT


def is_absent(value: object) -> bool:
    return value is _ABSENT


def _walk(value: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
    return value


def read_sample(row: dict[str, Any], completion: Names, references: Iterable[Names]) -> tuple[Any, list[Any]]:
    """(completion, references) of a row; raises LineError that names every field it lacks, and those it has."""
    wanted = (completion, *references)
    values = [find_field(row, names) for names in wanted]
    if not any(map(is_absent, values)):
        return values[0], values[1:]
    missing = [place for place, value in enumerate(values) if value is _ABSENT]
    lacking = " and ".join(" or ".join(f'"{name}"' for name in wanted[place]) for place in missing)
    there = ", ".join(_names_in(row)[:_SHOWN]) or "nothing"
    flags = ["--completion-field"] * (0 in missing) + ["--answer-field"] * (missing[-1] > 0)
    raise LineError(
        f"lacks {lacking}; it has {there}. Name the right field{'s' * (len(missing) > 1)} with {' and '.join(flags)}."
    )


def _names_in(row: dict[str, Any]) -> list[str]:
    names = []
    for name, value in row.items():
        names += [f"{name}.{inner}" for inner in value] if isinstance(value, dict) and value else [name]
    return names


def completions_in(value: object, levels: int = 2) -> list[object]:
    """The completions in a field: one, or those of a list of texts, of chats, or of such lists."""
    listed = isinstance(value, list) and all(isinstance(item, list | str) or item is None for item in value)
    if not (listed and value and levels):
        return [unwrap(value)]
    return [completion for item in value for completion in completions_in(item, levels - 1)]
