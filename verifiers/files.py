"""Reads a file of rows in any format as blocks of JSON lines, for the command and for what is built on it."""

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
from contextlib import nullcontext
from itertools import count, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from verifiers.errors import CommandError, LineError, nearest
from verifiers.reading.json_values import object_of

_TEXT_FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
FORMATS = (*_TEXT_FORMATS, ".parquet", *(f"{ending}.gz" for ending in _TEXT_FORMATS))
"""The endings of the files that can be read."""
LFS = b"version https://git-lfs.github.com/spec/"  # the beginning of a file that stands in for a large one
BLOCK_BYTES = 1 << 20
LINE_LIMIT = 1 << 24  # bytes; a longer line is reported and not read
_ROWS = 1024  # how many rows of a table are read at once
# Matches the beginning of an object that is written over several lines, or that holds all samples on one line.
_OBJECT = re.compile(
    rb'(?:\xef\xbb\xbf)?\s*\{(?:\s*\n\s*"|\s*"(?:generations"\s*:\s*\[|data"\s*:\s*\[\s*\{|0"\s*:\s*\{))'
)
_LINE_END = re.compile("\r\n|\r|\n")
_AS_LINES = "Write one object to a line, e.g. with jq -c ."  # the last "." is no full stop, but jq's program
# The errors that are raised if a file breaks off or cannot be read.
_BROKEN = (OSError, EOFError, ValueError, RecursionError, zlib.error, csv.Error)
Rows = Iterator[tuple[int, bytes | LineError]]
"""(number, line of JSON) of each row. The number is that of the line on which a row begins; in parquet or a JSON array,
the row's number. Both count from 1."""


class Block(NamedTuple):
    """Rows of the file `label` ("" if there is only one file), each with its number, as in `Rows`."""

    label: str
    numbers: Sequence[int]
    lines: Sequence[bytes | LineError]


class Source:
    """One file, "-" for standard input. columns: those that are read of a parquet file; None = all. texts: those of
    them that may hold no dates, times or decimals, which are else read as texts.

    The other attributes hold once all `blocks` are read. `cause` says why the file could not be read to its end;
    `failure` also says what was therefore not judged; both are "" for a file that was read to its end. `empty` says
    whether the file holds no rows. Raises CommandError if there is no file.
    """

    def __init__(
        self, path: str, columns: set[str] | None, label: str = "", texts: Iterable[str] = ()
    ) -> None:
        self.path, self.columns, self.label, self.empty, self.texts = path, columns, label, False, texts
        self.cause = self.failure = ""
        if os.path.isdir(path):
            raise CommandError(f"{path} is a folder. Give one of its files.")
        if path != "-" and not os.access(path, os.R_OK):
            near = nearest_file(Path(path))
            advice = f"Did you mean {near}?" if near else "Give a file that may be read."
            raise CommandError(f"No file {path}. {advice}")

    def blocks(self) -> Iterator[Block]:
        """The lines of the file in order, without blank ones, in blocks of about BLOCK_BYTES.

        Only a file that is one JSON array or object is read into memory as a whole.
        """
        numbers: list[int] = []
        lines: list[bytes | LineError] = []
        last, size, self.empty = 0, 0, True
        try:
            with nullcontext(sys.stdin.buffer) if self.path == "-" else open(self.path, "rb") as stream:
                for last, line in self._rows(stream):
                    if isinstance(line, bytes):
                        if not line or line.isspace():
                            continue
                        size += len(line)
                    if size > BLOCK_BYTES and lines:
                        self.empty = False
                        yield Block(self.label, numbers, lines)
                        numbers, lines, size = [], [], len(line) if isinstance(line, bytes) else 0
                    numbers.append(last)
                    lines.append(line)
        except _BROKEN as error:
            where, unread = "", "nothing was judged"
            if last:
                where, unread = f" past line {last}", "what follows was not judged"
            self.cause = f"cannot be read{where} ({what_is_wrong(error, self.path)})"
            self.failure = f"{self.cause}; {unread}."
        if lines:
            yield Block(self.label, numbers, lines)
        self.empty = self.empty and not lines and not self.failure  # what a broken file holds is not known

    def _rows(self, stream: io.BufferedReader) -> Rows:
        """The rows of a file. The first bytes of the file or its name show its format."""
        magic = stream.peek(len(LFS))  # the file's own first bytes, packed or not
        if magic.startswith(LFS):
            raise CommandError(
                f"{self.path} is a pointer of Git LFS, not the file. Fetch it by `git lfs pull` in its repository."
            )
        if magic.startswith(b"PK\x03\x04"):
            raise CommandError(
                f"{self.path} is a zip archive, as a workbook of Excel is. Save its table as CSV, or give a file of "
                f"one of these kinds: {', '.join(FORMATS)}."
            )
        if magic.startswith(b"PAR1") or self.path.endswith(".parquet"):
            return _parquet(self.path, self.columns, self.texts)
        if magic.startswith(b"\x1f\x8b"):
            stream = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
        # A text in UTF-16 begins with a mark, or with a character of which one byte is 0.
        first_two = stream.peek(2)[:2]
        if first_two in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or first_two.count(0) == 1:
            raise CommandError(
                f"{self.path} is UTF-16, not UTF-8. Save it as UTF-8, e.g. with iconv -f UTF-16 -t UTF-8."
            )
        ending = Path(self.path.removesuffix(".gz")).suffix
        if ending in (".csv", ".tsv"):
            return _table(self.path, stream, "\t" if ending == ".tsv" else ",;\t")
        beginning = stream.peek(64)[:64]  # of the text, unpacked
        if beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            return _numbered(json.loads(stream.read().decode("utf-8-sig")))
        if _OBJECT.match(beginning):
            return _numbered(_samples(stream.read().decode("utf-8-sig")))
        return _lines(stream)


