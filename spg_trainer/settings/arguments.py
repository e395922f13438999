"""The arguments of tasks: which of them make an environment, where a name belongs that is no setting, and whose it is.

A name may be a hyper-parameter of an algorithm, or an argument of a task. The sentence that says so becomes part of
the error for an unknown name, which is raised in flags.py for a flag, in resolve.py for a keyword or a setting in a
file; values.py checks the names inside a group of settings.
"""

from collections.abc import Collection, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from spg_trainer.errors import ConfigError
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.fields import Config
from spg_trainer.settings.model import LoadConfig
from spg_trainer.settings.recipes import recipe_of_all
from spg_trainer.settings.recorded import model_environment, read_yaml, recipe_kind
from spg_trainer.settings.task import Task, parse_tasks

if TYPE_CHECKING:
    from envs import TextEnv


BAD_ROWS = "bad_rows"
ARGUMENTS = ("verifier", "reward", BAD_ROWS)
"""The arguments that are for files of the user's own rows. In a training on texts (--data), `bad_rows` is for the
texts, and also for the task beside them if the task takes it."""
FOR_ROWS_ALONE = ("verifier", BAD_ROWS)
"""Those that other tasks do not take; the functions of `reward` are paid beside a task's own components."""
NEVER_AN_ARGUMENT = frozenset({"self", "split", "render_mode", "reward_weights"})
"""Parameters of environments that --env-args does not take."""


def place_of(name: str, value: object, given: Mapping[str, Any], known: Collection[str]) -> str:
    """A sentence on where `name` belongs, e.g. "psi is a hyper-parameter of wd1: $algorithm_args psi=0.5. ".

    The result is "" for a name that belongs nowhere. value: what the user gives for the name. given: the user's other
    settings, by name; config, resume, env, algorithm, source and model are read. known: the names of the
    settings that the command has.
    """
    if not {*known} & {"algorithm_args", "env_args"}:
        return ""
    if file := given.get("config"):
        in_file = read_yaml(file)
        given = {**(in_file if isinstance(in_file, Mapping) else {}), **given}
    is_resumed = given.get("resume") is not None  # then algorithm and tasks are the run's, and not known here
    model = given.get("model")
    made_for = model_environment(model).get("env") if isinstance(model, str) else None
    tasks = () if is_resumed else parse_tasks(str(given.get("env") or made_for or Config.env))
    shown = f"{name}={value!s:.80}"
    if "algorithm_args" in known:
        from spg_trainer.algorithms.registry import algorithms_with, has_hyper_parameter

        named = given.get("algorithm")  # in a file of settings, it may be no name
        algorithm = named if isinstance(named, str) and named else usual_algorithm(tasks, given)
        if has_hyper_parameter(algorithm, name) and not is_resumed:
            return f"{name} is a hyper-parameter of {algorithm}: $algorithm_args {shown}. "
        if others := algorithms_with(name):
            than_these = "" if is_resumed else f", not of {algorithm}"
            return f"{name} is a hyper-parameter of {others}{than_these} ($algorithm_args {shown}). "
    if "env_args" not in known:
        return ""
    for task in tasks:
        if name in arguments_of(task):
            prefix = f"{task.name}." if task.name else ""
            return f"{name} is an argument of the task {task.last}: $env_args {prefix}{shown}. "
    return ""


def usual_algorithm(tasks: Sequence[Task], given: Mapping[str, Any]) -> str:
    """The algorithm of a run whose user names no algorithm."""
    if given.get("source") == "demonstrations":
        return "mle"
    name = given.get("model")
    model = name if isinstance(name, str) else LoadConfig.model
    layers = recipe_of_all(tasks, recipe_kind(model, model_environment(model)))
    in_recipes = [layer.values["algorithm"] for layer in layers if "algorithm" in layer.values]
    return in_recipes[-1] if in_recipes else Config.algorithm


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


def make_env(
    env: str, env_args: Mapping[str, object], reward_weights: Mapping[str, object], split: str
) -> "TextEnv":
    """The environment of a command's settings, in one of its splits; EnvError if the split has no problems."""
    weights = {"reward_weights": reward_weights} if reward_weights else {}
    opened = packages.envs.make(env, split=split, **env_args, **weights)
    if len(opened) < 1:
        raise packages.envs.EnvError(
            f"{opened.spec_name} has no {split} problems; it needs at least 1. If envs.split_of divides few problems, "
            f"{split} may get none: write more problems, or choose the problems of {split} yourself."
        )
    return opened
