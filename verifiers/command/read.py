"""Files of samples as blocks of JSON lines, whatever their format, and lines as completions and references."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from verifiers.errors import VerifierError, nearest
from verifiers.reward import unwrap

BLOCK_BYTES = 1 << 20
LINE_LIMIT = 1 << 24  # bytes; a longer line is reported and not read
_ROWS = 1024  # of a table in a block
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_ABSENT = object()
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    RecursionError,
    zlib.error,
    csv.Error,
)  # raised where a file breaks off
Names = tuple[str, ...]  # of one field, the first that a line has counts


class CommandError(VerifierError):
    """A command line that cannot be carried out: a file that is not there, flags that do not fit together."""


class LineError(VerifierError):
    """A line that holds no sample; its text completes the sentence "line 7 ..."."""


class Block(NamedTuple):
    """Whole lines of the file `label` ("" where there is only one); `first` is the number of the first, from 1."""

    label: str
    first: int
    lines: list[bytes]


class Source:
    """One file, "-" for standard input; of a parquet file only `columns` are read.

    `failure` says why it could not be read to its end, "" if it could. Raises CommandError where there is no file.
    """

    def __init__(self, path: str, columns: set[str], label: str = "") -> None:
        self.path, self.columns, self.label, self.failure = path, columns, label, ""
        if os.path.isdir(path):
            raise CommandError(f"{path} is a folder. Give one of its files.")
        if path != "-" and not os.access(path, os.R_OK):
            folder = Path(path).parent
            near = nearest(Path(path).name, sorted(os.listdir(folder))) if folder.is_dir() else None
            advice = f"Did you mean {folder / near}?" if near else "Give a file that may be read, or -."
            raise CommandError(f"No file {path}. {advice}")

    def blocks(self) -> Iterator[Block]:
        """The lines of the file in order, in flat memory but for a JSON array."""
        number = 1
        try:
            with nullcontext(sys.stdin.buffer) if self.path == "-" else open(self.path, "rb") as stream:
                for lines in self._pieces(stream):
                    yield Block(self.label, number, lines)
                    number += len(lines)
        except _BROKEN as error:
            self.failure = f"cannot be read past line {number - 1} ({error}); what follows was not judged."

    def _pieces(self, stream: io.BufferedReader) -> Iterator[list[bytes]]:
        magic = stream.peek(4)
        if magic.startswith(b"PAR1") or self.path.endswith(".parquet"):
            return _parquet(self.path, self.columns)
        if magic.startswith(b"\x1f\x8b"):
            stream = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
        if delimiter := _DELIMITERS.get(Path(self.path.removesuffix(".gz")).suffix):
            csv.field_size_limit(LINE_LIMIT)
            text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
            return _rows(csv.DictReader(text, delimiter=delimiter, strict=True))
        if stream.peek(64)[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            return _rows(json.load(io.TextIOWrapper(stream, "utf-8-sig")))
        return _lines(stream)


def _lines(stream: IO[bytes]) -> Iterator[list[bytes]]:
    """Whole lines; not the one in which a stream breaks off."""
    rest, failure = b"", None
    piece = b"\n"
    while piece and failure is None:
        piece, failure = _read(stream)
        *lines, rest = (rest + piece).split(b"\n")
        rest = rest[: LINE_LIMIT + 1]
        if lines:
            yield lines
    if failure is not None:
        raise failure
    if rest:
        yield [rest]


def _read(stream: Any) -> tuple[bytes, Exception | None]:
    """The next BLOCK_BYTES, or what came before an error, and that; `read` would lose what came before."""
    parts: list[bytes] = []
    left = BLOCK_BYTES
    try:
        while left > 0 and (part := stream.read1(left)):
            parts.append(part)
            left -= len(part)
    except _BROKEN as error:
        return b"".join(parts), error
    return b"".join(parts), None


def _rows(rows: Iterable[Any]) -> Iterator[list[bytes]]:
    rows, failure, block = iter(rows), None, [b""]
    while block and failure is None:
        block = []
        try:
            for row in islice(rows, _ROWS):
                block.append(json.dumps(row, default=str, skipkeys=True).encode())
        except _BROKEN as error:
            failure = error
        if block:
            yield block
    if failure is not None:
        raise failure


def _parquet(path: str, wanted: set[str]) -> Iterator[list[bytes]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise CommandError(f"{path} is parquet, which needs pyarrow: pip install pyarrow.") from error
    with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
        names = file.schema_arrow.names
        columns = [name for name in names if name in wanted]
        for rows in file.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
            samples = rows.to_pylist() if columns else [{}] * rows.num_rows
            yield from _rows(dict.fromkeys(names) | sample for sample in samples)


def read_line(line: bytes) -> dict[str, Any]:
    """The JSON object on a line; raises LineError where there is none."""
    if len(line) > LINE_LIMIT:
        raise LineError(f"is longer than {LINE_LIMIT >> 20} MiB.")
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise LineError(f"is not UTF-8 (byte {error.start + 1}).") from error
    except (ValueError, RecursionError) as error:
        what = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise LineError(f"is not valid JSON ({what if line.strip() else 'it is empty'}).") from error
    if not isinstance(row, dict):
        raise LineError('is no JSON object such as {"completion": ...}.')
    return row


def read_sample(row: dict[str, Any], completion: Names, references: Iterable[Names]) -> list[Any]:
    """The completion and the references of a row; raises LineError that names every field it lacks."""
    wanted = (completion, *references)
    values = [_find(row, names) for names in wanted]
    missing = [place for place, value in enumerate(values) if value is _ABSENT]
    if missing:
        lacking = " and ".join(" or ".join(f'"{name}"' for name in wanted[place]) for place in missing)
        inner = ((k, v if isinstance(v, dict) and v else [""]) for k, v in row.items())
        there = ", ".join([f"{k}.{name}" if name else k for k, names in inner for name in names][:24])
        flags = ["--completion-field"] * (0 in missing) + ["--answer-field"] * (missing[-1] > 0)
        raise LineError(f"lacks {lacking}; it has {there or 'nothing'}. Give {' and '.join(flags)}.")
    return values


def _find(row: dict[str, Any], names: Names) -> Any:
    """The value of the first of `names` that the row has, else _ABSENT; a key that holds the dot comes first."""
    for name in names:
        value = row.get(name, _ABSENT)
        if value is _ABSENT and "." in name:
            value = row
            for part in name.split("."):
                value = _parsed(value)
                if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                    value = value[int(part)]
                else:
                    value = value.get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
        if value is not _ABSENT:
            return value
    return _ABSENT


def _parsed(value: Any) -> Any:
    """An object that a table holds as its text."""
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] == "{" else value
    except ValueError:
        return value


def completions_in(value: object, levels: int = 2) -> list[object]:
    """The completions in a field: one, or those of a list of texts, of chats, or of such lists."""
    listed = isinstance(value, list) and all(isinstance(item, list | str) or item is None for item in value)
    if not (listed and value and levels):
        return [unwrap(value)]
    return [completion for item in value for completion in completions_in(item, levels - 1)]


def integers_in(value: object) -> object:
    """Integers that a table holds as text, "[1, 2, 3]" or "1 2 3", as a list; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return [int(part) for part in value.strip("[] ").replace(",", " ").split()] or value
    except ValueError:
        return value
