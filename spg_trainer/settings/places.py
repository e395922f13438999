"""Relative paths in the settings of a run, or of a model of `sft`: what they name where the command runs elsewhere.

They are looked for in the present folder, then in the one in which the run was started, which environment.json records.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from spg_trainer.settings.task import Task, join_tasks, parse_tasks
from spg_trainer.settings.weights import is_embedded

if TYPE_CHECKING:
    from spg_trainer.settings.fields import TaskSettings

Settings = TypeVar("Settings", bound="TaskSettings")

STARTED = "started_in"
"""The folder in which a run was started, in its environment.json."""
FILES = ("pairs", "data")
"""Settings that name a file."""


def found_again(values: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of a run, whose relative paths name what is below its start where they name nothing here.

    record: its environment.json; one of an earlier version does not say where the run was started.
    """
    start = record.get(STARTED)
    if not isinstance(start, str):
        return {**values}
    return _changed(values, record.get("data") or {}, lambda path: _below(start, path))


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
