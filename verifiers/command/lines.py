"""Files of samples as blocks of whole JSON lines, whatever their format, and single lines as objects."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from verifiers.command.tables import array_lines, csv_lines, parquet_lines
from verifiers.errors import VerifierError, nearest

BLOCK_BYTES = 1 << 20
LINE_LIMIT = 1 << 24  # bytes; a longer line is reported and not read
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_decode = json.JSONDecoder().decode
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


class CommandError(VerifierError):
    """A command line that cannot be carried out: a file that is not there, flags that do not fit together."""


class LineError(VerifierError):
    """A line that holds no sample; its text completes the sentence "line 7 ..."."""


class Block(NamedTuple):
    """Whole lines of one file, of about BLOCK_BYTES."""

    label: str
    """The file, or "" where there is only one."""
    first: int
    """Number of the first line, from 1."""
    raw: bytes


class Source:
    """One file; `blocks` reads it once, from its beginning to its end, in flat memory.

    Attributes:
        size: bytes of the file, 0 where nobody knows (standard input, a pipe).
        position: how many of them have been read.
        failure: why the file could not be read to its end, "" if it could.
    """

    def __init__(self, path: str, columns: set[str], *, label: str = "") -> None:
        """`path` "-" is standard input; only `columns` of a parquet file are read.

        Raises CommandError where there is no such file.
        """
        self.path, self.label, self.size, self.position, self.failure = path, label, 0, 0, ""
        self._columns = columns
        if path != "-":
            state = _stat(path)
            self.size = state.st_size if stat.S_ISREG(state.st_mode) else 0

    def blocks(self) -> Iterator[Block]:
        """The lines of the file in order. A file that breaks off ends the iteration and sets `failure`."""
        number = 1
        stream = sys.stdin.buffer if self.path == "-" else open(self.path, "rb")
        try:
            for raw in self._pieces(stream):
                self.position = stream.tell() if self.size else 0
                yield Block(self.label, number, raw)
                number += raw.count(b"\n")
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            self.failure = f"cannot be read past line {number - 1} ({error}); what follows was not judged."
        finally:
            if self.path != "-":
                stream.close()

    def _pieces(self, stream: io.BufferedReader) -> Iterator[bytes]:
        magic = stream.peek(4)[:4]
        if magic == _PARQUET or self.path.endswith(".parquet"):
            if self.path == "-":
                raise OSError("parquet cannot be read from standard input, give the file")
            self.size = 0
            return _parquet(self.path, self._columns)
        if magic[:2] == _GZIP:
            stream = io.BufferedReader(gzip.GzipFile(fileobj=stream, mode="rb"), BLOCK_BYTES)  # type: ignore[arg-type]
        delimiter = _DELIMITERS.get(Path(self.path.removesuffix(".gz")).suffix)
        if delimiter:
            return csv_lines(io.TextIOWrapper(stream, "utf-8-sig", newline=""), delimiter)
        if stream.peek(64)[:64].removeprefix(_BYTE_ORDER_MARK).lstrip()[:1] == b"[":
            return array_lines(io.TextIOWrapper(stream, "utf-8-sig"))
        return _whole_lines(stream)


def _parquet(path: str, columns: set[str]) -> Iterator[bytes]:
    try:
        yield from parquet_lines(path, columns)
    except ImportError as error:
        raise CommandError(f"{path} is parquet, which needs pyarrow: pip install pyarrow.") from error


def _whole_lines(stream: IO[bytes]) -> Iterator[bytes]:
    rest, start = b"", True
    while piece := stream.read(BLOCK_BYTES):
        if start:
            piece, start = piece.removeprefix(_BYTE_ORDER_MARK), False
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield rest + piece[:cut]
            rest = piece[cut:]
        elif len(rest) <= LINE_LIMIT:
            rest += piece
    if rest:
        yield rest


def _stat(path: str) -> os.stat_result:
    try:
        state = os.stat(path)
    except (OSError, ValueError) as error:
        raise CommandError(f"No file {path}. {_advice(path)}") from error
    if stat.S_ISDIR(state.st_mode):
        raise CommandError(f"{path} is a folder; give its files, such as {Path(path) / '*.jsonl'}.")
    if not os.access(path, os.R_OK):
        raise CommandError(f"{path} may not be read by this user.")
    return state


def _advice(path: str) -> str:
    folder = Path(path).parent
    if not folder.is_dir():
        return f"There is no folder {folder} either."
    near = nearest(Path(path).name, sorted(os.listdir(folder)))
    return (
        f"Did you mean {folder / near}?"
        if near
        else "Give a .jsonl, .json, .csv, .parquet or .gz file, or -."
    )


def lines_of(block: Block) -> list[bytes]:
    """The lines of a block without their ends."""
    lines = block.raw.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def read_line(line: bytes) -> dict[str, Any]:
    """The JSON object on a line; raises LineError where there is none."""
    if len(line) > LINE_LIMIT:
        raise LineError(f"is longer than {LINE_LIMIT >> 20} MiB.")
    try:
        row = _decode(line.decode())
    except UnicodeDecodeError as error:
        raise LineError(f"is not UTF-8 (byte {error.start + 1}).") from error
    except json.JSONDecodeError as error:
        what = f"{error.msg}, column {error.colno}" if line.strip() else "it is empty"
        raise LineError(f"is not valid JSON ({what}).") from error
    except RecursionError as error:
        raise LineError("is not valid JSON (nested too deeply).") from error
    except ValueError as error:  # an integer of thousands of digits
        raise LineError(f"cannot be read ({error}).") from error
    if not isinstance(row, dict):
        raise LineError(
            f'is {_KINDS.get(type(row), "a number")}; each line is one JSON object {{"completion": ...}}.'
        )
    return row


_KINDS = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def is_summary(row: dict[str, Any]) -> bool:
    """True for the line that `--json` writes after the verdicts."""
    return "line" not in row and "accuracy" in row and "reasons" in row
