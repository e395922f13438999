"""Relative paths in the settings of a run, or of a model of `sft`: what they name where the command runs elsewhere.

They are looked for in the present folder, then in the one in which the run was started, which environment.json records.
A model that is in both is taken where the two are equal, and refused where they differ: nothing else would notice.
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
"""The folder in which a run was started, in its environment.json."""
FILES = ("pairs", "data")
"""Settings that name a file."""


def found_again(values: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of a run in which each path can be opened from here.

    A relative path that names nothing here, but something in the folder in which the run was started, becomes the whole
    path of that: `rows.jsonl` becomes `/home/me/work/rows.jsonl`. A model that is in both folders is that of the start,
    unless the two are equal.

    record: the run's environment.json; one of an earlier version does not say where the run was started.
    """
    start = record.get(STARTED)
    if not isinstance(start, str):
        return {**values}
    found = _with_paths(values, record.get("data") or {}, lambda path: _from_start(start, path))
    if models := _different_models(values.get("model"), start):
        _, at_start = models
        found["model"] = {**found["model"], "model": str(at_start)}
    return found


def refuse_two_models(run: Path, values: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Raises ConfigError where the model of a run that goes on is one folder here and another where it was started."""
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
    """The settings of a run that goes on; where a path names the same file as before, it is written as before.

    So a folder that is moved with its files can still be resumed. before: the settings in the run's folder. record: its
    environment.json.
    """
    now, then = absolute(command, record), absolute(before, record)
    paths = [name for name in ("env", *FILES) if hasattr(command, name)]
    same_paths = {name: getattr(before, name) for name in paths if getattr(now, name) == getattr(then, name)}
    arguments = {
        name: before.env_args[name] if now.env_args[name] == then.env_args.get(name) else value
        for name, value in command.env_args.items()
    }
    model = before.model.model if now.model.model == then.model.model else command.model.model
    return replace(
        command, **{**same_paths, "env_args": arguments, "model": replace(command.model, model=model)}
    )


def absolute(command: Settings, record: Mapping[str, Any]) -> Settings:
    """The settings with whole paths, found as `found_again` finds them: equal for equal files, wherever it is asked."""
    model = command.model
    relative = {"env": command.env, "env_args": command.env_args, "model": {"model": model.model}}
    relative |= {name: getattr(command, name, None) for name in FILES}
    whole = _with_paths(found_again(relative, record), record.get("data") or {}, _whole)
    files = {name: whole[name] for name in FILES if relative[name] is not None}
    model = replace(model, model=whole["model"]["model"])
    return replace(command, env=whole["env"], env_args=whole["env_args"], model=model, **files)


def absolute_name(name: str, record: Mapping[str, Any]) -> str:
    """A name of `runs.own_code.data_of` (`--env TASK`, `--data FILE`, `ARGUMENT=VALUE`) with its whole path."""
    kind, sign, path = re.fullmatch(r"(--\w+|[^=]*)([ =])(.*)", name, re.DOTALL).groups()
    start = record.get(STARTED)
    return f"{kind}{sign}{_whole(_from_start(start, path) if isinstance(start, str) else path)}"


def _with_paths(
    values: Mapping[str, Any], data: Collection[str], change: Callable[[str], str]
) -> dict[str, Any]:
    """Nested settings in which `change(path)` stands in place of each path: of files, model, tasks and arguments.

    data: what the run has read, as `runs.own_code.data_of` names it; an argument that is among it is a path.
    """
    result = {**values}
    for name in FILES:
        if isinstance(value := result.get(name), str):
            result[name] = change(value)
    model = result.get("model")
    if isinstance(model, dict) and not is_embedded(model.get("model", "tiny"), "tiny", "new"):
        result["model"] = {**model, "model": change(model["model"])}
    if isinstance(text := result.get("env"), str):
        tasks = parse_tasks(text)
        changed = [_task_with_path(task, change) for task in tasks]
        if changed != tasks:  # else the text stays as it was typed
            result["env"] = join_tasks(changed)
    if isinstance(arguments := result.get("env_args"), dict):
        result["env_args"] = {
            name: change(value) if _may_be_path(name, value, data) else value
            for name, value in arguments.items()
        }
    return result


def _different_models(model: Any, start: str) -> tuple[Path, Path] | None:
    """The folder that the model's name means here, and that which it means at the start, where the two differ.

    None where there is only one of them, where they are equal, or where the model is no folder.
    """
    name = model.get("model") if isinstance(model, dict) else None
    if not isinstance(name, str) or is_embedded(name, "tiny", "new"):
        return None
    here, there = Path(name).expanduser().absolute(), Path(start) / Path(name).expanduser()
    if not (here.is_dir() and there.is_dir()) or here.samefile(there):
        return None
    return None if _same_model(here, there) else (here, there)


def _same_model(one: Path, other: Path) -> bool:
    """Whether two folders hold equal weights and files beside them; of a run, in its model/."""
    try:
        found = [resolve_model(str(folder)) for folder in (one, other)]
    except ModelError:
        return False
    first, second = (Path(weights.adapter or weights.base) for weights in found)
    names, others = (sorted(f.name for f in folder.iterdir() if f.is_file()) for folder in (first, second))
    return names == others and filecmp.cmpfiles(first, second, names)[0] == names


def _task_with_path(task: Task, change: Callable[[str], str]) -> Task:
    """A task with `change(path)` in place of its file: that of its author, or of rows, whose name has a dot."""
    if task.file:
        return replace(task, file=change(task.file))
    return replace(task, id=change(task.id)) if "." in task.id else task


def _may_be_path(name: str, value: Any, data: Collection[str]) -> bool:
    """Whether an argument may name a file: one that did when the run began, or no mere word."""
    return isinstance(value, str) and (f"{name}={value}" in data or "." in value or "/" in value)


def _from_start(start: str, name: str) -> str:
    """A path as it is; if it names nothing here but something in the folder `start`, the path of that."""
    file, class_name = _parts(name)
    path = Path(file).expanduser()
    at_start = Path(start) / path
    return name if path.exists() or not at_start.exists() else f"{at_start}{class_name}"


def _whole(name: str) -> str:
    """The whole path of what a path names here; a name of nothing as it is."""
    file, class_name = _parts(name)
    path = Path(file).expanduser()
    return f"{path.resolve()}{class_name}" if path.exists() else name


def _parts(name: str) -> tuple[str, str]:
    """`("FILE.py", ":NAME")` of `FILE.py:NAME`; any other path, and nothing behind it."""
    match = re.fullmatch(r"(.*\.py)(:.*)", name, re.DOTALL)
    return match.groups() if match else (name, "")
