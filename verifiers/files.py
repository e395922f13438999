"""Reads a file of rows in any format as numbered JSON lines, for the command and for what is built on it."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from itertools import chain, count, zip_longest
from pathlib import Path
from typing import IO, Any, NamedTuple

from verifiers.errors import CommandError, LineError, nearest
from verifiers.reading.json_values import object_of

_TEXT_FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
FORMATS = (*_TEXT_FORMATS, ".parquet", *(f"{ending}.gz" for ending in _TEXT_FORMATS))
"""The endings of the files that can be read."""
_UTF_16 = "is UTF-16, not UTF-8. Save it as UTF-8, e.g. with iconv -f UTF-16 -t UTF-8."
_NO_ROWS = {
    b"version https://git-lfs": "is a pointer of Git LFS, not the file. Fetch it by `git lfs pull`.",
    b"PK\x03\x04": "is a zip archive, as a workbook of Excel is. Save its table as CSV.",
    codecs.BOM_UTF16_LE: _UTF_16,
    codecs.BOM_UTF16_BE: _UTF_16,
}
"""{first bytes of a file that cannot be read: what it is, and what to do}."""
BLOCK_BYTES = 1 << 20
LINE_LIMIT = 1 << 24  # bytes; a longer line is reported and not read
# Matches the beginning of an object that is written over several lines, or that holds all samples on one line.
_OBJECT = re.compile(rb'\{\s*(?:\n\s*"|"(?:generations"\s*:\s*\[|data"\s*:\s*\[\s*\{|0"\s*:\s*\{))')
_AS_LINES = "Write one object to a line, e.g. with jq -c ."  # the last "." is no full stop, but jq's program
Line = bytes | dict[str, Any] | LineError
"""A row: as JSON, as the object itself, or the error that stands in its place."""
Rows = Iterator[tuple[int, Line]]
"""(number, row) of each row. The number is that of the line on which a row begins; in parquet or a JSON array, the
row's number. Both count from 1."""


class BrokenFile(CommandError):
    """A file that cannot be read to its end."""


class EmptyFile(CommandError):
    """A file without rows."""


class Block(NamedTuple):
    """Rows of the file `label` ("" if there is only one file), each with its number."""

    label: str
    rows: list[tuple[int, Line]]


def check_file(path: str) -> None:
    """Raises CommandError, with the file that was probably meant, if there is no file that may be read."""
    if os.path.isdir(path):
        raise CommandError(f"{path} is a folder. Give one of its files.")
    if path != "-" and not os.access(path, os.R_OK):
        near = nearest_file(Path(path))
        advice = f"Did you mean {near}?" if near else "Give a file that may be read."
        raise CommandError(f"No file {path}. {advice}")


def numbered_rows(
    path: str, columns: set[str] | None = None, fields: Iterable[str] = (), texts: Iterable[str] = ()
) -> Rows:
    """The rows of a file, "-" for standard input, without blank lines; `read_line` takes their lines.

    Only a file that is one JSON array or object is read into memory as a whole.

    columns: those that are read of a parquet file, `a.b` for b inside a; None = all. texts: those of them that may hold
    no dates, times or decimals, which are else read as texts. fields: what each row should have, which the error for a
    file without rows names. Raises CommandError if there is no file; and, after the rows that could be read, BrokenFile
    if it breaks off, and EmptyFile if there are none.
    """
    check_file(path)
    last = 0
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as stream:
            for last, line in _rows(path, stream, columns, texts):
                yield last, line
    except (OSError, EOFError, ValueError, OverflowError, RecursionError, zlib.error, csv.Error) as error:
        where = f" past line {last}" if last else ""
        raise BrokenFile(f"{path} cannot be read{where} ({error}).") from error
    if not last:
        needs = f" Each row needs {', '.join(fields)}." if fields else ""
        raise EmptyFile(f"{path} holds no rows.{needs}")


def read_blocks(paths: Sequence[str], columns: set[str], unread: list[CommandError]) -> Iterator[Block]:
    """The rows of files in order, in blocks of about BLOCK_BYTES. Errors of files are added to `unread`."""
    for path in paths:
        block, size = Block(path if len(paths) > 1 else "", []), 0
        try:
            for row in numbered_rows(path, columns):
                block.rows.append(row)
                size += len(row[1]) if isinstance(row[1], bytes) else 0
                if size >= BLOCK_BYTES:
                    yield block
                    block, size = block._replace(rows=[]), 0
        except (BrokenFile, EmptyFile) as error:
            unread.append(error)
        if block.rows:
            yield block


