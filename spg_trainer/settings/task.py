"""Reads and writes the names of tasks: `countdown`, `gsm8k:weight=2,level=3`, `./my_task.py:my/MyTask-v0`.

A run may have several tasks. Its settings then have one text, `countdown + gsm8k`, and the arguments of all tasks,
under names such as `gsm8k.level`. `arguments_of` says which arguments a task takes, and `make_env` opens the tasks.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

from spg_trainer.errors import ConfigError
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.types import read_word, settings_value

BAD_ROWS = "bad_rows"
ARGUMENTS = ("verifier", "reward", BAD_ROWS)
"""The arguments that are for files of the user's own rows. In a training on texts (--data), `bad_rows` is for the
texts, and also for the task beside them if the task takes it."""
FOR_ROWS_ALONE = ("verifier", BAD_ROWS)
"""Those that other tasks do not take; the functions of `reward` are paid beside a task's own components."""
NEVER_AN_ARGUMENT = frozenset({"self", "split", "render_mode", "reward_weights"})
"""Parameters of environments that --env-args does not take."""
_WEIGHT = "weight"
"""The argument of a task that is not for its environment, but becomes `Task.weight`."""


@dataclass(frozen=True)
class Task:
    """One task of a run."""

    name: str
    """The task's name in arguments and metrics: `countdown`, `sudoku-2`; "" for the only task of a run."""
    file: str | None
    """The Python file of its author, `./my_task.py`; None for a task that is installed and for a file of rows."""
    id: str
    """The id of the task in that file, `my/MyTask-v0`, or "" if the file has only one. For a task without `file`, the
    whole name: `countdown`, `gymnasium:Taxi-v3`, `rows.jsonl`."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of its environment."""
    weight: Any = None
    """How often its problems are drawn, relative to the weights of the other tasks; None = 1."""

    @classmethod
    def parse(cls, word: str) -> "Task":
        """Reads the word for one task; ConfigError for arguments that are not of the form KEY=VALUE."""
        path = _path_like_arguments(word.strip())
        env, args = read_word("--env", word.strip().removeprefix(path))
        env = f"{path}{env}"
        weight = args.pop(_WEIGHT, None)
        before, _, behind = env.rpartition(":")
        if env.endswith(".py"):
            file, id = env, ""
        elif before.endswith(".py"):
            file, id = before, behind
        else:
            file, id = None, env
        return cls(name="", file=file, id=id, args=args, weight=weight)

    def __str__(self) -> str:
        """The word for the task, from which `parse` reads it."""
        args = {**self.args} if self.weight is None else {**self.args, _WEIGHT: self.weight}
        arguments = ",".join(f"{key}={value}" for key, value in args.items())
        return f"{self.env}:{arguments}" if arguments else self.env

    @property
    def env(self) -> str:
        """The name that `envs.make` takes."""
        return ":".join(part for part in (self.file, self.id) if part)

    @property
    def judges_itself(self) -> bool:
        """Whether it is a task of this package, which takes no verifier, reward or bad rows.

        A name with a colon is a class in the user's file or of another package, and may have such an argument. A file
        with another ending than those of rows is no task; who opens it says which endings are read.
        """
        return ":" not in self.env and not is_rows(self) and not Path(self.env).is_file()

    @property
    def last(self) -> str:
        """The last part of the name, without file, module and namespace, e.g. `MyTask-v0`."""
        *_, last = re.split(r"[:/]", self.env)
        return last

    @property
    def short(self) -> str:
        """The last part of the name in lower case and without its version, e.g. `mytask`."""
        return re.sub(r"-v\d+$", "", self.last).lower()

    @property
    def ours(self) -> str | None:
        """The short name of one of our tasks: `sudoku` for `sudoku`, `spg/Sudoku-v0` and `envs:spg/Sudoku-v0`.

        None for a task of other people, which may be another task of the same name: `./my_task.py:my/Sudoku-v0`,
        `reasoning_gym:sudoku`.
        """
        file_or_module, _, id = self.env.rpartition(":")
        is_elsewhere = file_or_module != "" and file_or_module.partition(".")[0] != "envs"
        namespace, _, _ = id.rpartition("/")
        if is_elsewhere or namespace not in ("", "spg"):
            return None
        return "math500" if self.short == "math" else self.short  # an alias of `envs.registry.ALIASES`

    def with_one_name(self) -> "Task":
        """The task with the one name that settings have for it, so that equal tasks have equal settings.

        `Math`, `math500` and `envs:spg/MATH500-v0` (while v0 is the newest version) all become `math500`. An older
        version of a task, and a task of other people, keep their names.
        """
        if self.ours is None:
            return self
        names_no_version = self.id.isidentifier()
        if names_no_version:
            is_newest = True
        else:
            _, _, registered = self.id.rpartition(":")
            known = packages.envs.registry.known()
            is_newest = registered in known and packages.envs.resolve(self.ours) == registered
        return replace(self, id=self.ours) if is_newest else self


