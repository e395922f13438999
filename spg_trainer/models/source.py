"""Which weights `--model` opens, by `resolve_model`. Imports no torch.

`tiny`: the embedded model of the task, else Sudoku's. A folder: the model or adapter in it; of a run, that in its
`model/`, the best by validation. Anything else: a Hub id.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from spg_trainer.errors import ModelError, did_you_mean
from spg_trainer.settings.recipes import own_task

FALLBACK = "sudoku"


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

    Raises ModelError that names the nearest folder.
    """
    if name == "tiny":
        return _tiny(env)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _open_folder(folder)
    if folder.exists() or looks_local(name):
        beside = [path for path in folder.parent.glob("*") if path.is_dir()]
        near = did_you_mean(str(folder), ["tiny", *map(str, beside)])
        raise ModelError(
            f"model {name!r} is no folder. {near}--model takes `tiny`, a folder, or a Hub id such as "
            "GSAI-ML/LLaDA-8B-Instruct"
        )
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
    raise ModelError(
        f"model folder {folder} has no config.json, adapter_config.json or model/; pass one that has"
    )


def _base_of(adapter: Path) -> str:
    """The base model that an adapter names: a folder, seen from here or from it, an embedded model, or a Hub id."""
    file = adapter / "adapter_config.json"
    try:
        base = Path(json.loads(file.read_text())["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file} names no base model; put its folder or Hub id at base_model_name_or_path"
        ) from error
    for candidate in (base, adapter / base):
        if candidate.is_dir():
            return _open_folder(candidate).base
    # An adapter of an embedded model may come from another machine, where the package lies elsewhere.
    embedded = packaged(base.name) if base.name.startswith("tiny-") else None
    if embedded is None and looks_local(str(base)):
        text = f"the adapter in {adapter} was trained on {str(base)!r}, which is not here"
        raise ModelError(f"{text}; correct base_model_name_or_path in {file}")
    return str(embedded or base)


def looks_local(name: str) -> bool:
    """Hub ids are ORG/NAME in a small alphabet; all else, or a name below an existing folder, is a path."""
    return not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) or Path(name).parent.is_dir()
