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
    """Nested settings of a run, whose relative paths name what is below its start where they name nothing here.

    record: its environment.json; one of an earlier version does not say where the run was started. A model that is in
    both folders is that of the start, unless the two are equal.
    """
    start = record.get(STARTED)
    if not isinstance(start, str):
        return {**values}
    found = _changed(values, record.get("data") or {}, lambda path: _below(start, path))
    if twins := _twins(values.get("model"), start):
        found["model"] = {**found["model"], "model": str(twins[1])}
    return found


def refuse_two_models(run: Path, values: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Raises ConfigError where the model of a run that goes on is one folder here and another where it was started."""
    start = record.get(STARTED)
    if isinstance(start, str) and (twins := _twins(values.get("model"), start)):
        here, there = twins
        try:
            resolve_model(str(here))
        except ModelError:
            return  # no model, so that it is not meant
        raise ConfigError(
            f"{run} began with --model {values['model']['model']} in {start}. That folder is here too, and the two "
            f"differ. Say which one to go on with: --model {shlex.quote(str(there))} is that of the start, --model "
            f"{shlex.quote(str(here))} is the one here."
        )


def as_begun(command: Settings, before: Settings, record: Mapping[str, Any]) -> Settings:
    """The settings of a run that goes on, with the paths as it began with them where they name the same file.

    before: its settings so far. So a folder that is moved with its files can still be resumed.
    """
    now, then = (absolute(settings, record) for settings in (command, before))
    names = [name for name in ("env", *FILES) if hasattr(command, name)]
    kept = {name: getattr(before, name) for name in names if getattr(now, name) == getattr(then, name)}
    arguments = {
        name: before.env_args[name] if now.env_args[name] == then.env_args.get(name) else value
        for name, value in command.env_args.items()
    }
    model = before.model.model if now.model.model == then.model.model else command.model.model
    changed = {**kept, "env_args": arguments, "model": replace(command.model, model=model)}
    return replace(command, **changed)


def absolute(command: Settings, record: Mapping[str, Any]) -> Settings:
    """The settings with whole paths, found as `found_again` finds them: equal for equal files, wherever it is asked."""
    m, data = command.model, getattr(command, "data", None)
    own = {"env": command.env, "env_args": command.env_args, "model": {"model": m.model}, "data": data}
    own["pairs"] = getattr(command, "pairs", None)
    values = _changed(found_again(own, record), record.get("data") or {}, _whole)
    named = {name: values[name] for name in FILES if own[name] is not None}
    model = replace(m, model=values["model"]["model"])
    return replace(command, env=values["env"], env_args=values["env_args"], model=model, **named)


def absolute_name(name: str, record: Mapping[str, Any]) -> str:
    """A name of `data_of` (`--env TASK`, `--data FILE`, `ARGUMENT=VALUE`) with its whole path."""
    kind, sign, path = re.fullmatch(r"(--\w+|[^=]*)([ =])(.*)", name, re.DOTALL).groups()
    start = record.get(STARTED)
    return f"{kind}{sign}{_whole(_below(start, path) if isinstance(start, str) else path)}"


def _changed(
    values: Mapping[str, Any], files: Collection[str], change: Callable[[str], str]
) -> dict[str, Any]:
    """Settings in which `change` is made of what may be a path. files: names of `data_of`."""
    result = {**values}
    for name in FILES:
        if isinstance(value := result.get(name), str):
            result[name] = change(value)
    model = result.get("model")
    if isinstance(model, dict) and not is_embedded(model.get("model", "tiny"), "tiny", "new"):
        result["model"] = {**model, "model": change(model["model"])}
    if isinstance(text := result.get("env"), str):
        tasks = parse_tasks(text)
        if (elsewhere := [_task_of(task, change) for task in tasks]) != tasks:
            result["env"] = join_tasks(elsewhere)
    if isinstance(arguments := result.get("env_args"), dict):
        result["env_args"] = {
            name: change(value) if _may_be_path(name, value, files) else value
            for name, value in arguments.items()
        }
    return result


def _twins(model: Any, start: str) -> tuple[Path, Path] | None:
    """The model of a run as it is found here and below its start, where these are two models that differ."""
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


def _task_of(task: Task, change: Callable[[str], str]) -> Task:
    """A task in which `change` is made of its file, of the author's or of rows."""
    if task.file:
        return replace(task, file=change(task.file))
    return replace(task, id=change(task.id)) if "." in task.id else task


def _may_be_path(name: str, value: Any, files: Collection[str]) -> bool:
    """Whether an argument may name a file: one that did when the run began, or no mere word."""
    return isinstance(value, str) and (f"{name}={value}" in files or "." in value or "/" in value)


def _below(start: str, name: str) -> str:
    """A relative path that names nothing here but something below `start` as that one."""
    file, rest = _parts(name)
    path = Path(file).expanduser()
    there = Path(start) / path
    return name if path.exists() or not there.exists() else f"{there}{rest}"


def _whole(name: str) -> str:
    """A path that names something as a whole one."""
    file, rest = _parts(name)
    path = Path(file).expanduser()
    return f"{path.resolve()}{rest}" if path.exists() else name


def _parts(name: str) -> tuple[str, str]:
    """A path, and what stands behind it in `FILE.py:NAME`."""
    match = re.fullmatch(r"(.*\.py)(:.*)", name, re.DOTALL)
    return match.groups() if match else (name, "")
