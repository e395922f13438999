"""The file that `--env ./file.py:ID` names: a run keeps a copy, so that it can be evaluated wherever it is moved."""

import hashlib
import shutil
import sys
from pathlib import Path

from spg_trainer.runs.files import writing

FOLDER = "environment"


def environment_file(env: str) -> Path | None:
    """The file in the name of an environment; None where it names a module or one that is installed."""
    where = env.rpartition(":")[0]
    return Path(where) if where.endswith(".py") else None


def keep(run: Path, env: str) -> None:
    """Copies an environment's file, and the modules beside it that are loaded, to RUN/environment/, once.

    Raises CheckpointError if the disk refuses.
    """
    file = environment_file(env)
    if file is None or (run / FOLDER / file.name).is_file():
        return
    folder = file.resolve().parent
    loaded = [Path(place) for m in [*sys.modules.values()] if (place := getattr(m, "__file__", None))]
    with writing(run / FOLDER):
        (run / FOLDER).mkdir(exist_ok=True)
        beside = [place for place in loaded if place.parent == folder]
        for place in (*beside, file):  # the file last: where it is, its modules are
            shutil.copyfile(place, run / FOLDER / place.name)


def kept(run: Path | None, env: str) -> str:
    """The name of an environment by the copy of its run, where that has one that the file itself does not equal."""
    file = environment_file(env)
    if run is None or file is None or not (copy := run / FOLDER / file.name).is_file():
        return env
    same = file.is_file() and file.read_bytes() == copy.read_bytes()
    return env if same else f"{copy}:{env.rpartition(':')[2]}"


def digest(env: str) -> str | None:
    """12 hex digits of an environment's file; None where it has none."""
    file = environment_file(env)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file else None
