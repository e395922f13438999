"""Files that are no JSONL (a JSON array, CSV, parquet) as blocks of JSON lines, one for each of their rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

ITEM_LIMIT = 1 << 24  # characters of an item or cell
_ROWS = 1024
_PIECE = 1 << 20


def array_lines(stream: IO[str]) -> Iterator[bytes]:
    """The items of one JSON array, a line each; raises OSError where it is not valid JSON."""
    decoder = json.JSONDecoder()
    text, start, number, piece = "", 0, 0, _PIECE
    lines: list[str] = []
    opened = closed = False
    while more := stream.read(piece):
        text, start = text[start:] + more, 0
        while not closed:
            while start < len(text) and text[start] in " \t\r\n," + "[" * (not opened):
                opened |= text[start] == "["
                start += 1
            if start == len(text):
                break
            if text[start] == "]":
                closed = True
                break
            try:
                item, stop = decoder.raw_decode(text, start)
            except json.JSONDecodeError:
                break  # until more of it is there
            except (ValueError, RecursionError) as error:
                raise OSError(f"item {number + 1} of the array: {error}") from error
            if stop == len(text) and not isinstance(item, dict):
                break  # a number may go on
            lines.append(text[start:stop].replace("\n", " ") + "\n")  # none stands inside a string
            start, number = stop, number + 1
        if lines:
            yield "".join(lines).encode()
            lines.clear()
        piece = max(_PIECE, len(text) - start)  # as much again, so that a long item is not read over and over
        if closed or piece > ITEM_LIMIT:
            break
    if not closed:
        raise OSError(f"the array is not valid JSON behind its item {number}, or the next is too long")


def csv_lines(stream: IO[str], delimiter: str) -> Iterator[bytes]:
    """The rows of a table with a header line; raises OSError where it is no CSV."""
    csv.field_size_limit(ITEM_LIMIT)
    rows = csv.DictReader(stream, delimiter=delimiter, strict=True)
    try:
        yield from _blocks(rows)
    except csv.Error as error:
        raise OSError(f"not readable as CSV: {error}, line {rows.line_num}") from error


def parquet_lines(path: str, wanted: set[str]) -> Iterator[bytes]:
    """The rows of a parquet file; columns that nobody wants are null. Raises OSError where it is no parquet."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            names = file.schema_arrow.names
            columns = [name for name in names if name in wanted]
            others = dict.fromkeys(name for name in names if name not in wanted)
            for rows in file.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
                samples = rows.to_pylist() if columns else [{}] * rows.num_rows
                yield from _blocks({**sample, **others} for sample in samples)
    except pyarrow.ArrowException as error:
        raise OSError(f"not readable as parquet: {error}") from error


def _blocks(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    rows = iter(rows)
    while block := list(islice(rows, _ROWS)):
        yield "".join(json.dumps(row, default=_as_json, skipkeys=True) + "\n" for row in block).encode()


def _as_json(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
