"""What `--model` means: `tiny`, a model, adapter or run folder, or a Hub id. Imports no torch."""

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from spg_trainer.errors import ModelError
from spg_trainer.settings.recipes import own_task

FALLBACK = "sudoku"
_ACCEPTED = " (--model takes `tiny`, a folder, or a Hub id such as GSAI-ML/LLaDA-8B-Instruct)"


@dataclass(frozen=True)
class Source:
    """Where a model is: `base` is a folder or a Hub id, `adapter` an adapter folder to put on it."""

    base: str
    adapter: Path | None = None
    note: str = ""

    @property
    def is_local(self) -> bool:
        return Path(self.base).is_dir()


def resolve_model(name: str, env: str | None = None) -> Source:
    """Finds the model that `name` stands for; `env` picks the embedded model of that environment for `tiny`.

    Raises ModelError that names the nearest thing there is.
    """
    if name == "tiny":
        return _tiny(env)
    if not name.strip():
        raise ModelError(f"--model is empty{_ACCEPTED}")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _open_folder(folder)
    if folder.exists():
        raise ModelError(f"model {name!r} is a file; pass the folder that holds it: --model {folder.parent}")
    if looks_local(name):
        raise ModelError(f"model {name!r}: there is no such folder{_nearest(folder)}{_ACCEPTED}")
    return Source(base=name)


def first_line(error: Exception) -> str:
    """The first line of an error, without its full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _tiny(env: str | None) -> Source:
    folder = packaged(f"tiny-{own_task(env) if env else FALLBACK}")
    if folder is not None:
        return Source(base=str(folder))
    note = (
        f"the embedded model has only seen {FALLBACK} and knows nothing of this task; teach it the format first with "
        f"`python -m spg_trainer sft --env {env}` and pass the folder that writes as --model"
    )
    return Source(base=str(packaged(f"tiny-{FALLBACK}")), note=note)


def models_folder() -> Path:
    """The embedded models: in the wheel inside this package, in a checkout beside it."""
    package = Path(__file__).parents[1]
    inside = package / "data"
    return (inside if inside.is_dir() else package.parent / "data") / "models"


def packaged(name: str) -> Path | None:
    """The folder of an embedded model, or None."""
    folder = models_folder() / name
    return folder if (folder / "config.json").is_file() else None


def _open_folder(folder: Path) -> Source:
    if (folder / "adapter_config.json").is_file():
        return Source(base=_base_of(folder), adapter=folder)
    if (folder / "config.json").is_file():
        return Source(base=str(folder))
    if (folder / "model").is_dir():
        return _open_folder(folder / "model")
    checkpoints = [mark.parent for mark in folder.glob("checkpoints/step-*/COMPLETE")]
    if checkpoints:
        newest = max(checkpoints, key=lambda path: (len(path.name), path.name))  # step-3 < step-20
        raise ModelError(f"run folder {folder} has no finished model; use its newest checkpoint: {newest}")
    content = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise ModelError(
        f"model folder {folder} has no config.json, adapter_config.json or model/ (it holds: {content}); pass a folder "
        "written by save_pretrained, by a run, or downloaded from the Hub"
    )


def _base_of(folder: Path) -> str:
    file = folder / "adapter_config.json"
    try:
        base = json.loads(file.read_text())["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        base = None
    if not base or not isinstance(base, str):
        raise ModelError(
            f"{file} names no base model; put its folder or Hub id there as base_model_name_or_path"
        )
    for candidate in (Path(base), folder / base):
        if candidate.is_dir():
            return _open_folder(candidate).base
    # An adapter of an embedded model may come from another machine, where the package lies elsewhere.
    embedded = packaged(Path(base).name) if Path(base).name.startswith("tiny-") else None
    if embedded is None and looks_local(base):
        raise ModelError(
            f"the adapter in {folder} was trained on {base!r}, which is not here; correct "
            f"base_model_name_or_path in {file}"
        )
    return str(embedded or base)


def looks_local(name: str) -> bool:
    """Hub ids are ORG/NAME in a small alphabet; all else, or a name below an existing folder, is a path."""
    return not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) or Path(name).parent.is_dir()


def _nearest(folder: Path) -> str:
    parent = folder.parent
    while not parent.is_dir():
        folder, parent = parent, parent.parent
    known = {path.name: str(path) for path in parent.iterdir() if path.is_dir()} | {"tiny": "tiny"}
    close = difflib.get_close_matches(folder.name, known, n=1, cutoff=0.5)
    return f"; did you mean {known[close[0]]}?" if close else ""
