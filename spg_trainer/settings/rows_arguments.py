"""Decides what takes the arguments `verifier`, `reward` and `bad_rows`, which are for files of the user's own rows.

In a training on texts (--data), `bad_rows` is for the texts, and also for the task beside them if the task takes it.
"""

from collections.abc import Mapping

from spg_trainer.errors import ConfigError
from spg_trainer.settings.fields import Config
from spg_trainer.settings.misplaced import arguments_of
from spg_trainer.settings.task import parse_tasks

BAD_ROWS = "bad_rows"
ARGUMENTS = ("verifier", "reward", BAD_ROWS)
FOR_ROWS_ALONE = ("verifier", BAD_ROWS)
"""Those that other tasks do not take; the functions of `reward` are paid beside a task's own components."""


def text_arguments(config: Config) -> dict[str, object]:
    """The arguments of the texts of --data: `bad_rows`, or the last TASK.bad_rows of several tasks."""
    names = [name for name in config.env_args if name == BAD_ROWS or name.endswith(f".{BAD_ROWS}")]
    return {BAD_ROWS: config.env_args[names[-1]]} if names else {}


def task_arguments(config: Config) -> Mapping[str, object]:
    """The arguments of the task: `env_args`, but without `bad_rows` if only the texts of --data take it."""
    if not config.data or BAD_ROWS not in config.env_args:
        return config.env_args
    tasks = parse_tasks(config.env)
    if len(tasks) == 1 and BAD_ROWS in arguments_of(tasks[0]):
        return config.env_args
    return {name: value for name, value in config.env_args.items() if name != BAD_ROWS}


def refuse_rows_arguments(env: str, args: Mapping[str, object], data: str | None) -> None:
    """Raises ConfigError for an argument of a file of rows if all tasks judge their answers themselves.

    data: the file of --data, which takes `bad_rows` whatever the tasks are; None = there is none.
    """
    tasks = parse_tasks(env)
    if not tasks or not all(task.judges_itself for task in tasks):
        return
    for name in FOR_ROWS_ALONE:
        if name in args and not (data and name == BAD_ROWS):
            judge = "judges its answers itself" if len(tasks) == 1 else "judge their answers themselves"
            raise ConfigError(
                f"${name}={args[name]}: {' and '.join(task.env for task in tasks)} {judge}. ${name} is for a file of "
                f"your own rows, e.g. $env=rows.jsonl ${name}={args[name]}."
            )
