"""Finds the weights that `--model` opens (`resolve_model`). This file imports no torch.

These names are known (an *embedded* model is a small trained one that comes with the package):

- `tiny` is the embedded model of the task, or of Sudoku if the task has none.
- `tiny:TASK` is the embedded model of TASK, even if another task is named.
- `tiny:block` and `tiny:shift` are embedded models of other families, which only know Sudoku.
- A folder stands for the model or adapter in it; a run folder for the one in its `model/`, the best by validation.
- Anything else is a Hub id.

What is known of published models without a network is in `models/published.yaml`: `known_settings`, `family_layer`.
"""

import json
import re
import shlex
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from spg_trainer.errors import ModelError, did_you_mean
from spg_trainer.settings import packages  # `packages.verifiers` is ours, loaded on first use
from spg_trainer.settings.recipes import Layer, parsed
from spg_trainer.settings.task import parse_tasks

FALLBACK = "sudoku"
"""`tiny` is the embedded model of this task if no task is named, or no named task has an embedded model."""
LISTED = 5
"""How many models in a folder an error names: the last ones."""
PATTERNS = ("block", "shift")
"""The NAMEs of `tiny:NAME` that are kinds of models instead of tasks: `block` has block-causal attention, and `shift`
predicts each token from the position before it. All other embedded models are of LLaDA's kind."""


@dataclass(frozen=True)
class Weights:
    """Where the weights of a model are."""

    base: str
    """A folder or a Hub id."""
    adapter: Path | None = None
    """The folder of the adapter that is put on the base, if there is one."""
    note: str = ""
    """A note for the user if an embedded model does not know the task; else ""."""

    @property
    def is_local(self) -> bool:
        """Whether the base is a folder, so that nothing is downloaded."""
        return Path(self.base).is_dir()


def resolve_model(name: str, env: str | None = None) -> Weights:
    """Finds the model that `name` stands for. env: the tasks of --env, for which `tiny` chooses an embedded model.

    Raises ModelError for a folder that does not exist or has no model; the error names the nearest folder.
    """
    if folder_of_task := task_model(name):
        return Weights(str(folder_of_task))
    if is_embedded(name, "tiny"):
        _, _, kind = name.partition(":")
        return _tiny(env, kind)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _open_folder(folder)
    if folder.exists() or looks_local(name):
        beside = {path.name: path for path in folder.parent.glob("*") if path.is_dir()}
        # The folder `tiny-countdown` is the model `tiny:countdown`.
        embedded = [path.name.replace("-", ":", 1) for path in models_folder().glob("tiny-*")]
        known = [
            "tiny",
            *(f"tiny:{kind}" for kind in PATTERNS),
            *(name_of_model for name_of_model in embedded if task_model(name_of_model)),
        ]
        advice = did_you_mean(name, known)
        if not advice and (other := packages.verifiers.errors.nearest(folder.name, beside)):
            advice = f"Did you mean {str(beside[other])!r}? "
        raise ModelError(
            f"model {name!r} is no folder (looked in {Path.cwd()}). {advice}$model takes {', '.join(sorted(known))}, a "
            "folder, or a Hub id ORG/NAME"
        )
    return Weights(name)


def unseen(name: str, env: str) -> str:
    """A note on the tasks of `env` that an embedded model has not seen.

    The note is "" if the model has seen all of them, and for any other model, which may know any task.
    """
    return resolve_model(name, env).note if is_embedded(name, "tiny") else ""


def knows_nothing(name: str, env: str) -> bool:
    """Whether --model is an embedded model that has seen no task of `env`, so that all it writes is wrong.

    False for `tiny:TASK`: a user who names the model's task knows what it has seen, and may want it for another task.
    """
    if not is_embedded(name, "tiny") or task_model(name):
        return False
    _, _, kind = name.partition(":")
    return not any(_embedded_folder(task.ours, kind).is_dir() for task in parse_tasks(env))


NEW_KINDS = (*PATTERNS, "gemma")
"""The NAMEs of `new:NAME`. `gemma` is a small DiffusionGemma."""


