"""Reads and writes the trainer's files: every file is whole or absent, and every failure names the path."""

import atexit
import errno
import json
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.settings.types import to_json

COMPLETE = "COMPLETE"
"""The file, written last, that lists the sizes and checksums of all other files of a folder."""
PART = 2**28
"""Bytes of a file that have a checksum of their own, so that several threads can read a large file."""
_FULL = ("inline_container", "iostream error", "StorageFull", "No space left")
"""Words in the errors of torch and safetensors that mean: the file could not be written to its end."""


@contextmanager
def writing(path: Path, *refusals: type[Exception], begins: bool = False) -> Iterator[None]:
    """Inside, a disk's refusal (OSError or one of `refusals`) becomes a CheckpointError that names `path`.

    begins: whether nothing was written yet, so that there is nothing to continue.
    """
    try:
        yield
    except (OSError, *refusals) as error:
        text = str(error) or type(error).__name__
        reason = getattr(error, "strerror", None) or text.splitlines()[0]
        has_errno_of_full_disk = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if has_errno_of_full_disk or any(words in text for words in _FULL):
            reason = "disk full"
        remedy = (
            "What was saved before is untouched: free space or fix the permissions and continue with $resume, or "
            "choose another folder."
        )
        if begins:
            remedy = "Nothing has begun: free space or fix the permissions, or choose another $output_dir."
        raise CheckpointError(f"Cannot write {path}: {reason}. {remedy}") from error


def as_path(place: object, function: str) -> Path:
    """The path of a run's folder or file that a function was given; ConfigError for what is no path."""
    if not isinstance(place, str | Path):
        raise ConfigError(
            f"{function} takes the path of a run, e.g. 'runs/NAME', not {place!r:.60}. Several paths are several "
            "arguments."
        )
    return Path(place)


