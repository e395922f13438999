"""How the trainer touches the disk: every file is whole or absent, and every failure names the path."""

import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from spg_trainer.errors import CheckpointError

COMPLETE = "COMPLETE"
RESUME = "Free space or fix the permissions, then continue with --resume auto; a new run can use another --output-dir."
"""What a training run should do after a refused write; other commands name their own way on."""


def rank() -> int:
    """This process's number among those of the run, 0 when it is alone; only rank 0 writes and prints."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    return int(os.environ.get("RANK", "0"))


@contextmanager
def writing(path: Path, advice: str = RESUME) -> Iterator[None]:
    """Turns the system's refusal (disk full, no permission) into a CheckpointError with `path` and `advice`."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"Cannot write {path}: {error.strerror or error}. {advice}") from error


def sync(path: Path) -> None:
    """Waits until a file's bytes, or a folder's list of names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, text: str, advice: str = RESUME) -> None:
    """Writes a text file so that a reader finds the old content or the new, never a part of it."""
    aside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with writing(path, advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_text(text, encoding="utf-8")
            sync(aside)
            os.replace(aside, path)
            sync(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """`value` as JSON knows it: arrays become numbers and lists, NaN and infinities null, the rest text."""
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value, key=str)]
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def flat(tree: Mapping[str, Any], ignore: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`, without the dotted names in `ignore`; an empty mapping leaves nothing."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name not in ignore:
            found |= flat(value, ignore, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def line(row: Mapping[str, Any]) -> str:
    """One JSONL line; floats in their shortest exact form, so that equal values give equal bytes."""
    return json.dumps(plain(row), allow_nan=False) + "\n"


def document(content: Mapping[str, Any]) -> str:
    """A JSON file for people: indented, keys in the order given."""
    return json.dumps(plain(content), indent=2, allow_nan=False) + "\n"


def put(target: Path, write: Callable[[Path], None], advice: str = RESUME) -> None:
    """Fills a folder aside by `write`, marks it COMPLETE and renames it to `target`.

    Raises CheckpointError, with `advice` on what to do next, if the disk refuses; `target` is as it was then.
    """
    from safetensors import SafetensorError

    target = target.resolve()  # `.` and `..` have no name of their own
    aside = target.with_name(f".{target.name}.tmp")
    try:
        shutil.rmtree(aside, ignore_errors=True)  # what an interrupted save left
        aside.mkdir(parents=True)
        write(aside)
        paths = sorted(path for path in aside.rglob("*") if path.is_file())
        sizes = {path.relative_to(aside).as_posix(): path.stat().st_size for path in paths}
        for path in [*paths, *(path for path in aside.rglob("*") if path.is_dir())]:
            sync(path)
        (aside / COMPLETE).write_text(json.dumps({"files": sizes}) + "\n", encoding="utf-8")
        sync(aside / COMPLETE)
        sync(aside)
        grave = bury(target)
        os.replace(aside, target)
        sync(target.parent)
        shutil.rmtree(grave, ignore_errors=True)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save: a full disk is a RuntimeError
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
        raise CheckpointError(
            f"Cannot write {target}: {reason}. What was saved before is untouched. {advice}"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def defect(folder: Path) -> str | None:
    """What makes a checkpoint unusable, in words that follow its name; None if it is whole."""
    try:
        sizes = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return f"has no {COMPLETE} marker (the save was interrupted)"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"has an unreadable {COMPLETE} marker ({error})"
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"lacks the file {name}"
        if path.stat().st_size != size:
            return f"has a torn file {name} ({path.stat().st_size} bytes instead of {size})"
    return None


def bury(path: Path) -> Path:
    """Renames a folder, if it is there, out of sight: a kill while it is deleted leaves no visible half."""
    grave = path.with_name(f".{path.name}.deleted")
    shutil.rmtree(grave, ignore_errors=True)
    if path.exists():
        os.replace(path, grave)
    return grave


def probe(folder: Path, advice: str) -> None:
    """Makes a folder, if it is not there, and writes into it; raises CheckpointError with `advice` if it cannot."""
    with writing(folder, advice):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def rehearse(target: Path, advice: str) -> None:
    """Does all that `put` will do to an absent or empty folder, and leaves it absent or empty again.

    Raises CheckpointError, with `advice`, where `put` would: no permission, no such place, a mount point.
    """
    there = target.exists()
    put(target, lambda aside: None, advice)
    with writing(target, advice):
        (target / COMPLETE).unlink()
        if not there:
            target.rmdir()
