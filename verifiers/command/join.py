"""Completions and references in two files: each line of the first gets the references of its row in the second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from verifiers.command.fields import REFERENCES, Columns, advice
from verifiers.command.read import LacksField, as_text, columns_of, has, read_sample
from verifiers.errors import CommandError, LineError
from verifiers.files import Block, Line, numbered_rows, read_line

_ADVICE = "Give --on COMPLETIONS_FIELD=REFERENCES_FIELD."


def read_references(path: str, key: str, names: Columns, kept: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{key as text: the columns that a completion with this key gets} of all rows of a file.

    key: the column with the key. names: the possible names of each reference's column. kept: columns that are read
    besides, to be written beside the verdict. Raises CommandError for a file that cannot be read or has no rows, for a
    row that lacks the key or a reference, and for a key that occurs twice with different references or kept columns.
    """
    wanted = [(key,), *names.values()]
    columns = {name for several in (*wanted, kept) for name in several}
    table: dict[str, dict[str, Any]] = {}
    for number, line in numbered_rows(path, columns | {name.partition(".")[0] for name in columns}):
        try:
            row = read_line(line)
            key_value, *references = read_sample(row, wanted)
        except LacksField as error:
            help = _ADVICE if 0 in error.places else advice({"completion": (), **names}, error.places)
            raise CommandError(f"{path}, line {number} {error} {help}") from error
        except LineError as error:
            raise CommandError(f"{path}, line {number} {error}") from error
        found = {**columns_of(row, kept), REFERENCES: dict(zip(names, references, strict=True))}
        if table.setdefault(as_text(key_value), found) != found:
            what = " or ".join(dict.fromkeys(["reference", *kept]))
            raise CommandError(
                f"{path}, line {number}: {key} {key_value!r} has another {what} before. Leave one."
            )
    return table


def join(blocks: Iterable[Block], key: str, table: dict[str, dict[str, Any]], path: str) -> Iterator[Block]:
    """The blocks of a file of completions, with the columns of its key added to every line.

    key: the column of the key in this file. table: what `read_references` returns. path: the file of references, for
    messages. If both files have a kept column, the value beside the completion stays. A line whose key has no
    references becomes the error that says so.
    """
    for block in blocks:
        yield block._replace(lines=[_joined(line, key, table, path) for line in block.lines])


def _joined(line: Line, key: str, table: dict[str, dict[str, Any]], path: str) -> Line:
    row: dict[str, Any] = {}
    try:
        row = read_line(line)
        value = read_sample(row, [(key,)])[0]
        if as_text(value) not in table:
            raise LineError(f"has {key} {value!r:.80}, which {path} lacks.")
    except LineError as error:
        told = LineError(f"{error} {_ADVICE}") if isinstance(error, LacksField) else error
        told.columns = row
        return told
    new = {name: value for name, value in table[as_text(value)].items() if not has(row, (name,))}
    return {**row, **new}
