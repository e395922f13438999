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
from pathlib import Path
from typing import Any, NamedTuple

from verifiers.errors import CommandError, LineError, nearest
from verifiers.reading.json_values import object_of

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz")
"""The endings of the files that can be read."""
LFS = b"version https://git-lfs.github.com/spec/"  # the beginning of a file that stands in for a large one
BLOCK_BYTES = 1 << 20
LINE_LIMIT = 1 << 24  # bytes; a longer line is reported and not read
_ROWS = 1024  # how many rows of a table make a block
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
# Matches the beginning of an object that is written over several lines, or that holds all samples on one line.
_OBJECT = re.compile(
    rb'(?:\xef\xbb\xbf)?\s*\{(?:\s*\n\s*"|\s*"(?:generations"\s*:\s*\[|data"\s*:\s*\[\s*\{|0"\s*:\s*\{))'
)
_AS_LINES = "Write one object to a line, e.g. with jq -c ."  # the last "." is no full stop, but jq's program
# The errors that are raised if a file breaks off or cannot be read.
_BROKEN = (OSError, EOFError, ValueError, RecursionError, zlib.error, csv.Error)
Piece = list[bytes] | list[tuple[int, bytes | LineError]]
"""Lines, or (number, line) of each line if the numbers do not go up one by one."""


class Block(NamedTuple):
    """Rows of the file `label` ("" if there is only one file), each as a line of JSON.

    numbers: for each row, the number of the line on which it begins; in parquet or a JSON array, the row's number. Both
    count from 1.
    """

    label: str
    numbers: Sequence[int]
    lines: Sequence[bytes | LineError]


class Source:
    """One file, "-" for standard input. columns: those that are read of a parquet file; None = all.

    The other attributes hold once all `blocks` are read. `cause` says why the file could not be read to its end;
    `failure` also says what was therefore not judged; both are "" for a file that was read to its end. `empty` says
    whether the file holds no rows. Raises CommandError if there is no file.
    """

    def __init__(self, path: str, columns: set[str] | None, label: str = "") -> None:
        self.path, self.columns, self.label, self.empty = path, columns, label, False
        self.cause = self.failure = ""
        if os.path.isdir(path):
            raise CommandError(f"{path} is a folder. Give one of its files.")
        if path != "-" and not os.access(path, os.R_OK):
            near = nearest_file(Path(path))
            advice = f"Did you mean {near}?" if near else "Give a file that may be read."
            raise CommandError(f"No file {path}. {advice}")

    def blocks(self) -> Iterator[Block]:
        """The lines of the file in order, without blank ones.

        Only a file that is one JSON array or object is read into memory as a whole.
        """
        last_number, self.empty = 0, True
        try:
            with nullcontext(sys.stdin.buffer) if self.path == "-" else open(self.path, "rb") as stream:
                for piece in filter(None, self._pieces(stream)):
                    if isinstance(piece[0], bytes):
                        numbers, lines = range(last_number + 1, last_number + len(piece) + 1), piece
                    else:
                        numbers, lines = zip(*piece, strict=True)
                    last_number = numbers[-1]
                    if block := _without_blank(Block(self.label, numbers, lines)):
                        self.empty = False
                        yield block
        except _BROKEN as error:
            where, unread = "", "nothing was judged"
            if last_number:
                where, unread = f" past line {last_number}", "what follows was not judged"
            self.cause = f"cannot be read{where} ({what_is_wrong(error, self.path)})"
            self.failure = f"{self.cause}; {unread}."
        self.empty = self.empty and not self.failure  # what a broken file holds is not known

    def _pieces(self, stream: io.BufferedReader) -> Iterator[Piece]:
        """The lines of a file, piece by piece. The first bytes of the file or its name show its format."""
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
            return _parquet(self.path, self.columns)
        if magic.startswith(b"\x1f\x8b"):
            stream = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
        # A text in UTF-16 begins with a mark, or with a character of which one byte is 0.
        first_two = stream.peek(2)[:2]
        if first_two in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or first_two.count(0) == 1:
            raise CommandError(
                f"{self.path} is UTF-16, not UTF-8. Save it as UTF-8, e.g. with iconv -f UTF-16 -t UTF-8."
            )
        if delimiter := _DELIMITERS.get(Path(self.path.removesuffix(".gz")).suffix):
            csv.field_size_limit(LINE_LIMIT)
            head = stream.peek(LINE_LIMIT).partition(b"\n")[0].decode("utf-8", "replace")
            if delimiter == ",":
                # Some programs write a .csv with another delimiter. The most frequent of these signs in the header is
                # taken; of equally frequent ones, the first, which is the comma if it is among them.
                delimiter = max(",;\t", key=head.count)
            text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
            reader = csv.DictReader(text, delimiter=delimiter, strict=True)
            _refuse_repeated_names(self.path, reader.fieldnames or ())
            return _table(reader)
        beginning = stream.peek(64)[:64]  # of the text, unpacked
        if beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            return _rows(json.load(io.TextIOWrapper(stream, "utf-8-sig")))
        if _OBJECT.match(beginning):
            return _rows(_samples(io.TextIOWrapper(stream, "utf-8-sig")))
        return _lines(stream)