def _path_like_arguments(word: str) -> str:
    """The path of the file with which the word for a task begins, if `:KEY=` is in the path itself; "" otherwise."""
    paths = [word[: colon.start()] for colon in re.finditer(":", f"{word}:")]
    return next((path for path in paths if re.search(r":\w+=", path) and Path(path).is_file()), "")


def is_rows(task: Task) -> bool:
    """Whether a task is a file of the user's own rows."""
    return packages.envs.files.rows.names_file(task.env)


@cache
def parse_tasks(text: str) -> tuple[Task, ...]:
    """The tasks of a text such as `countdown + gsm8k`; none for "". The result is cached."""
    if " " not in text:  # a single task: without loading `envs`, --help takes half the time
        return (Task.parse(text),) if text else ()
    tasks = [Task.parse(word) for word in text.split(packages.envs.combining.mixture.TOGETHER)]
    names = packages.envs.combining.mixture.names_of([task.env for task in tasks]) if len(tasks) > 1 else [""]
    return tuple(replace(task, name=name) for task, name in zip(tasks, names, strict=True))


def arguments_of(task: Task) -> set[str]:
    """The arguments that a task's environment takes by name; none if it cannot be found, which is refused later.

    A file of rows also takes the reference fields of each verifier.
    """
    try:
        id = packages.envs.resolve(task.env)
    except packages.envs.EnvError:
        return set()
    cls, verifiers = packages.envs.registry.known()[id], packages.verifiers
    names = {
        name
        for name, parameter in signature(cls).parameters.items()
        if parameter.kind != parameter.VAR_KEYWORD  # `**more` has no names
    }
    if issubclass(cls, packages.envs.files.rows.Rows):
        for verifier in map(verifiers.registry.find, verifiers.tasks()):
            names |= {*verifier.fields, *verifier.optional}
    return names - NEVER_AN_ARGUMENT


def refuse_rows_arguments(env: str, args: Mapping[str, object], data: str | None) -> None:
    """Raises ConfigError for an argument of a file of rows if all tasks judge their answers themselves.

    data: the file of --data, which takes `bad_rows` whatever the tasks are; None = there is none.
    """
    tasks = parse_tasks(env)
    if not tasks or not all(task.judges_itself for task in tasks):
        return
    for name in FOR_ROWS_ALONE:
        if name in args and not (data and name == BAD_ROWS):
            for task in tasks:
                packages.envs.resolve(task.env)  # EnvError with what is near, if no task has this name
            judge = "judges its answers itself" if len(tasks) == 1 else "judge their answers themselves"
            raise ConfigError(
                f"${name}={args[name]}: {' and '.join(task.env for task in tasks)} {judge}. ${name} is for a file of "
                f"your own rows, e.g. $env=rows.jsonl ${name}={args[name]}."
            )


def with_arguments(task: Task, env_args: Mapping[str, Any]) -> Task:
    """The task with its share of the arguments of all tasks: `countdown` gets `level` from `countdown.level`."""
    prefix = _prefix(task)
    own_arguments = {
        key.removeprefix(prefix): value for key, value in env_args.items() if key.startswith(prefix)
    }
    args = {**task.args, **own_arguments}
    weight = args.pop(_WEIGHT, task.weight)
    return replace(task, weight=weight, args=args)


