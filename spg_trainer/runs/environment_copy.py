"""The file that `--env ./file.py:ID` names: a run keeps a copy, so that it can be evaluated wherever it is moved."""

import shutil
import sys
from pathlib import Path

from spg_trainer.runs.files import writing

FOLDER = "environment"


def keep(run: Path, env: str) -> None:
    """Copies an environment's file, and the modules beside it that are loaded, to RUN/environment/, once.

    Raises CheckpointError if the disk refuses.
    """
    file, copies = _file(env), run / FOLDER
    if file is None or (copies / file.name).is_file():
        return
    loaded = [Path(place) for m in [*sys.modules.values()] if (place := getattr(m, "__file__", None))]
    beside = [place for place in loaded if place.parent == file.resolve().parent]
    with writing(copies):
        copies.mkdir(exist_ok=True)
        for place in (*beside, file):  # the file last: where it is, its modules are
            shutil.copyfile(place, copies / place.name)


def kept(run: Path | None, env: str) -> str:
    """The name of an environment by the copy of its run, where that has one that the file itself does not equal."""
    file = _file(env)
    if run is None or file is None or not (copy := run / FOLDER / file.name).is_file():
        return env
    same = file.is_file() and file.read_bytes() == copy.read_bytes()
    return env if same else f"{copy}:{env.rpartition(':')[2]}"


def _file(env: str) -> Path | None:
    """The file in the name of an environment; None where it names a module or one that is installed."""
    where = env.rpartition(":")[0]
    return Path(where) if where.endswith(".py") else None
