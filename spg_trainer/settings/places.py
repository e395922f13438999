"""Finds the files that relative paths in a run's settings name, also when a command is started from another folder.

A path is looked for in the present folder ("here"), then in the folder in which the run was started (its "start"),
which environment.json records. A run is one of training or of `sft`. If the folder of a model is in both places and the
two differ, that of the start is taken; but a run that goes on is refused, because nothing else would notice it.
"""

import filecmp
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.settings.task import Task, join_tasks, parse_tasks
from spg_trainer.settings.weights import is_embedded, resolve_model

if TYPE_CHECKING:
    from spg_trainer.settings.fields import TaskSettings

Settings = TypeVar("Settings", bound="TaskSettings")

STARTED = "started_in"
"""The key, in the environment.json of a run, of the folder in which it was started."""
FILES = ("pairs", "data")
"""The settings that name a file."""


def found_again(values: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of a run in which each path can be opened from here.

    A relative path that names nothing here, but something at the start, becomes the absolute path of that: `rows.jsonl`
    becomes `/home/me/work/rows.jsonl`. If here and start have different models of the same name, it is that of the
    start.

    record: the run's environment.json; one of an earlier version does not say where the run was started.
    """
    start = record.get(STARTED)
    if not isinstance(start, str):
        return {**values}
    found = _with_paths(values, record.get("data") or {}, lambda path: _from_start(start, path))
    if models := _different_models(values.get("model"), start):
        _, model_at_start = models
        found["model"] = {**found["model"], "model": str(model_at_start)}
    return found


def refuse_two_models(run: Path, values: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Raises ConfigError where a run goes on and the folder of its model here is not the one at its start."""
    start = record.get(STARTED)
    if isinstance(start, str) and (models := _different_models(values.get("model"), start)):
        here, there = models
        try:
            resolve_model(str(here))
        except ModelError:
            return  # the folder here holds no model, so that it is not meant
        raise ConfigError(
            f"{run} began with --model {values['model']['model']} in {start}. That folder is here too, and the two "
            f"differ. Say which one to go on with: --model {shlex.quote(str(there))} is that of the start, --model "
            f"{shlex.quote(str(here))} is the one here."
        )


def as_begun(command: Settings, before: Settings, record: Mapping[str, Any]) -> Settings:
    """The settings of a run that goes on, in which a path that names the same file as before is written as before.

    So the settings are equal to those in the run's folder, even if it was moved with its files. before: the settings in
    the run's folder. record: its environment.json.
    """
    now, then = absolute(command, record), absolute(before, record)
    names = [name for name in ("env", *FILES) if hasattr(command, name)]
    changes = {name: getattr(before, name) for name in names if getattr(now, name) == getattr(then, name)}
    changes["env_args"] = {
        name: before.env_args.get(name) if now.env_args[name] == then.env_args.get(name) else value
        for name, value in command.env_args.items()
    }
    if now.model.model == then.model.model:
        changes["model"] = replace(command.model, model=before.model.model)
    return replace(command, **changes)


def absolute(command: Settings, record: Mapping[str, Any]) -> Settings:
    """The settings with absolute paths, found as `found_again` finds them.

    Two commands that name the same files then have equal settings, from whatever folder each was started.
    """
    relative = {"env": command.env, "env_args": command.env_args, "model": {"model": command.model.model}}
    relative |= {name: getattr(command, name, None) for name in FILES}
    values = _with_paths(found_again(relative, record), record.get("data") or {}, _absolute)
    files = {name: values[name] for name in FILES if relative[name] is not None}
    model = replace(command.model, model=values["model"]["model"])
    return replace(command, env=values["env"], env_args=values["env_args"], model=model, **files)


def absolute_name(name: str, record: Mapping[str, Any]) -> str:
    """The name of a file that a run has read, with an absolute path: `--data rows.jsonl`, `source=mine.jsonl`.

    Such names are made by `runs.own_code.data_of`.
    """
    flag_or_argument, separator, path = re.fullmatch(r"(--\w+|[^=]*)([ =])(.*)", name, re.DOTALL).groups()
    start = record.get(STARTED)
    if isinstance(start, str):
        path = _from_start(start, path)
    return f"{flag_or_argument}{separator}{_absolute(path)}"


def _with_paths(
    values: Mapping[str, Any], data: Collection[str], change: Callable[[str], str]
) -> dict[str, Any]:
    """Nested settings in which `change(path)` stands in place of each path: of files, model, tasks and arguments.

    data: the names of the files that the run has read, as `absolute_name` takes them; an argument among them is a path.
    """
    result = {**values}
    for name in FILES:
        if isinstance(value := result.get(name), str):
            result[name] = change(value)
    model = result.get("model")
    if isinstance(model, dict) and "model" in model and not is_embedded(model["model"], "tiny", "new"):
        result["model"] = {**model, "model": change(model["model"])}
    if isinstance(text := result.get("env"), str):
        tasks = parse_tasks(text)
        changed = tuple(_task_with_path(task, change) for task in tasks)
        if changed != tasks:  # otherwise the text stays exactly as it was typed
            result["env"] = join_tasks(changed)
    if isinstance(arguments := result.get("env_args"), dict):
        result["env_args"] = {
            name: change(value) if _may_be_path(name, value, data) else value
            for name, value in arguments.items()
        }
    return result


def _different_models(model: Any, start: str) -> tuple[Path, Path] | None:
    """The folder that the model's name means here, and the one that it means at the start.

    model: the group `model` of nested settings. Returns None where one of the two folders does not exist, or where they
    hold equal models.
    """
    name = model.get("model") if isinstance(model, dict) else None
    if not isinstance(name, str) or is_embedded(name, "tiny", "new"):
        return None
    here, there = Path(name).expanduser().absolute(), Path(start) / Path(name).expanduser()
    if not (here.is_dir() and there.is_dir()) or here.samefile(there):
        return None
    return None if _same_model(here, there) else (here, there)


def _same_model(one: Path, other: Path) -> bool:
    """Whether the models of two folders, each a model or a run, are equal: weights and all files beside them."""
    try:
        found = [resolve_model(str(folder)) for folder in (one, other)]
    except ModelError:
        return False
    first, second = (Path(weights.adapter or weights.base) for weights in found)
    names, names_of_second = (
        sorted(file.name for file in folder.iterdir() if file.is_file()) for folder in (first, second)
    )
    if names != names_of_second:
        return False
    equal, _, _ = filecmp.cmpfiles(first, second, names)
    return equal == names


def _task_with_path(task: Task, change: Callable[[str], str]) -> Task:
    """A task with `change(path)` in place of its path, if it has one.

    The path is `file`, the author's file, or `id` where the task is a file of rows, whose name has a dot.
    """
    if task.file:
        return replace(task, file=change(task.file))
    if "." in task.id:
        return replace(task, id=change(task.id))
    return task


def _may_be_path(name: str, value: Any, data: Collection[str]) -> bool:
    """Whether an argument of a task may be a path: it was read when the run began, or has a dot or a slash."""
    return isinstance(value, str) and (f"{name}={value}" in data or "." in value or "/" in value)


def _from_start(start: str, name: str) -> str:
    """The path `name` as it is, unless it exists in the folder `start` and not here: then its path in `start`."""
    file, class_name = _parts(name)
    path = Path(file).expanduser()
    at_start = Path(start) / path
    if at_start.exists() and not path.exists():
        return f"{at_start}{class_name}"
    return name


def _absolute(name: str) -> str:
    """The absolute path of what `name` names here; `name` as it is if nothing is there."""
    file, class_name = _parts(name)
    path = Path(file).expanduser()
    return f"{path.resolve()}{class_name}" if path.exists() else name


def _parts(name: str) -> tuple[str, str]:
    """`("FILE.py", ":NAME")` for `FILE.py:NAME`, and `(name, "")` for any other path."""
    match = re.fullmatch(r"(.*\.py)(:.*)", name, re.DOTALL)
    return match.groups() if match else (name, "")
