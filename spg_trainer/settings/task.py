"""A task as people name it: `countdown`, `gsm8k:weight=2,level=3`, `./my_task.py:my/MyTask-v0`.

Several tasks share one run, and settings hold them as one text, `countdown + gsm8k`, beside the arguments of all,
`gsm8k.level`. That text is read and written here alone.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from spg_trainer.settings import packages
from spg_trainer.settings.values import read_word

_BETWEEN = " + "
"""It stands between the tasks of a text, as in the names that `envs.make` takes."""
_WEIGHT = "weight"


@dataclass(frozen=True)
class Task:
    """One task of a run."""

    name: str
    """What arguments and metrics call the task among others: `countdown`, `sudoku-2`; empty where it is the only
    one."""
    file: str | None
    """The author's file; None where the task is installed, or is a file of rows."""
    id: str
    """The task in that file, `my/MyTask-v0`, or nothing if the file has one only; without a file the whole name:
    `countdown`, `gymnasium:Taxi-v3`, `rows.jsonl`."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of its environment."""
    weight: Any = None
    """How often its problems come, against those of the other tasks; None = as often as those of one with weight 1."""

    @classmethod
    def parse(cls, word: str) -> "Task":
        """Reads the word for one task; ConfigError for arguments that are not of the form KEY=VALUE."""
        env, args = read_word("--env", word.strip())
        weight = args.pop(_WEIGHT, None)
        if env.endswith(".py"):
            return cls("", env, "", args, weight)
        before, _, id = env.rpartition(":")
        if before.endswith(".py"):
            return cls("", before, id, args, weight)
        return cls("", None, env, args, weight)

    def __str__(self) -> str:
        """The word that `parse` reads."""
        given = {**self.args} if self.weight is None else {**self.args, _WEIGHT: self.weight}
        behind = ",".join(f"{key}={value}" for key, value in given.items())
        return f"{self.env}:{behind}" if behind else self.env

    @property
    def env(self) -> str:
        """The name that `envs.make` takes."""
        return ":".join(part for part in (self.file, self.id) if part)

    @property
    def last(self) -> str:
        """The name without file, module and namespace, e.g. `MyTask-v0`."""
        return re.split(r"[:/]", self.env)[-1]

    @property
    def short(self) -> str:
        """The name in lower case and without its version, e.g. `mytask`."""
        return re.sub(r"-v\d+$", "", self.last).lower()

    @property
    def ours(self) -> str | None:
        """`sudoku` for `spg/Sudoku-v0`, `envs:spg/Sudoku-v0` and `sudoku`; None for a task of other people.

        Theirs may be called Sudoku too (`./my_task.py:my/Sudoku-v0`, `reasoning_gym:sudoku`) and be quite another task.
        """
        place, _, inside = self.env.rpartition(":")
        namespace = inside.rpartition("/")[0]
        if (place and place.partition(".")[0] != "envs") or namespace not in ("", "spg"):
            return None
        return "math500" if self.short == "math" else self.short  # as `envs.registry.ALIASES` has it

    def with_one_name(self) -> "Task":
        """The task under the one name that settings have for it; an older version, or another's task, keeps its own.

        `math500` for `Math`, `math500`, and `envs:spg/MATH500-v0` while v0 is the newest version.
        """
        if self.ours is None:
            return self
        means_newest = self.id.isidentifier()  # as there is no version in it
        if not means_newest:
            registered = self.id.rpartition(":")[2]
            known = packages.envs.registry.known()
            means_newest = registered in known and packages.envs.resolve(self.ours) == registered
        return replace(self, id=self.ours) if means_newest else self


def parse_tasks(text: str, env_args: Mapping[str, Any] | None = None) -> list[Task]:
    """Reads `--env` as settings hold it; no tasks for an empty text.

    env_args: the arguments of all tasks, where these stand apart from the text.
    """
    tasks = [Task.parse(word) for word in text.split(_BETWEEN)] if text else []
    if len(tasks) > 1:
        names = packages.envs.mixture.names_of([task.env for task in tasks])
        tasks = [replace(task, name=name) for task, name in zip(tasks, names, strict=True)]
    return [with_arguments(task, env_args or {}) for task in tasks]


def with_arguments(task: Task, env_args: Mapping[str, Any]) -> Task:
    """The task with what is its own of the arguments of all tasks: of `countdown.level` for `countdown` `level`."""
    prefix = _prefix(task)
    own = {key.removeprefix(prefix): value for key, value in env_args.items() if key.startswith(prefix)}
    args = {**task.args, **own}
    return replace(task, weight=args.pop(_WEIGHT, task.weight), args=args)


def join_tasks(tasks: Iterable[Task | str]) -> str:
    """Some tasks, or the words for them, as the text that `parse_tasks` reads.

    A word may be a `+` by itself: `--env countdown + gsm8k`, as the text is written, is what people type too.
    """
    words = [str(task) for task in tasks]
    return _BETWEEN.join(word for word in words if word != _BETWEEN.strip())


def join_names(tasks: Iterable[Task]) -> str:
    """Some tasks as the text that `parse_tasks` reads, without their arguments, as `envs.make` takes it."""
    return _BETWEEN.join(task.env for task in tasks)


def join_arguments(tasks: Iterable[Task]) -> dict[str, Any]:
    """The arguments of all tasks: `level` of a task alone, `countdown.level` of one among several."""
    found: dict[str, Any] = {}
    for task in tasks:
        weight = {} if task.weight is None else {_WEIGHT: task.weight}
        found |= {f"{_prefix(task)}{key}": value for key, value in {**weight, **task.args}.items()}
    return found


def task_words(env: str, env_args: Mapping[str, Any] | None = None) -> list[str]:
    """The words of a command line that name the tasks of settings and their arguments."""
    given = [f"{key}={value}" for key, value in (env_args or {}).items()]
    names = [task.env for task in parse_tasks(env)]
    return ["--env", *names, *(["--env-args", *given] if given else [])]


def _prefix(task: Task) -> str:
    """What stands before the arguments of a task among those of all: `countdown.`; nothing where it is the only one."""
    return f"{task.name}." if task.name else ""
