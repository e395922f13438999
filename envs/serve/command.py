"""Runs `python -m envs serve` with its arguments."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from envs.errors import EnvError
from envs.registry import resolve, short_name


def run(options: argparse.Namespace, arguments: Mapping[str, Any]) -> int:
    """Serves until a signal; returns the exit status. arguments: of the environments, e.g. {"sudoku.level": 2}.

    Raises EnvError for an unknown task, and for arguments that belong to no task.
    """
    from verifiers.serve.command import run_command

    names = names_in_addresses(options.ids)
    by_task = arguments_by_task(list(names), arguments)
    tasks_to_open = {name: {"env": env, "arguments": by_task[name]} for name, env in names.items()}
    settings = {"tasks": tasks_to_open, "seconds": options.timeout, "workers": options.workers}

    def front_of(queue: Any, token: str) -> Any:
        from envs.serve.openenv_front import OpenEnvFront

        return OpenEnvFront(queue, token, tasks=names)

    where = " and ".join(f"/{name}" for name in names)
    return run_command(options, f"environments ({where})", "envs.serve.playing", settings, front_of)


def names_in_addresses(ids: Sequence[str]) -> dict[str, str]:
    """{short name: the given id}; raises EnvError for an unknown task, and for two tasks with one short name."""
    names: dict[str, str] = {}
    for id in ids:
        name = short_name(resolve(id))
        if names.setdefault(name, id) != id:
            raise EnvError(
                f"{names[name]} and {id} would both be served at /{name}; serve one of them at another port."
            )
    return names


def arguments_by_task(tasks: Sequence[str], arguments: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{task: its arguments}. If several tasks are served, an argument is named `TASK.KEY`, as in a mixture."""
    if len(tasks) == 1:
        return {tasks[0]: dict(arguments)}
    by_task: dict[str, dict[str, Any]] = {task: {} for task in tasks}
    for key, value in arguments.items():
        task, _, name = key.rpartition(".")
        if task not in by_task:
            wanted = ", ".join(f"{one}.{name}={value}" for one in tasks)
            raise EnvError(f"{key}={value!r:.80}: which task is it for? Give {wanted}.")
        by_task[task][name] = value
    return by_task