def numbered_rows(
    path: str, columns: set[str] | None = None, fields: Iterable[str] = (), texts: Iterable[str] = ()
) -> Rows:
    """The rows of a file; `read_line` takes their lines.

    columns, texts: as for `Source`. fields: what each row should have, which the error for a file without rows names.
    Raises CommandError if there is no file, and, after the rows that could be read, if the file breaks off or holds no
    rows.
    """
    source = Source(path, columns, texts=texts)
    for block in source.blocks():
        yield from zip(block.numbers, block.lines, strict=True)
    if source.failure or source.empty:
        needs = f" Each row needs {', '.join(fields)}." if fields and source.empty else ""
        raise CommandError(f"{path} {source.cause or 'holds no rows'}.{needs}")


def nearest_file(path: Path) -> Path | None:
    """The file in the folder of `path` whose name is nearest to that of `path`; None if no name is near.

    Endings do not count: `s.jsonl` is not near to `notes.jsonl`.
    """
    if not path.parent.is_dir():
        return None
    beside = {other.name.partition(".")[0]: other for other in sorted(path.parent.iterdir())}
    near = nearest(path.name.partition(".")[0], beside)
    return beside[near] if near else None


def what_is_wrong(error: Exception, path: str) -> str:
    """Why a file breaks off; for a file in another encoding, the first line that is not UTF-8, and what to do."""
    if not isinstance(error, UnicodeDecodeError):
        return str(error)
    if path == "-" or path.endswith((".gz", ".parquet")):
        return f"{error}; save it as UTF-8"
    with open(path, "rb") as stream:
        line = next((number for number, line in enumerate(stream, 1) if not is_utf_8(line)), None)
    return f"line {line} is not UTF-8; save it as UTF-8" if line else f"{error}; save it as UTF-8"