def objects_of(blocks: Iterable[Block]) -> list[dict[str, Any]]:
    """The objects of the lines of blocks that can be read."""
    objects = []
    for _, line in (row for block in blocks for row in block.rows):
        with suppress(LineError):
            objects.append(read_line(line))
    return objects


def nearest_file(path: Path) -> Path | None:
    """The file in the folder of `path` whose name is nearest to that of `path`; None if no name is near.

    Endings do not count: `s.jsonl` is not near to `notes.jsonl`.
    """
    if not path.parent.is_dir():
        return None
    beside = {other.name.partition(".")[0]: other for other in sorted(path.parent.iterdir())}
    near = nearest(path.name.partition(".")[0], beside)
    return beside[near] if near else None


def _rows(path: str, stream: IO[bytes], columns: set[str] | None, texts: Iterable[str]) -> Rows:
    """The rows of a file. The first bytes of the file or its name show its format."""
    head = stream.peek()  # type: ignore[attr-defined]
    if head.startswith(b"\x1f\x8b"):
        stream = io.BufferedReader(gzip.GzipFile(fileobj=stream))  # type: ignore[arg-type]
        head = stream.peek()
    for beginning, problem in _NO_ROWS.items():
        if head.startswith(beginning):
            raise CommandError(f"{path} {problem}")
    if head.startswith(b"PAR1") or path.endswith(".parquet"):
        return _parquet(path, columns, texts)
    ending = Path(path.removesuffix(".gz")).suffix
    if ending in (".csv", ".tsv"):
        # A program may have written another sign than the usual one; of equally frequent ones, the first.
        names = head.partition(b"\n")[0].decode("utf-8", "replace")
        return _table(path, stream, max("\t" if ending == ".tsv" else ",;\t", key=names.count))
    head = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if head.startswith(b"["):
        return enumerate(map(_as_line, json.loads(_decoded(stream.read()))), 1)
    if _OBJECT.match(head):
        return enumerate(map(_as_line, _samples(_decoded(stream.read()))), 1)
    return _lines(stream)


def _lines(stream: IO[bytes]) -> Rows:
    """The lines of a stream that are not blank; raises ValueError in place of a last line that breaks off."""
    for number, line in enumerate(iter(partial(stream.readline, LINE_LIMIT + 1), b""), 1):
        piece = line
        while piece and not piece.endswith(b"\n"):  # the line is too long, or the last one
            piece = stream.readline(LINE_LIMIT)
        # If a copy or a program ended early, the last line has no end, and the object on it is not closed.
        if not piece and line.lstrip().startswith(b"{") and not line.rstrip().endswith(b"}"):
            raise ValueError("its last line breaks off")
        if not line.isspace():
            yield number, line


def _samples(text: str) -> list[Any]:
    """The samples of a file that is one JSON object.

    They are its list "generations", as in d1's files, or its list "data", or all its values by their numbers,
    {"0": {...}, "1": {...}}, as in OpenCompass's files.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":  # else there are several objects, one behind the other
            raise
        raise ValueError(f"its objects go over several lines. {_AS_LINES}") from error
    for name in ("generations", "data"):
        if isinstance(document.get(name), list):
            return document[name]
    if document and all(name.isdecimal() and isinstance(sample, dict) for name, sample in document.items()):
        return [document[name] for name in sorted(document, key=int)]
    raise ValueError(f'one JSON object without a list "generations" or "data". {_AS_LINES}')


def _table(path: str, stream: IO[bytes], delimiter: str) -> Rows:
    """The rows below a table's header. Cells may have line ends in them.

    A row with more cells than the header is replaced by an error, unless the cells beyond the header are all empty.
    """
    csv.field_size_limit(LINE_LIMIT)
    # The reader is strict: a lenient one would lose quotation marks, or all rows up to the next such mark.
    # A line of the stream may be several lines, as a table's lines may end in \r alone.
    texts = chain.from_iterable(
        re.findall(r"[^\r]*\r\n?|[^\r]+", _decoded(line, number)) for number, line in enumerate(stream, 1)
    )
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    try:
        header = next(filter(None, reader), [])
        repeated = [name for name in header if name.strip() and header.count(name) > 1]
        if repeated:  # either of them could be meant
            raise CommandError(f'{path} has several columns "{repeated[0]}". Rename all but one.')
        begin = reader.line_num + 1
        for row in reader:
            number, begin = begin, reader.line_num + 1
            if any(map(str.strip, row[len(header) :])):
                name = {",": "comma", ";": "semicolon", "\t": "tab"}[delimiter]
                fix = f"Put a cell with a {name} into quotation marks."
                yield number, LineError(f"has {len(row)} cells, and the header {len(header)}. {fix}")
            elif row:
                yield number, _as_line(dict(zip_longest(header, row[: len(header)])))
    except csv.Error as error:
        fix = 'Put a cell with quotation marks into such marks, and write those within it twice: """x"" y"'
        raise csv.Error(f"line {reader.line_num}: {error}. {fix}") from error