def numbered_rows(
    path: str, columns: set[str] | None = None, fields: Iterable[str] = ()
) -> Iterator[tuple[int, bytes | LineError]]:
    """(number, line of JSON) of each row of a file, as `Block` has them; `read_line` takes such lines.

    columns: as for `Source`. fields: what each row should have, which the error for a file without rows names. Raises
    CommandError if there is no file, and, after the rows that could be read, if the file breaks off or holds no rows.
    """
    source = Source(path, columns)
    for block in source.blocks():
        yield from zip(block.numbers, block.lines, strict=True)
    if source.failure or source.empty:
        needs = f" Each row needs {', '.join(fields)}." if fields and source.empty else ""
        raise CommandError(f"{path} {source.cause or 'holds no rows'}.{needs}")


def _without_blank(block: Block) -> Block | None:
    """A block without the lines that are only white space; None if it has no other lines."""
    kept = [
        (number, line)
        for number, line in zip(block.numbers, block.lines, strict=True)
        if isinstance(line, LineError) or (line and not line.isspace())
    ]
    if len(kept) == len(block.lines):
        return block
    if not kept:
        return None
    numbers, lines = zip(*kept, strict=True)
    return block._replace(numbers=list(numbers), lines=list(lines))


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


def _samples(stream: io.TextIOWrapper) -> list[Any]:
    """The samples of a file that is one JSON object.

    They are its list "generations", as in d1's files, or its list "data", or all its values by their numbers,
    {"0": {...}, "1": {...}}, as in OpenCompass's files.
    """
    try:
        document = json.load(stream)
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


def _lines(stream: Any) -> Iterator[list[bytes]]:
    """The whole lines of a stream, without the line in which it breaks off."""
    # `data` begins with the unfinished line of the last block. Only the bytes read since, `num_new`, fill a block, so
    # that a line longer than a block is not split again after each read.
    data, num_new = bytearray(), 0
    try:
        while piece := stream.read1(BLOCK_BYTES - num_new):
            data += piece
            num_new += len(piece)
            if num_new >= BLOCK_BYTES:
                *lines, rest = bytes(data).split(b"\n")
                yield lines
                data = bytearray(rest[: LINE_LIMIT + 1])  # enough to show that the line is too long
                num_new = 0
    except _BROKEN:
        yield bytes(data).split(b"\n")[:-1]
        raise
    if data:
        lines = bytes(data).removesuffix(b"\n").split(b"\n")
        last = lines[-1].strip()
        # If a copy or a program ended early, the last line has no end, and the object on it is not closed.
        if not data.endswith(b"\n") and last.startswith(b"{") and not last.endswith(b"}"):
            yield lines[:-1]
            raise ValueError("its last line breaks off")
        yield lines


