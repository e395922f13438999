"""Reads completions and references from rows of files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from verifiers.errors import LineError
from verifiers.reward import unwrap

_PUZZLE = re.compile(r"Sudoku puzzle: ([0-9]{16})")
_ABSENT = object()  # stands for the value of a column that a row does not have
MAX_COLUMNS_NAMED = 24  # how many columns of a line an error names
Names = tuple[str, ...]  # possible names of a field; the first that a line has counts


class LacksField(LineError):
    """A line lacks some of the wanted fields; the text says which ones, and which columns the line has.

    `places` are the numbers of the missing fields among the wanted ones.
    """

    def __init__(self, message: str, places: Sequence[int]) -> None:
        super().__init__(message)
        self.places = places


def read_sample(row: dict[str, Any], wanted: Sequence[Names]) -> list[Any]:
    """The value of each wanted field of a row, in the order of `wanted`.

    wanted: the possible names of each field. Raises LacksField, which names every missing field, and LineError for a
    request of a batch that failed.
    """
    if is_batch_output(row) and (row["error"] or not succeeded(row["response"])):
        raise LineError("is a request that failed; it has no completion to judge.")
    values = [_find(row, names) for names in wanted]
    missing = [place for place, value in enumerate(values) if value is _ABSENT]
    if missing:
        possible_names = [" or ".join(f'"{name}"' for name in wanted[place]) for place in missing]
        lacking = " and ".join(possible_names)
        columns_there = ", ".join(_column_names(row)[:MAX_COLUMNS_NAMED])
        # Of the fields of a sample, 0 is the completion, and the others are references.
        lacks_reference = missing[-1] > 0
        # Only the default is ("completion",). A batch has its completions in a column that a preset or a flag names.
        completion_is_no_problem = 0 not in missing or wanted[0] == ("completion",)
        if is_batch_output(row) and lacks_reference and completion_is_no_problem:
            raise LineError(
                f"lacks {lacking}, as all outputs of a batch do. Give --references FILE --on custom_id."
            )
        # Columns whose names differ from the missing ones only by capitals or by spaces around them.
        columns = {name.casefold().strip(): name for name in row}
        near = [columns.get(name.casefold().strip()) for place in missing for name in wanted[place]]
        meant = " and ".join(f'"{name}"' for name in near if name)
        hint = f" Is {meant} meant?" if meant else ""
        raise LacksField(f"lacks {lacking}; it has {columns_there or 'nothing'}.{hint}", missing)
    return values


def _column_names(row: dict[str, Any]) -> list[str]:
    """The columns of a row as an error lists them: for a column that holds an object, column.key for each key."""
    names: list[str] = []
    for column, value in row.items():
        no_key = ""
        keys = list(value) if isinstance(value, dict) and value else [no_key]
        names += [_shown(f"{column}.{key}" if key else column) for key in keys]
    return names


def _shown(column: str) -> str:
    """The name of a column as a list shows it: in quotes if it begins or ends with spaces, so that they are seen."""
    return f'"{column}"' if column != column.strip() else column


def is_batch_output(row: dict[str, Any]) -> bool:
    """True if a row is a request in the output of OpenAI's batch API."""
    return {"custom_id", "response", "error"} <= row.keys()


def succeeded(response: Any) -> bool:
    """True if the response to a request of a batch is an answer and no error; a status may be left out."""
    return isinstance(response, dict) and response.get("status_code") in (None, 200)


def has(row: dict[str, Any], names: Names) -> bool:
    """True if a row has a column with one of these names."""
    return _find(row, names) is not _ABSENT


def has_completion(row: dict[str, Any], names: Names) -> bool:
    """True if a row has one of these names and a text or a list there; an object is no completion."""
    return isinstance(_find(row, names), str | list)


def columns_of(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """{name: its value} for those of the `names` that a row has."""
    found = {name: _find(row, (name,)) for name in names}
    return {name: value for name, value in found.items() if value is not _ABSENT}


def as_text(value: Any) -> str:
    """A value as text, for comparing and counting: the number 7 and the text "7" are equal."""
    return value if isinstance(value, str) else json.dumps(value)


def _find(row: dict[str, Any], names: Names) -> Any:
    """The value of the first of `names` that the row has, else _ABSENT.

    A name with a dot, such as a.b, is the column of that name or, if there is none, field b inside column a.
    """
    for name in names:
        value = row.get(name, _ABSENT)
        if value is _ABSENT and "." in name:
            value = _follow(row, name.split("."))
        if value is not _ABSENT:
            return value
    return _ABSENT


def _follow(value: Any, parts: Sequence[str]) -> Any:
    """The value at nested names such as choices.0.text, else _ABSENT; a number is a place in a list, `*` every item."""
    inner = value
    for depth, part in enumerate(parts, 1):
        outer = _parsed(inner)
        if isinstance(outer, list) and part == "*":
            items = [_follow(item, parts[depth:]) for item in outer]
            return _ABSENT if _ABSENT in items else items
        if isinstance(outer, list) and part.isdecimal() and int(part) < len(outer):
            inner = outer[int(part)]
        else:
            inner = outer.get(part, _ABSENT) if isinstance(outer, dict) else _ABSENT
    return inner


def _parsed(value: Any) -> Any:
    """The object in a JSON text, which tables have in place of objects; any other value as it is."""
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] == "{" else value
    except ValueError:
        return value


def completions_in(value: object, levels: int = 2) -> list[object]:
    """The completions in a field, each as `unwrap` gives it: one, or those of all items if the field is a list of them.

    The items of such a list are texts, chats (lists of messages), lists of these, or None for a completion that is
    missing. levels: how deep such lists may be nested.
    """
    # A chat is a list of objects, and so has no such items.
    has_items = isinstance(value, list) and all(isinstance(item, list | str | None) for item in value)
    if not has_items or not value or not levels:
        return [unwrap(value)]
    return [completion for item in value for completion in completions_in(item, levels - 1)]


def integers_in(value: object) -> object:
    """The list of the integers in a text such as "[1, 2, 3]" or "1 2 3"; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        integers = [int(part) for part in value.strip("[] ").replace(",", " ").split()]
        return integers or value  # a text without integers stays as it is
    except ValueError:
        return value


def puzzle_in(value: object) -> object:
    """The 16 digits of the puzzle in a question of d1's evaluation files; any other value as it is."""
    match = _PUZZLE.search(value) if isinstance(value, str) else None
    return match[1] if match else value