def is_embedded(model: str, *words: str) -> bool:
    """Whether --model is one of `words` (`tiny`, `new`), alone or with a kind, as in `new:block`.

    With the word `tiny`, `tiny:TASK` counts, too, for a task that has an embedded model.
    """
    word, colon, kind = model.partition(":")
    kind_is_allowed = not colon or kind in (NEW_KINDS if word == "new" else PATTERNS)
    if word in words and kind_is_allowed:
        return True
    return "tiny" in words and task_model(model) is not None


def task_model(name: str) -> Path | None:
    """The folder of the embedded model that `tiny:TASK` names; None for any other name, and if the task has none."""
    word, _, task = name.partition(":")
    folder = _embedded_folder(task, kind="")
    # Names of tasks have only letters and digits. So `tiny:sudoku-block` names no task, although the folder exists.
    is_found = word == "tiny" and task.isalnum() and folder.is_dir()
    return folder if is_found else None


def _tiny(env: str | None, kind: str) -> Weights:
    """The embedded model of the first task of `env` that has one, or Sudoku's; with a note on tasks new to it.

    env: the tasks of --env; None or "" = none. kind: a name of `PATTERNS`, or "" for LLaDA's kind.
    """
    tasks = [task.ours for task in parse_tasks(env)] if env else [FALLBACK]
    with_model = [task for task in tasks if _embedded_folder(task, kind).is_dir()]
    seen = with_model[0] if with_model else FALLBACK
    note = ""
    if set(tasks) != {seen}:
        note = (
            f"the small model that comes with this package has only seen {seen} and knows nothing of "
            f"{'the other tasks' if with_model else 'this task'}; "
            "teach it the format first with sft, and pass the folder that this writes as $model"
        )
    return Weights(str(_embedded_folder(seen, kind)), note=note)


def _embedded_folder(task: str | None, kind: str) -> Path:
    """The folder of a task's embedded model; it exists only if there is such a model. kind: as for `_tiny`."""
    return models_folder() / (f"tiny-{task}-{kind}" if kind else f"tiny-{task}")