def _rows(rows: Iterable[Any]) -> Iterator[list[bytes]]:
    """Objects as lines of JSON, in lists of _ROWS; an error that ends them is raised after the objects before it."""
    yield from _in_blocks(_as_line(row) for row in rows)


def _refuse_repeated_names(path: str, names: Sequence[str]) -> None:
    """Raises CommandError if two columns of a table have the same name, because either could be meant."""
    for name in names:
        places = [place for place, other in enumerate(names, 1) if other == name]
        if name.strip() and len(places) > 1:
            which = ", ".join(map(str, places))
            raise CommandError(f'{path} has several columns "{name}" ({which}). Rename all but one.')


def _table(reader: csv.DictReader) -> Iterator[list[tuple[int, bytes | LineError]]]:
    """(number of the line on which a row begins, the row as a line of JSON) for each row below a table's header.

    Cells may have line ends in them. A row with more cells than the header is replaced by an error, unless the cells
    beyond the header are all empty.
    """
    line_end = re.compile("\r\n|\r|\n")

    def rows() -> Iterator[dict[str, Any]]:
        # The reader is strict: a lenient one would lose quotation marks, or all rows up to the next such mark.
        try:
            yield from reader
        except csv.Error as error:
            fix = (
                'Put a cell with quotation marks into such marks, and write those within it twice: """x"" y"'
            )
            raise csv.Error(f"line {reader.reader.line_num}: {error}. {fix}") from error

    def numbered() -> Iterator[tuple[int, bytes | LineError]]:
        for row in rows():
            beyond: list[str] = row.pop(None, [])  # the key None holds the cells beyond the header
            # `line_num` is the line on which the row ends.
            line_ends_in_cells = sum(len(line_end.findall(cell)) for cell in (*row.values(), *beyond) if cell)
            yield reader.line_num - line_ends_in_cells, excess_error(row, beyond) or _as_line(row)

    def excess_error(row: dict[str, Any], beyond: Sequence[str]) -> LineError | None:
        """The error for a row with cells `beyond` the header; None if they are all empty."""
        if not any(map(str.strip, beyond)):
            return None
        delimiter = {",": "comma", ";": "semicolon", "\t": "tab"}[reader.reader.dialect.delimiter]
        count = len(row) + len(beyond)
        fix = f"Put a cell with a {delimiter} into quotation marks."
        return LineError(f"has {count} cells, and the header {len(row)}. {fix}")

    yield from _in_blocks(numbered())


def _as_line(row: Any) -> bytes:
    return json.dumps(row, default=str, skipkeys=True).encode()


def _in_blocks(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Items in lists of _ROWS; an error that ends them is raised after the items before it, in a shorter list."""
    block: list[Any] = []
    try:
        for item in items:
            block.append(item)
            if len(block) == _ROWS:
                yield block
                block = []
    except _BROKEN:
        yield block
        raise
    yield block


def _parquet(path: str, wanted: set[str] | None) -> Iterator[list[bytes]]:
    """The rows of a parquet file as lines of JSON, in lists. wanted: the columns to read; None = all."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise CommandError(f"{path} is parquet, which needs pyarrow: pip install pyarrow.") from error
    with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
        names = file.schema_arrow.names
        columns = [name for name in names if wanted is None or name in wanted]
        for batch in file.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
            # Each row is a sample, also if no column of it is wanted.
            samples = _as_printed(batch).to_pylist() if columns else [{}] * batch.num_rows
            # Columns that were not read are None, so that each row has all columns of the file.
            yield from _rows(dict.fromkeys(names) | sample for sample in samples)


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
        row = _DECODER.decode(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise LineError(f"is not UTF-8 (byte {error.start + 1}).") from error
    except (ValueError, RecursionError) as error:
        reason = str(error)
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg}, column {error.colno}"
        raise LineError(f"is not valid JSON ({reason}).") from error
    if not isinstance(row, dict):
        example = ", ".join(f'"{field}": ...' for field in fields) or "..."
        raise LineError(f"is no JSON object such as {{{example}}}.")
    return row