def join_tasks(tasks: Iterable[Task | str]) -> str:
    """The text that `parse_tasks` reads, from tasks or the words for them.

    A word may be a lone `+`, because users also type `--env countdown + gsm8k`.
    """
    return _join([str(task) for task in tasks])


def task_names(env: str | Path | type | Sequence[str | Path | type]) -> str:
    """The text that `parse_tasks` reads, from one or several tasks as a user names them in Python.

    A class becomes the name under which it has been registered.
    """
    several: Sequence[Any] = settings_value(env if isinstance(env, list | tuple) else [env])
    if not several:
        raise ConfigError(f"env={env!r}: should name a task, or several, e.g. env='sudoku'.")
    for task in several:
        if not isinstance(task, str | type):
            raise ConfigError(
                f"env={task!r:.60}: settings hold the name of a task, or its registered class, not an environment that "
                "has been made. Give its arguments as env_args={...}."
            )
    return _join(
        [packages.envs.registry.name_of(task) if isinstance(task, type) else task for task in several]
    )


def known_tasks(env: str | Path | type | Sequence[str | Path | type]) -> str:
    """As `task_names`, but raises ConfigError, which names the nearest task, for one that `envs.make` does not find.

    Files and modules of tasks are loaded.
    """
    names = task_names(env)
    for task in parse_tasks(names):
        refuse_unknown(task)
    return names


def refuse_unknown(task: Task) -> None:
    """Raises ConfigError, which names the nearest task, for one that `envs.make` does not find."""
    try:
        packages.envs.resolve(task.env)
    except packages.envs.EnvError as error:
        raise ConfigError(str(error)) from error


def join_names(tasks: Iterable[Task]) -> str:
    """The names of tasks as one text without arguments, for `parse_tasks` and `envs.make`."""
    return _join([task.env for task in tasks])


def join_arguments(tasks: Iterable[Task]) -> dict[str, Any]:
    """The arguments of all tasks: `level` for a single task, `countdown.level` for one of several."""
    found: dict[str, Any] = {}
    for task in tasks:
        weight = {} if task.weight is None else {_WEIGHT: task.weight}
        own_arguments = {**weight, **task.args}
        found |= {f"{_prefix(task)}{key}": value for key, value in own_arguments.items()}
    return found


def task_words(env: str, env_args: Mapping[str, Any] | None = None) -> list[str]:
    """The words of a command line for the tasks of settings and their arguments: --env and --env-args."""
    pairs = [f"{key}={value}" for key, value in (env_args or {}).items()]
    names = [task.env for task in parse_tasks(env)]
    return ["--env", *names, *(["--env-args", *pairs] if pairs else [])]


def _join(words: list[str]) -> str:
    """Words for tasks as one text, without those that are a lone `+`."""
    if len(words) < 2:  # `envs` need not be loaded for a single task
        return "".join(words)
    together = packages.envs.combining.mixture.TOGETHER
    return together.join(word for word in words if word != together.strip())


def _prefix(task: Task) -> str:
    """The first part of a task's argument names if there are several tasks: `countdown.`; "" for a single task."""
    return f"{task.name}." if task.name else ""


def make_env(
    env: str, env_args: Mapping[str, object], reward_weights: Mapping[str, object], split: str
) -> "packages.envs.TextEnv":
    """The environment of a command's settings, in one of its splits; EnvError if the split has no problems."""
    weights = {"reward_weights": reward_weights} if reward_weights else {}
    opened = packages.envs.make(env, split=split, **env_args, **weights)
    if len(opened) < 1:
        raise packages.envs.EnvError(
            f"{opened.spec_name} has no {split} problems; it needs at least 1. If envs.split_of divides few problems, "
            f"{split} may get none: write more problems, or choose the problems of {split} yourself."
        )
    return opened
