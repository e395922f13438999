"""Completions and references in two files: each line of the first gets the references of its row in the second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from verifiers.command.fields import REFERENCE, Table, flags_of
from verifiers.command.read import Columns, as_text, columns_of, has, read_sample
from verifiers.errors import CommandError, LineError
from verifiers.files import Block, Line, numbered_rows, read_line

_ON = "--on COMPLETIONS_FIELD=REFERENCES_FIELD"


def read_references(path: str, key: str, columns: Columns, kept: Sequence[str]) -> Table:
    """The columns that completions get from the rows of a file of references.

    key: the column with the key. columns: those of a file that has completions, too. kept: columns that are read
    besides, to be written beside the verdict. Raises CommandError for a file that cannot be read or has no rows, for a
    row that lacks the key or a reference, and for a key that occurs twice with different references or kept columns.
    """
    wanted = {**columns, "completion": (key,)}  # the key stands in place of the completion
    read = {*kept, *(name for names in wanted.values() for name in names)}
    flags = flags_of(columns) | {"completion": _ON}
    table: Table = {}
    for number, line in numbered_rows(path, read):
        try:
            row = read_line(line)
            references = read_sample(row, wanted, flags)
        except LineError as error:
            raise CommandError(f"{path}, line {number} {error}") from error
        value = references.pop("completion")
        found = columns_of(row, kept) | {REFERENCE.format(field): each for field, each in references.items()}
        if table.setdefault(as_text(value), found) != found:
            what = " or ".join(dict.fromkeys(["reference", *kept]))
            raise CommandError(
                f"{path}, line {number}: {key} {value!r} has another {what} before. Leave one."
            )
    return table


def join(blocks: Iterable[Block], key: str, table: Table, path: str) -> Iterator[Block]:
    """The blocks of a file of completions, with the columns of its key added to every line.

    key: the column of the key in this file. path: the file of references, for messages. If both files have a kept
    column, the value beside the completion stays. A line whose key has no references becomes the error that says so.
    """
    for block in blocks:
        yield block._replace(rows=[(number, _joined(line, key, table, path)) for number, line in block.rows])


def _joined(line: Line, key: str, table: Table, path: str) -> Line:
    row: dict[str, Any] = {}
    try:
        row = read_line(line)
        value = read_sample(row, {key: (key,)}, {key: _ON})[key]
        if as_text(value) not in table:
            raise LineError(f"has {key} {value!r:.80}, which {path} lacks.")
    except LineError as error:
        error.columns = row
        return error
    return row | {name: each for name, each in table[as_text(value)].items() if not has(row, (name,))}