def sync(path: Path) -> None:
    """Waits until a file's bytes, or a folder's list of names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Writes a text file as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that a reader finds the old content or the new, never a part of it."""
    aside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(content)
            sync(aside)
            os.replace(aside, path)
            sync(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Fills a temporary folder by `write`, adds COMPLETE and renames the folder to `target`.

    Every file is synced first, and an old folder is renamed away, so a kill at any moment leaves a whole folder. Raises
    CheckpointError if the disk refuses; `target` is unchanged then.
    """
    try:
        begin_folder(target, write)
        finish_folder(target)
    finally:
        shutil.rmtree(aside_of(target), ignore_errors=True)


def aside_of(target: Path) -> Path:
    """The temporary folder, beside `target`, in which `write_folder` fills it."""
    target = target.resolve()  # `.` and `..` have no name of their own
    return target.with_name(f".{target.name}.tmp")


def begin_folder(target: Path, write: Callable[[Path], None]) -> None:
    """The first half of `write_folder`: fills the temporary folder."""
    from safetensors import SafetensorError

    aside = aside_of(target)
    with writing(target, RuntimeError, SafetensorError):  # RuntimeError: torch.save on a full disk
        shutil.rmtree(aside, ignore_errors=True)  # what an interrupted save left
        aside.mkdir(parents=True)
        write(aside)


def finish_folder(target: Path) -> None:
    """The second half of `write_folder`: adds COMPLETE to the temporary folder, and renames it to `target`."""
    target, aside = target.resolve(), aside_of(target)
    # The checksums are computed while the disk is busy with the files.
    with writing(target), ThreadPoolExecutor() as threads:
        paths = sorted(aside.rglob("*"))
        sizes = {p.relative_to(aside).as_posix(): p.stat().st_size for p in paths if p.is_file()}
        sums = start_checksums(aside, sizes, threads)
        (aside / COMPLETE).touch()
        # The rights that the user's umask gives; safetensors writes files with fewer.
        mode = (aside / COMPLETE).stat().st_mode
        for path in paths:
            if path.is_file():
                path.chmod(mode)
            sync(path)
        crc32 = {name: [part.result() for part in parts] for name, parts in sums.items()}
        content = {"files": sizes, "crc32": crc32}
        (aside / COMPLETE).write_text(json.dumps(content) + "\n", encoding="utf-8")
        sync(aside / COMPLETE)
        sync(aside)
        replaced = _hide(target)
        os.replace(aside, target)
        sync(target.parent)
        shutil.rmtree(replaced, ignore_errors=True)


def delete_folder(path: Path) -> None:
    """Deletes a folder; if the process is killed in between, no half of the folder is left under its name."""
    shutil.rmtree(_hide(path), ignore_errors=True)


def delete_parts(folder: Path, names: Collection[str]) -> None:
    """Deletes files and folders from a folder of `write_folder`, which counts as whole at any moment."""
    content = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
    remaining = {}
    for key, entries in content.items():  # the sizes and the checksums, by names of files
        remaining[key] = {file: entry for file, entry in entries.items() if file.split("/")[0] not in names}
    if remaining != content:
        write_text(folder / COMPLETE, json.dumps(remaining) + "\n")
    for path in (folder / name for name in names):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _hide(path: Path) -> Path:
    """Renames a file or folder, if it is there, to a hidden name beside it; returns that name."""
    hidden = path.with_name(f".{path.name}.deleted")
    shutil.rmtree(hidden, ignore_errors=True)
    if path.exists():
        os.replace(path, hidden)
    return hidden


def unused(path: Path) -> Path:
    """`path`, or the first of `path-2`, `path-3`, ... that does not exist."""
    place, number = path, 1
    while place.exists():
        number += 1
        place = path.with_name(f"{path.name}-{number}")
    return place


def claim(path: Path) -> Path:
    """Makes the folder `path`, or `path-2`, `path-3`, ..., whichever is free, and returns it.

    So processes that begin at the same moment have different folders. If it is still empty when this process ends, it
    is removed. Raises CheckpointError if the disk refuses.
    """
    while True:
        place = unused(path)
        with writing(place, begins=True):
            try:
                place.mkdir(parents=True)
            except FileExistsError:  # another process was faster
                continue
        atexit.register(remove_if_empty, place.resolve())
        return place


def remove_if_empty(folder: Path) -> None:
    """Removes a folder in which nothing lies, and then the folder around it, if nothing else lies there."""
    with suppress(OSError):  # what is not empty cannot be removed
        folder.rmdir()
        folder.parent.rmdir()


def incomplete(folder: Path) -> str | None:
    """Why a folder of `write_folder` is not whole, in words that follow its name; None if it is whole."""
    try:
        sizes = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError):
        return f"has no {COMPLETE} marker (the save was interrupted)"
    for name, size in sizes.items():
        if not (folder / name).is_file():
            return f"lacks the file {name}"
        if (actual := (folder / name).stat().st_size) != size:
            return f"has a torn file {name} ({actual} bytes instead of {size})"
    return None


def damaged(folder: Path) -> str | None:
    """As `incomplete`, but reads all files, and so also finds bytes that have changed, or that a disk has lost.

    A folder of an older version has no checksums; only its sizes count.
    """
    return incomplete(folder) or changed(folder)


def changed(folder: Path, names: str = "*", at_most: float = math.inf) -> str | None:
    """Which file of a folder of `write_folder` has other bytes than were written, in words; None if none is known to.

    names: a pattern of the files that are read. at_most: larger files are left out.
    """
    try:
        crc32 = json.loads((folder / COMPLETE).read_text(encoding="utf-8")).get("crc32", {})
    except (OSError, ValueError):
        return None
    paths = {name: folder / name for name in crc32 if fnmatch(name, names)}
    read = [name for name, path in paths.items() if path.is_file() and path.stat().st_size <= at_most]
    with ThreadPoolExecutor() as threads:
        for name, parts in start_checksums(folder, read, threads).items():
            try:
                sums = [part.result() for part in parts]
            except OSError as error:
                return f"has a damaged file {name} (it cannot be read: {error.strerror or error})"
            if sums != crc32[name]:
                return f"has a damaged file {name} (its bytes have changed since it was written)"
    return None


def start_checksums(
    folder: Path, names: Iterable[str], threads: ThreadPoolExecutor
) -> dict[str, list[Future[str]]]:
    """{name of a file: the CRC-32 of each of its `PART`s in hexadecimal}, which `threads` begin to compute."""
    checksums = {}
    for name in names:
        starts = range(0, (folder / name).stat().st_size, PART)
        checksums[name] = [threads.submit(_crc32, folder / name, start) for start in starts]
    return checksums


def _crc32(path: Path, start: int) -> str:
    """The CRC-32, in hexadecimal, of the `PART` of a file that begins at the byte `start`."""
    block = memoryview(bytearray(2**20))
    checksum, bytes_left = 0, PART
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while bytes_left and (count := file.readinto(block[:bytes_left])):
            checksum = zlib.crc32(block[:count], checksum)
            bytes_left -= count
    return f"{checksum:08x}"


def check_writable(folder: Path) -> None:
    """Makes a folder, if it is not there, and writes into it; raises CheckpointError if that fails."""
    with writing(folder, begins=True):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def check_place(folder: Path) -> None:
    """As `check_writable`, but makes no folder: if it is not there, its nearest existing parent must be writable."""
    with writing(folder, begins=True):
        above = next(place for place in (folder, *folder.parents) if place.exists())
        tempfile.TemporaryFile(dir=above).close()


def read_json(file: Path) -> dict[str, Any] | None:
    """The content of a JSON file; None if there is no such file."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; [] without a file. Lines that are cut off are left out."""
    rows: list[dict[str, Any]] = []
    if not file.is_file():
        return rows
    # Behind the last newline is nothing, or a line that is cut off.
    *lines, _ = file.read_bytes().split(b"\n")
    for line in lines:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def json_line(row: Mapping[str, Any]) -> str:
    """A line of JSONL; floats are in their shortest exact form, so equal values give equal bytes."""
    return json.dumps(to_json(row), allow_nan=False) + "\n"
