"""The files that `--env ./file.py:ID` and `--algorithm ./file.py:Class` name: a run keeps copies of them.

So it can be evaluated and resumed wherever it is moved, and it notices when a file is no longer what it began with.
"""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spg_trainer.errors import ConfigError
from spg_trainer.runs.files import writing

if TYPE_CHECKING:
    from spg_trainer.settings.fields import Config

ENVIRONMENT, ALGORITHM = "environment", "algorithm"
"""Folders of a run."""
FIELDS = {"env": ENVIRONMENT, "algorithm": ALGORITHM}
"""{setting that may name a file: the folder of its copy}; the flag has the setting's name."""


def keep(run: Path, folder: str, name: str) -> None:
    """Copies the file of an environment or an algorithm, and the loaded modules beside it, to RUN/FOLDER, once.

    Raises CheckpointError if the disk refuses.
    """
    file, copies = file_of(name), run / folder
    if file is None or (copies / file.name).is_file():
        return
    loaded = [Path(place) for m in [*sys.modules.values()] if (place := getattr(m, "__file__", None))]
    beside = [place for place in loaded if place.parent == file.resolve().parent]
    with writing(copies):
        copies.mkdir(exist_ok=True)
        for place in (*beside, file):  # the file last: where it is, its modules are
            shutil.copyfile(place, copies / place.name)


def kept(run: Path | None, folder: str, name: str) -> str:
    """The name of an environment or algorithm by its run's copy, where there is one that the file does not equal."""
    file, copy = file_of(name), copy_of(run, folder, name)
    if file is None or copy is None:
        return name
    same = file.is_file() and file.read_bytes() == copy.read_bytes()
    return name if same else f"{copy}:{name.rpartition(':')[2]}"


def with_copies(run: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """What config.yaml of a run holds, with the run's copies in place of own files that are not where they were."""
    gone = {
        field: kept(run, folder, name)
        for field, folder in FIELDS.items()
        if (file := file_of(name := str(values.get(field) or ""))) is not None and not file.is_file()
    }
    return {**values, **gone}


def kept_if_gone(run: Path, config: "Config") -> "Config":
    """The settings of a run, with its copies in place of own files that are not where they were."""
    return replace(config, **with_copies(run, {field: getattr(config, field) for field in FIELDS}))


def refuse_changed_files(run: Path, config: "Config") -> None:
    """Raises ConfigError if a file of the environment or algorithm is no longer the one that the run began with."""
    named = {file.name for field in FIELDS if (file := file_of(getattr(config, field))) is not None}
    for field, folder in FIELDS.items():
        name = getattr(config, field)
        file, copy = file_of(name), copy_of(run, folder, name)
        if file is None or copy is None or file.resolve() == copy.resolve():
            continue
        for before in sorted((run / folder).glob("*.py")):
            now = file.parent / before.name
            if now.name != file.name and now.name in named:  # of environment and algorithm in one folder
                continue
            if now.is_file() and now.read_bytes() != before.read_bytes():
                raise ConfigError(
                    f"{now} has changed since {run} began: {first_difference(before, now)}. To go on with the run's "
                    f"own copy: --{field} {copy}:{name.rpartition(':')[2]}. To train with the new file, start a new "
                    "run with another --output-dir."
                )


def canonical(run: Path, config: "Config") -> "Config":
    """The settings with the files that the run has copies of by their names alone, wherever they lie."""
    known = {
        field: f"{copy.name}:{name.rpartition(':')[2]}"
        for field, folder in FIELDS.items()
        if (copy := copy_of(run, folder, name := getattr(config, field))) is not None
    }
    return replace(config, **known)


def first_difference(before: Path, now: Path) -> str:
    """The first line in which two texts differ, e.g. "line 3 was 'a = 1', now 'a = 2'"."""
    old, new = (file.read_text(encoding="utf-8", errors="replace").splitlines() for file in (before, now))
    longest = max(len(old), len(new))
    old, new = (lines + [""] * (longest - len(lines)) for lines in (old, new))
    number = next((i for i, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]), None)
    if number is None:
        return "its line ends"
    return f"line {number + 1} was {old[number].strip()!r:.80}, now {new[number].strip()!r:.80}"


def copy_of(run: Path | None, folder: str, name: str) -> Path | None:
    """The run's copy of the file that a name names; None if there is none."""
    file = file_of(name)
    copy = run / folder / file.name if run is not None and file is not None else None
    return copy if copy is not None and copy.is_file() else None


def file_of(name: str) -> Path | None:
    """The file in the name of an environment or algorithm; None where it names a module or one that is installed."""
    where = name.rpartition(":")[0]
    return Path(where) if where.endswith(".py") else None
