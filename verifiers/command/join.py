"""Completions and references in two files: each line of the first gets the references of its row in the second."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from verifiers.command.fields import Fields
from verifiers.command.read import (
    MAX_COLUMNS_NAMED,
    LacksField,
    Names,
    as_text,
    columns_of,
    has,
    read_sample,
)
from verifiers.errors import CommandError, LineError
from verifiers.files import Block, Source, read_line


def split_key(on: str) -> tuple[str, str]:
    """(the key's field in the file of completions, its field in the file of references).

    on: "custom_id=id", or "id" if both files have the same field.
    """
    left, equals, right = on.partition("=")
    if not left or (equals and not right):
        raise CommandError(
            f"--on {on}: give the field that both files have, or COMPLETIONS_FIELD=REFERENCES_FIELD."
        )
    return left, right or left


class Reference(NamedTuple):
    """A row of the file of references: {field: reference}, and {column: value} of the columns beside the verdict."""

    fields: dict[str, Any]
    kept: dict[str, Any]


def read_references(
    path: str, key: str, names: dict[str, Names], kept: Sequence[str] = ()
) -> dict[str, Reference]:
    """{key as text: the row} of all rows of a file.

    key: the column with the key. names: the possible names of each reference's column. kept: columns that are read
    besides, to be written beside the verdict. Raises CommandError for a row that lacks the key or a reference, and
    for a key that occurs twice with different references or kept columns.
    """
    wanted = [(key,), *names.values()]
    columns = {name.partition(".")[0] for name in chain(*wanted, kept)} | set(kept)
    source, table = Source(path, columns), dict[str, Reference]()
    for block in source.blocks():
        for number, line in zip(block.numbers, block.lines, strict=True):
            try:
                sample = read_line(line)
                key_value, *references = read_sample(sample, wanted)
            except LacksField as error:
                advice = Fields(completion=(), references=names).advice(error.places)
                if 0 in error.places:  # the key is missing
                    advice = "Give --on COMPLETIONS_FIELD=REFERENCES_FIELD."
                raise CommandError(f"{path}, line {number} {error} {advice}") from error
            except LineError as error:
                raise CommandError(f"{path}, line {number} {error}") from error
            row = Reference(dict(zip(names, references, strict=True)), columns_of(sample, kept))
            earlier = table.setdefault(as_text(key_value), row)
            if earlier != row:
                changed = (name for name in kept if earlier.kept.get(name) != row.kept.get(name))
                what = "reference" if earlier.fields != row.fields else next(changed)
                raise CommandError(
                    f"{path}, line {number}: {key} {key_value!r} has another {what} before. Leave one."
                )
    if source.failure:
        raise CommandError(f"{path} {source.failure}")
    return table


def join(
    blocks: Iterable[Block],
    completion: Names,
    key: str,
    table: dict[str, Reference],
    path: str,
    kept: Sequence[str] = (),
) -> Iterator[Block]:
    """The blocks of a file of completions, with the references of its key added to every line.

    completion, key: the columns of the completion and of the key in this file. table: what `read_references` returns.
    path: the file of references, for messages. kept: other columns that stay; if both files have such a column, the
    value beside the completion stays.
    """
    for block in blocks:
        yield block._replace(
            lines=[_joined(line, completion, key, table, path, kept) for line in block.lines]
        )


def _joined(
    line: bytes | LineError,
    completion: Names,
    key: str,
    table: dict[str, Reference],
    path: str,
    kept: Sequence[str],
) -> bytes | LineError:
    """A line with the references of its key added; if that is not possible, the error that says why."""
    columns: dict[str, Any] = {}
    try:
        row = read_line(line)
        columns = columns_of(row, kept)
        if not has(row, (key,)):
            columns_there = ", ".join(list(row)[:MAX_COLUMNS_NAMED])
            raise LineError(f'lacks "{key}", the field of --on; it has {columns_there}.')
        try:
            key_value, completion_value = read_sample(row, [(key,), completion])
        except LacksField as error:
            raise LineError(f"{error} {Fields(completion, references={}).advice(lacks=[0])}") from error
        if as_text(key_value) not in table:
            unknown = LineError(f"has {key} {key_value!r:.80}, which {path} lacks.")
            unknown.kind = f"has another {key} than {path}"
            raise unknown
    except LineError as error:
        error.columns = columns
        return error
    reference = table[as_text(key_value)]
    joined = {**reference.kept, **columns, "completion": completion_value, **reference.fields}
    return json.dumps(joined).encode()