def is_utf_8(line: bytes) -> bool:
    """True if a line is valid UTF-8."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


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


def _lines(stream: io.BufferedReader) -> Rows:
    """The lines of a stream; raises ValueError in place of a last line that breaks off."""
    for number in count(1):
        line = piece = stream.readline(LINE_LIMIT + 1)
        if not line:
            return
        while piece and not piece.endswith(b"\n"):  # the line is too long, or the last one
            piece = stream.readline(LINE_LIMIT)
        # If a copy or a program ended early, the last line has no end, and the object on it is not closed.
        if not piece and line.lstrip().startswith(b"{") and not line.rstrip().endswith(b"}"):
            raise ValueError("its last line breaks off")
        yield number, line


def _numbered(rows: Iterable[Any]) -> Rows:
    """Objects as lines of JSON."""
    for number, row in enumerate(rows, 1):
        yield number, _as_line(row)


def _table(path: str, stream: io.BufferedReader, delimiters: str) -> Rows:
    """The rows below a table's header. delimiters: the usual one, and others that a program may have written.

    Cells may have line ends in them. A row with more cells than the header is replaced by an error, unless the cells
    beyond the header are all empty.
    """
    csv.field_size_limit(LINE_LIMIT)
    head = stream.peek(LINE_LIMIT).partition(b"\n")[0].decode("utf-8", "replace")
    delimiter = max(delimiters, key=head.count)  # of equally frequent ones, the first
    # The reader is strict: a lenient one would lose quotation marks, or all rows up to the next such mark.
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for row in reader:
            begins = reader.line_num - sum(len(_LINE_END.findall(cell)) for cell in row)
            if row and not header:
                header = row
                for name in header:  # either of two columns with one name could be meant
                    places = [str(place) for place, other in enumerate(header, 1) if other == name]
                    if name.strip() and len(places) > 1:
                        which = ", ".join(places)
                        raise CommandError(
                            f'{path} has several columns "{name}" ({which}). Rename all but one.'
                        )
            elif any(map(str.strip, row[len(header) :])):
                name = {",": "comma", ";": "semicolon", "\t": "tab"}[delimiter]
                fix = f"Put a cell with a {name} into quotation marks."
                yield begins, LineError(f"has {len(row)} cells, and the header {len(header)}. {fix}")
            elif row:
                yield begins, _as_line(dict(zip_longest(header, row[: len(header)])))
    except csv.Error as error:
        fix = 'Put a cell with quotation marks into such marks, and write those within it twice: """x"" y"'
        raise csv.Error(f"line {reader.line_num}: {error}. {fix}") from error
    finally:
        text.detach()  # the stream is closed by who has opened it


def _as_line(row: Any) -> bytes:
    return json.dumps(row, default=_text_of, skipkeys=True).encode()


def _text_of(value: Any) -> str:
    """A value that JSON lacks, as text; raises UnicodeDecodeError for bytes that are no UTF-8."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _parquet(path: str, wanted: set[str] | None, texts: Iterable[str]) -> Rows:
    """The rows of a parquet file. wanted: the columns to read; None = all. texts: as for `Source`."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
        schema, numbers = file.schema_arrow, count(1)
        columns = [name for name in schema.names if wanted is None or name in wanted]
        for name in set(columns).intersection(texts):
            kind = schema.field(name).type
            if pyarrow.types.is_temporal(kind) or pyarrow.types.is_decimal(kind):
                raise CommandError(
                    f'{path}: the column "{name}" holds values of the type {kind}, and a question or a completion is a '
                    "text. Name another column, or save this one as text."
                )
        for batch in file.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
            # Each row is a sample, also if no column of it is wanted.
            for row, number in zip(
                _as_printed(batch).to_pylist() if columns else [{}] * len(batch), numbers, strict=False
            ):
                try:
                    # Columns that were not read are None, so that each row has all columns of the file.
                    yield number, _as_line(dict.fromkeys(schema.names) | row)
                except UnicodeDecodeError as error:
                    column = next(name for name, value in row.items() if error.object in _bytes_in(value))
                    kind = schema.field(column).type
                    text = f'has bytes that are not UTF-8 in the column "{column}" ({kind}). Save it as text.'
                    yield number, LineError(text)


def _bytes_in(value: Any) -> Iterator[bytes]:
    """The bytes in a value of parquet."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _bytes_in(item)


def _as_printed(batch: Any) -> Any:
    """A batch of pyarrow with its columns of float32 and float16 as they are printed: 0.1, not 0.10000000149011612."""
    import numpy as np
    import pyarrow

    for place, field in enumerate(batch.schema):
        if field.type in (pyarrow.float32(), pyarrow.float16()):
            kind = field.type.to_pandas_dtype()
            exact = batch.column(place).to_pylist()
            printed = [None if value is None else float(str(np.dtype(kind).type(value))) for value in exact]
            batch = batch.set_column(place, field.name, pyarrow.array(printed, pyarrow.float64()))
    return batch


_DECODER = json.JSONDecoder(object_pairs_hook=object_of)


def read_line(line: bytes | LineError, fields: Iterable[str] = ("completion",)) -> dict[str, Any]:
    """The JSON object on a line; raises LineError if the line holds none, or the LineError that stands in its place.

    fields: the fields that the object should have; an error names them, but they are not checked.
    """
    if isinstance(line, LineError):
        raise line
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
    except json.JSONDecodeError as error:
        raise LineError(f"is not valid JSON ({error.msg}, column {error.colno}).") from error
    except (ValueError, RecursionError) as error:
        raise LineError(f"is not valid JSON ({error}).") from error
    if not isinstance(row, dict):
        example = ", ".join(f'"{field}": ...' for field in fields) or "..."
        raise LineError(f"is no JSON object such as {{{example}}}.")
    return row