def _decoded(data: bytes, line: int = 1) -> str:
    """The text of bytes that begin on this line; raises ValueError, with the line, if they are not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        raise ValueError(f"line {line} is not UTF-8; save it as UTF-8") from error


def _parquet(path: str, wanted: set[str] | None, texts: Iterable[str]) -> Rows:
    """The rows of a parquet file. wanted: the columns to read; None = all. texts: as for `numbered_rows`."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
        schema, numbers = file.schema_arrow, count(1)
        # Columns that are not read are None, so that each row has all columns of the file.
        unread = dict.fromkeys(schema.names)
        names = unread.keys() if wanted is None else wanted | {name.partition(".")[0] for name in wanted}
        columns = [name for name in unread if name in names]
        for name in set(columns).intersection(texts):
            kind = schema.field(name).type
            if pyarrow.types.is_temporal(kind) or pyarrow.types.is_decimal(kind):
                raise CommandError(
                    f'{path}: the column "{name}" holds values of the type {kind}, and a question or a completion is a '
                    "text. Name another column, or save this one as text."
                )
        for batch in file.iter_batches(batch_size=1024, columns=columns, use_threads=False):
            for place, column in enumerate(batch.columns):
                if column.type in (pyarrow.float32(), pyarrow.float16()):  # 0.1, not 0.10000000149011612
                    kind = column.type.to_pandas_dtype()
                    printed = [x if x is None else float(str(kind(x))) for x in column.to_pylist()]
                    batch = batch.set_column(place, columns[place], pyarrow.array(printed, pyarrow.float64()))
            # Each row is a sample, also if no column of it is wanted.
            for row in batch.to_pylist() if columns else [{}] * len(batch):
                number = next(numbers)
                try:
                    yield number, _as_line(unread | row)
                except UnicodeDecodeError as error:
                    name = next(name for name in columns if repr(error.object) in repr(row[name]))
                    text = f'has bytes that are not UTF-8 in the column "{name}" ({schema.field(name).type}).'
                    yield number, LineError(f"{text} Save it as text.")


def _as_line(row: Any) -> bytes:
    return json.dumps(row, default=_text_of, skipkeys=True).encode()


def _text_of(value: Any) -> str:
    """A value that JSON lacks, as text; raises UnicodeDecodeError for bytes that are no UTF-8."""
    return value.decode() if isinstance(value, bytes) else str(value)


_DECODER = json.JSONDecoder(object_pairs_hook=object_of)


def read_line(line: Line, fields: Iterable[str] = ("completion",)) -> dict[str, Any]:
    """The JSON object on a line; raises LineError if the line holds none, or the LineError that stands in its place.

    fields: the fields that the object should have; an error names them, but they are not checked.
    """
    if isinstance(line, LineError):
        raise line
    if isinstance(line, dict):
        return line
    if len(line) > LINE_LIMIT:
        raise LineError(f"is longer than {LINE_LIMIT >> 20} MiB.")
    try:
        text = line.decode().removeprefix("\ufeff")
        row = json.loads(text)
        # A key is followed by `":`, which in a text is written with a backslash. Only where there are more of these
        # than fields, a slower decoder looks for keys that stand twice in an object.
        if isinstance(row, dict) and text.count('":') > len(row):
            row = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise LineError(f"is not UTF-8 (byte {error.start + 1}).") from error
    except (ValueError, RecursionError) as error:
        why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise LineError(f"is not valid JSON ({why}).") from error
    if not isinstance(row, dict):
        example = ", ".join(f'"{field}": ...' for field in fields) or "..."
        raise LineError(f"is no JSON object such as {{{example}}}.")
    return row