def models_folder() -> Path:
    """The folder of all embedded models: inside this package if it is installed, and beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside, beside = package / "data", package.parent / "data"
    return (inside if inside.is_dir() else beside) / "models"


def _open_folder(folder: Path) -> Weights:
    """The adapter or model in a folder or in its `model/`; if there is none, a ModelError says what to do."""
    if (folder / "adapter_config.json").is_file():
        return Weights(_base_of(folder), adapter=folder)
    if (folder / "config.json").is_file():
        return Weights(str(folder))
    if (folder / "model").is_dir():
        return _open_folder(folder / "model")
    if newest := newest_checkpoint(folder):
        raise ModelError(
            f"run folder {shlex.quote(str(folder))} has no finished model. Use its newest checkpoint: "
            f"$model={shlex.quote(str(newest))}; or, unless it is still being trained, finish it: python -m "
            f"spg_trainer --resume {shlex.quote(str(folder))}"
        )
    inside = models_inside(folder)
    instead = (
        f"pass one of those in it, e.g. $model={shlex.quote(str(inside[-1]))}"
        if inside
        else "pass one that has"
    )
    names = f" It holds {len(inside)}: {', '.join(path.name for path in inside[-LISTED:])}." if inside else ""
    raise ModelError(f"folder {folder} has no config.json, adapter_config.json or model/; {instead}.{names}")


def newest_checkpoint(run: Path) -> Path | None:
    """The last complete checkpoint in a run folder, if there is one."""
    checkpoints = [file.parent for file in run.glob("checkpoints/step-*/COMPLETE")]
    # A longer name has a higher number: step-1000000 comes after step-999999.
    return max(checkpoints, key=lambda path: (len(path.name), path.name), default=None)


def models_inside(folder: Path) -> list[Path]:
    """The folders in a folder that hold a model, an adapter or a run, sorted by their numbers and names.

    E.g. other trainers leave `checkpoint-500` and `checkpoint-1000` in a folder of results.
    """

    def numbers_then_name(path: Path) -> tuple[list[int], str]:
        return [int(digits) for digits in re.findall(r"\d+", path.name)], path.name

    marks = ("config.json", "adapter_config.json", "model")
    models = [path for path in folder.iterdir() if any((path / mark).exists() for mark in marks)]
    return sorted(models, key=numbers_then_name)


def _base_of(adapter: Path) -> str:
    """The base model that an adapter names: a folder, an embedded model, or a Hub id."""
    file = adapter / "adapter_config.json"
    try:
        named = json.loads(file.read_text())["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        named = None
    # peft writes null or "" for a model made from a configuration.
    if not isinstance(named, str) or not named.strip():
        raise ModelError(f"{file} names no base model; put it at base_model_name_or_path")
    base = Path(named)
    for folder in (base, adapter / base):  # relative to the present folder, or to that of the adapter
        if folder.is_dir():
            return _open_folder(folder).base
    # An adapter on an embedded model may come from another machine, where the package lies elsewhere.
    embedded = models_folder() / base.name
    if base.name.startswith("tiny-") and embedded.is_dir():
        return str(embedded)
    if looks_local(str(base)):
        raise ModelError(
            f"the base model {str(base)!r} is not here; correct base_model_name_or_path in {file}"
        )
    return str(base)


def looks_local(name: str) -> bool:
    """Whether a name is a path, not a Hub id: it is no ORG/NAME that the Hub allows, or a folder ORG exists here.

    Source of what the Hub allows: huggingface_hub.utils.validate_repo_id.
    """
    # A name neither begins nor ends with a point or a dash: so the \b.
    has_form = re.fullmatch(r"[A-Za-z0-9][\w.-]*\b/\b[\w.-]{1,96}\b", name, re.ASCII)
    has_forbidden_part = re.search(r"--|\.\.|\.git$", name)
    return not has_form or bool(has_forbidden_part) or Path(name).parent.is_dir()


@dataclass(frozen=True)
class Canvases:
    """How a model writes that hides a token by a random one: whole canvases, each in so many steps."""

    length: int
    steps: int


NEW_CANVASES = Canvases(8, 8)
"""Those of `new:gemma`."""


def canvases_of(model: str) -> Canvases | None:
    """The canvases of the model that --model names, by its files or `published.yaml`; None if it has none."""
    if model == "new:gemma":
        return NEW_CANVASES
    if is_embedded(model, "tiny", "new"):
        return None
    try:
        base = resolve_model(model).base
    except ModelError:  # it is raised again when the model is opened
        return None
    settings = known_settings(base)
    if "canvas_length" not in settings:
        return None
    try:
        settings |= json.loads((Path(base) / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a Hub id, or a file that is missed when the model decodes
        pass
    length = settings["canvas_length"]
    return Canvases(length, settings.get("max_denoising_steps") or min(48, length))  # 48: the published ones


FILE = "models/published.yaml"


def known_settings(base: str) -> dict[str, Any]:
    """The config.json of a folder; for a Hub id, its settings in `published.yaml`; {} if there is neither."""
    file = Path(base) / "config.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        _, _, name = base.rpartition("/")
        return _facts()["models"].get(name, {})


def family_layer(model: str) -> Layer | None:
    """What is published for the model's family, as a layer of settings (`resolve.py`): decoding, layers of adapters.

    The layer has no decoding if the family's authors publish none, and a dry run says so. None for a model of a family
    that `published.yaml` does not name.
    """
    try:
        settings = known_settings(resolve_model(model).base)
    except ModelError:  # it is raised again when the model is opened
        return None
    model_type = str(settings.get("model_type"))
    # The name of a family is its model_type; if several families share it, model_type and class: `llada
    # LLaDAMoEModelLM`.
    names = {model_type}
    names |= {f"{model_type} {architecture}" for architecture in settings.get("architectures") or ()}
    for name, values in _facts()["families"].items():
        if name in names:
            return Layer(f"{FILE}: {name}", values)
    return None


def _facts() -> dict[str, Any]:
    """The content of `published.yaml`."""
    return parsed((resources.files("spg_trainer") / FILE).read_text(encoding="utf-8"))
