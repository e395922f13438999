"""Reads completions and references from rows of files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from verifiers.errors import LineError
from verifiers.reward import unwrap

_INTEGERS = re.compile(r"[\[\s]*([+-]?\d{1,300}(?:[\s,]+[+-]?\d{1,300})*)[\]\s,]*")
_PUZZLE = re.compile(r"Sudoku puzzle: ([0-9]{16})")
_ABSENT = object()  # stands for the value of a column that a row does not have
MAX_COLUMNS_NAMED = 24  # how many columns of a line an error names
Names = tuple[str, ...]  # possible names of a field; the first that a line has counts
Columns = dict[str, Names]  # {"completion" or a field of the reference: the possible names of its column}


class LacksField(LineError):
    """A line lacks some of the wanted `fields`; the text says which ones, and which columns the line has."""

    fields: Sequence[str] = ()


def read_sample(
    row: Mapping[str, Any], wanted: Mapping[str, Names], flags: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """{field: its value in a row}, for each wanted field. flags: {field: the flag that names its column}, for advice.

    Raises LacksField, which names every missing field, and LineError for a request of a batch that failed.
    """
    # The output of OpenAI's batch API. A request that was answered has the status 200, or none is written.
    is_of_batch = {"custom_id", "response", "error"} <= row.keys()
    if is_of_batch:
        response = row["response"]
        if row["error"] or not isinstance(response, dict) or response.get("status_code") not in (None, 200):
            raise LineError("is a request that failed; it has no completion to judge.")
    values = {field: _find(row, names) for field, names in wanted.items()}
    missing = [field for field, value in values.items() if value is _ABSENT]
    if not missing:
        return values
    lacking = " and ".join(" or ".join(f'"{name}"' for name in wanted[field]) for field in missing)
    columns_there = ", ".join(_column_names(row)[:MAX_COLUMNS_NAMED])
    # Columns whose names differ from the missing ones only by capitals or by spaces around them.
    columns = {name.casefold().strip(): name for name in row}
    near = [columns.get(name.casefold().strip()) for field in missing for name in wanted[field]]
    meant = " and ".join(f'"{name}"' for name in near if name)
    hint = f" Is {meant} meant?" if meant else ""
    remedy = f" Give {' and '.join(flags[field] for field in missing)}." if flags else ""
    if is_of_batch and missing != ["completion"]:
        remedy = " Give --references FILE --on custom_id, as no output of a batch has a reference."
    error = LacksField(f"lacks {lacking}; it has {columns_there or 'nothing'}.{hint}{remedy}")
    error.fields = missing
    raise error


def read_completions(
    row: Mapping[str, Any], wanted: Columns, flags: Mapping[str, str]
) -> tuple[list[object], dict[str, Any]]:
    """(the completions of a row, its reference as {field: value}), in the forms that tasks take; as `read_sample`."""
    references = read_sample(row, wanted, flags)
    completions = completions_in(references.pop("completion"))
    for field, convert in _CONVERTERS.items():
        if field in references:
            references[field] = convert(references[field])
    return completions, references


def _column_names(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row as an error lists them: for a column that holds an object, column.key for each key.

    A name that begins or ends with spaces is in quotes, so that they are seen.
    """
    names: list[str] = []
    for column, value in row.items():
        inner = [f"{column}.{key}" for key in value] if isinstance(value, dict) and value else [column]
        names += [f'"{name}"' if name != name.strip() else name for name in inner]
    return names


def has(row: Mapping[str, Any], names: Names) -> bool:
    """True if a row has a column with one of these names."""
    return _find(row, names) is not _ABSENT


def fits(row: Mapping[str, Any], wanted: Columns) -> bool:
    """True if a row has all wanted fields and a text or a list as its completion, for an object is none."""
    may_be_completion = isinstance(_find(row, wanted["completion"]), str | list)
    return may_be_completion and all(has(row, names) for names in wanted.values())


def columns_of(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """{name: its value} for those of the `names` that a row has."""
    found = {name: _find(row, (name,)) for name in names}
    return {name: value for name, value in found.items() if value is not _ABSENT}


def as_text(value: Any) -> str:
    """A value as text, for comparing and counting: the number 7 and the text "7" are equal."""
    return value if isinstance(value, str) else json.dumps(value)


def _find(row: Mapping[str, Any], names: Names) -> Any:
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
    for depth, part in enumerate(parts, 1):
        if isinstance(value, str) and value[:1] == "{":  # tables have JSON texts in place of objects
            try:
                value = json.loads(value)
            except ValueError:
                return _ABSENT
        if isinstance(value, list) and part == "*":
            items = [_follow(item, parts[depth:]) for item in value]
            return _ABSENT if _ABSENT in items else items
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            value = value.get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
    return value


def completions_in(value: object, levels: int = 2) -> list[object]:
    """The completions in a field, each as `unwrap` gives it: one, or those of all items if the field is a list of them.

    The items of such a list are texts, chats (lists of messages), lists of these, or None for a completion that is
    missing. levels: how deep such lists may be nested.
    """
    # A chat is a list of objects, and so has no such items.
    if not isinstance(value, list) or not all(isinstance(item, list | str | None) for item in value):
        return [unwrap(value)]
    if not value or not levels:
        return [unwrap(value)]
    return [completion for item in value for completion in completions_in(item, levels - 1)]


def integers_in(value: object) -> object:
    """The list of the integers in a text such as "[1, 2, 3]" or "1 2 3"; any other value as it is."""
    match = _INTEGERS.fullmatch(value) if isinstance(value, str) else None
    return [int(part) for part in match[1].replace(",", " ").split()] if match else value


def puzzle_in(value: object) -> object:
    """The 16 digits of the puzzle in a question of d1's evaluation files; any other value as it is."""
    match = _PUZZLE.search(value) if isinstance(value, str) else None
    return match[1] if match else value


def _field_of_row(field: str, value: Any) -> Any:
    """The reference `field` of the task `code`: `value` or, if this is a row of a published set, the row's `field`."""
    if not isinstance(value, dict):
        return value
    from verifiers.code.published import reference_of

    return reference_of(json.dumps(value, sort_keys=True))[field]


# {reference that a file may have in another form: the function that converts it}.
_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "problem": partial(unwrap, role="user"),
    "numbers": integers_in,
    **{field: partial(_field_of_row, field) for field in ("entry_point", "cases", "prompt")},
    "puzzle": puzzle_in,
}
