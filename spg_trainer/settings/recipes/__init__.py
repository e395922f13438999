"""The settings shipped for tasks (`TASK.yaml` here) and for algorithms (`algorithms/recipes.yaml`).

A file has sections, each of which holds settings, nested as in config.yaml. The name of a section says for whom:

- in a task's file `tiny` or `llada`, the kind of model, for training, and `tiny sft` or `llada sft` for that command;
- in gymnasium.yaml also `tiny blackjack`, for that game alone;
- in `algorithms/recipes.yaml` `spg tiny`, for an algorithm on every task, and `spg tiny sudoku`, for it on that task.
"""

import re
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

from spg_trainer.errors import ConfigError
from spg_trainer.settings.task import Task


class Layer(NamedTuple):
    """Some settings, nested, and where they come from."""

    origin: str
    values: dict[str, Any]


def task_recipe(task: Task | None, section: str) -> list[Layer]:
    """What is shipped for a task: what all tasks have (`default.yaml`), and over it what its own file says.

    task: None where there is no task, as in `sft --data FILE`.
    """
    default = resources.files(__name__) / "default.yaml"
    layers = sections(default, f"recipes/{default.name}", section)
    if not layers:  # the kind of model stands in the name, and only environment.json can give another one
        raise ConfigError(f"The model's environment.json: preset {section!r} should be one of tiny, llada.")
    if name := recipe_of(task) if task else None:
        file = resources.files(__name__) / f"{name}.yaml"
        layers += sections(file, f"recipes/{file.name}", section) if file.is_file() else []
    return layers


def game_recipe(task: Task, section: str) -> list[Layer]:
    """What is shipped for one of Gymnasium's own games alone, where it is the only task of a run."""
    game = re.fullmatch(r"gymnasium:([A-Za-z0-9]+)-v\d+", task.env)
    file = resources.files(__name__) / "gymnasium.yaml"
    return sections(file, f"recipes/{file.name}", f"{section} {game[1].lower()}") if game else []


def recipe_of(task: Task) -> str | None:
    """The name of a task's recipe: all of Gymnasium's environments share one, and a task of other people has none."""
    return "gymnasium" if task.env.startswith("gymnasium:") else task.ours


def recipe_of_all(tasks: Sequence[Task], section: str) -> list[Layer]:
    """The recipe of a run: that of its task, or of several tasks that of the one with the longest completions.

    Of the other tasks only the arguments are taken, each under the name of its task: `countdown.level`.
    """
    if not tasks:
        return task_recipe(None, section)
    if len(tasks) == 1:
        return [*task_recipe(tasks[0], section), *game_recipe(tasks[0], section)]
    recipes = {task.name: task_recipe(task, section) for task in tasks}

    def completion_length(layers: list[Layer]) -> float:
        groups = {group: value for layer in layers for group, value in layer.values.items()}
        length = groups.get("rollout", {}).get("max_completion_length")
        return length or float("inf")  # 0 is as long as needed

    longest = max(recipes, key=lambda name: completion_length(recipes[name]))
    arguments = {
        f"{name}.{key}": value
        for name, layers in recipes.items()
        for layer in layers
        for key, value in layer.values.get("env_args", {}).items()
    }
    shared = [
        Layer(layer.origin, {key: value for key, value in layer.values.items() if key != "env_args"})
        for layer in recipes[longest]
    ]
    return [*shared, Layer("the recipes of all tasks", {"env_args": arguments})]


def algorithm_recipe(name: str, tasks: Sequence[Task], kind: str) -> list[Layer]:
    """What is shipped for an algorithm on every task, and over it what is shipped for it on the only task of a run."""
    file = resources.files("spg_trainer.algorithms") / "recipes.yaml"
    on_this_task = [f"{name} {kind} {recipe_of(task)}" for task in tasks if len(tasks) == 1]
    return sections(file, "algorithms/recipes.yaml", f"{name} {kind}", *on_this_task)


def sections(file: Traversable, origin: str, *names: str) -> list[Layer]:
    """The sections of these names, as far as the file has them. origin: what the layers call the file."""
    content = parsed(file.read_text())
    return [Layer(f"{origin}: {name}", deepcopy(content[name])) for name in names if name in content]


@lru_cache
def parsed(text: str) -> dict[str, dict[str, Any]]:
    """A file of YAML, once for each text: a start asks for the same file several times.

    Read by libyaml where PyYAML has it: 0.8 ms, not 14.
    """
    import yaml

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
