"""Which weights `--model` opens, by `resolve_model`. Imports no torch.

`tiny`: the embedded model of the task, else Sudoku's; `tiny:TASK`: that of this task, whatever task it is tried on;
`tiny:block` and `tiny:shift`, of other families, know Sudoku alone. A folder: the model or adapter in it; of a run,
that in its `model/`, the best by validation. Anything else: a Hub id.
"""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from spg_trainer.errors import ModelError, did_you_mean
from spg_trainer.settings.task import parse_tasks

FALLBACK = "sudoku"
"""The task of the embedded model where no task is named, or none of those that have a model."""
SFT = "sft.yaml"
"""The settings of `sft` in the folder of its model: what `sft --resume` goes on with."""
PATTERNS = ("block", "shift")
"""Embedded models beside LLaDA's kind, `tiny:NAME`: blocks of attention from left to right; logits shifted by one."""


@dataclass(frozen=True)
class Weights:
    """Where a model is: `base` is a folder or a Hub id, `adapter` an adapter folder to put on it."""

    base: str
    adapter: Path | None = None
    note: str = ""

    @property
    def is_local(self) -> bool:
        return Path(self.base).is_dir()


def resolve_model(name: str, env: str | None = None) -> Weights:
    """Finds the model that `name` stands for; `env` picks the embedded model of that environment for `tiny`.

    Raises ModelError that names the nearest folder.
    """
    if of_task := task_model(name):
        return Weights(str(of_task))
    if is_embedded(name, "tiny"):
        return _tiny(env, name.partition(":")[2])
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _open_folder(folder)
    if folder.exists() or looks_local(name):
        beside = [str(path) for path in folder.parent.glob("*") if path.is_dir()]
        embedded = [folder.name.replace("-", ":", 1) for folder in models_folder().glob("tiny-*")]
        known = [
            "tiny",
            *(f"tiny:{kind}" for kind in PATTERNS),
            *(one for one in embedded if task_model(one)),
        ]
        near = did_you_mean(folder, [*known, *beside])
        raise ModelError(
            f"model {name!r} is no folder (looked in {Path.cwd()}). {near}--model takes {', '.join(sorted(known))}, a "
            "folder, or a Hub id ORG/NAME"
        )
    return Weights(name)


def unseen(name: str, env: str) -> str:
    """A note on the tasks of `env` that an embedded model has not seen; "" if it has seen all of them.

    "" also for a model that is not embedded, which may know any task.
    """
    return resolve_model(name, env).note if is_embedded(name, "tiny") else ""


def knows_nothing(name: str, env: str) -> bool:
    """Whether `--model` is an embedded model that has seen none of the tasks, so that nothing it writes is right."""
    if not is_embedded(name, "tiny") or task_model(name):
        return False
    kind = name.partition(":")[2]
    return not any(_embedded_folder(task.ours, kind).is_dir() for task in parse_tasks(env))


def is_embedded(model: str, *words: str) -> bool:
    """Whether `--model` is one of these words (`tiny`, `new`), or WORD:NAME with a name of `PATTERNS`.

    Among the words `tiny` stands for `tiny:TASK` too, of a task that has an embedded model.
    """
    is_word = any(model in (word, *(f"{word}:{kind}" for kind in PATTERNS)) for word in words)
    return is_word or ("tiny" in words and task_model(model) is not None)


def task_model(name: str) -> Path | None:
    """The folder of the embedded model that `tiny:TASK` names; None for another name, and where the task has none."""
    word, _, task = name.partition(":")
    folder = _embedded_folder(task, "")
    # No task has other characters; `sudoku-block`, which is none, has a folder.
    return folder if word == "tiny" and task.isalnum() and folder.is_dir() else None


def _tiny(env: str | None, kind: str) -> Weights:
    """The embedded model of the first of some tasks that has one, else Sudoku's, with a note on tasks that it lacks.

    kind: a name of `PATTERNS`, or empty for LLaDA's kind.
    """
    tasks = [task.ours for task in parse_tasks(env)] if env else [FALLBACK]
    with_model = [task for task in tasks if _embedded_folder(task, kind).is_dir()]
    seen = with_model[0] if with_model else FALLBACK
    note = (
        f"the small model that comes with this package has only seen {seen} and knows nothing of "
        f"{'the other tasks' if with_model else 'this task'}; "
        "teach it the format first with sft, and pass the folder that this writes as --model"
    )
    return Weights(str(_embedded_folder(seen, kind)), note="" if set(tasks) == {seen} else note)


def _embedded_folder(task: str | None, kind: str) -> Path:
    """Where the embedded model of a task is, if there is one."""
    return models_folder() / (f"tiny-{task}-{kind}" if kind else f"tiny-{task}")


def models_folder() -> Path:
    """The embedded models: in the wheel inside this package, in a checkout beside it."""
    package = Path(__file__).parents[1]
    inside = package / "data"
    return (inside if inside.is_dir() else package.parent / "data") / "models"


def _open_folder(folder: Path) -> Weights:
    """The adapter or model in a folder, or in its `model/`; ModelError where there is neither, with what to do."""
    if (folder / "adapter_config.json").is_file():
        return Weights(_base_of(folder), adapter=folder)
    if (folder / "config.json").is_file():
        return Weights(str(folder))
    if (folder / "model").is_dir():
        return _open_folder(folder / "model")
    checkpoints = [mark.parent for mark in folder.glob("checkpoints/step-*/COMPLETE")]
    if checkpoints:
        newest = max(checkpoints, key=lambda path: (len(path.name), path.name))  # step-3 < step-20
        raise ModelError(
            f"run folder {shlex.quote(str(folder))} has no finished model. Finish it: {finishing(folder)}; or use its "
            f"newest checkpoint: --model {shlex.quote(str(newest))}"
        )
    raise ModelError(f"folder {folder} has no config.json, adapter_config.json or model/; pass one that has")


def finishing(folder: Path) -> str:
    """The command that ends the run of a folder, which has begun there."""
    word = "sft " if (folder / SFT).is_file() else ""
    return f"python -m spg_trainer {word}--resume {shlex.quote(str(folder))}"


def _base_of(adapter: Path) -> str:
    """The base model that an adapter names: a folder, seen from here or from it, an embedded model, or a Hub id."""
    file = adapter / "adapter_config.json"
    try:
        base = Path(json.loads(file.read_text())["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} names no base model; put it at base_model_name_or_path") from error
    for folder in (base, adapter / base):  # a relative path may be meant from here, or from the adapter
        if folder.is_dir():
            return _open_folder(folder).base
    # An adapter of an embedded model may come from another machine, where the package lies elsewhere.
    embedded = models_folder() / base.name
    if base.name.startswith("tiny-") and embedded.is_dir():
        return str(embedded)
    if looks_local(str(base)):
        raise ModelError(
            f"the base model {str(base)!r} is not here; correct base_model_name_or_path in {file}"
        )
    return str(base)


def looks_local(name: str) -> bool:
    """Hub ids are ORG/NAME as the Hub allows them; all else, or a name below an existing folder, is a path.

    Source: huggingface_hub.utils.validate_repo_id.
    """
    allowed = re.fullmatch(r"[A-Za-z0-9][\w.-]*\b/\b[\w.-]{1,96}\b", name, re.ASCII)
    return not allowed or bool(re.search(r"--|\.\.|\.git$", name)) or Path(name).parent.is_dir()
