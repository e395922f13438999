"""The settings shipped for tasks (`TASK.yaml` here) and for algorithms (`algorithms/recipes.yaml`).

A file has sections of settings, nested as in config.yaml. The name of a section says what it is for:

- in a task's file, `tiny` and `llada` are for training models of this kind, `tiny sft` and `llada sft` for `sft`;
- in gymnasium.yaml, `tiny blackjack` is for that game alone;
- in `algorithms/recipes.yaml`, `spg tiny` is for the algorithm spg on every task, and `spg tiny sudoku` on that task.
"""

import re
from collections.abc import Collection, Sequence
from copy import deepcopy
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

from spg_trainer.errors import ConfigError
from spg_trainer.settings.task import Task


class Layer(NamedTuple):
    """Some settings, and where they come from."""

    origin: str
    """The source of the settings, as the user is told it, e.g. `recipes/sudoku.yaml: tiny`."""
    values: dict[str, Any]
    """Nested as in config.yaml; after `resolve.read_layer`, by dotted name."""
    of_task: bool = False
    """Whether the settings are shipped for this task, not for every task."""

    def without(self, names: Collection[str]) -> "Layer":
        """The layer without the settings, or the groups of settings, of these names."""
        return self._replace(values={name: value for name, value in self.values.items() if name not in names})


def task_recipe(task: Task | None, section: str) -> list[Layer]:
    """The layers that are shipped for a task: the section of `default.yaml`, and over it the section of its own file.

    task: None if there is no task, as in `sft --data FILE`. section: e.g. `tiny` or `tiny sft`.
    """
    default = resources.files(__name__) / "default.yaml"
    layers = sections(default, f"recipes/{default.name}", section)
    if not layers:  # the kind is neither tiny nor llada; only environment.json can have such a kind
        raise ConfigError(f"The model's environment.json: preset {section!r} should be one of tiny, llada.")
    name = recipe_of(task) if task else None
    if name:
        file = resources.files(__name__) / f"{name}.yaml"
        if file.is_file():
            layers += sections(file, f"recipes/{file.name}", section, of_task=True)
    return layers


def game_recipe(task: Task, section: str) -> list[Layer]:
    """The layers that are shipped for one of Gymnasium's own games, if it is the only task of a run."""
    game = re.fullmatch(r"gymnasium:([A-Za-z0-9]+)-v\d+", task.env)
    if not game:
        return []
    file = resources.files(__name__) / "gymnasium.yaml"
    return sections(file, f"recipes/{file.name}", f"{section} {game[1].lower()}", of_task=True)


def recipe_of(task: Task) -> str | None:
    """The name of a task's file here, without `.yaml`; None for a task of other people, which has no file here.

    Gymnasium's environments share a file.
    """
    return "gymnasium" if task.env.startswith("gymnasium:") else task.ours


def recipe_of_all(tasks: Sequence[Task], section: str) -> list[Layer]:
    """The recipe of a run: its task's; for several tasks, the recipe of the task with the longest completions.

    From the recipes of the other tasks only arguments are taken, under the name of the task: `countdown.level`.
    """
    if not tasks:
        return task_recipe(None, section)
    if len(tasks) == 1:
        return [*task_recipe(tasks[0], section), *game_recipe(tasks[0], section)]
    recipes = {task.name: task_recipe(task, section) for task in tasks}

    def completion_length(layers: list[Layer]) -> float:
        """The length that the last of the layers sets; infinity if it is left to the demonstrations."""
        groups = {group: value for layer in layers for group, value in layer.values.items()}
        length = groups.get("rollout", {}).get("max_completion_length")
        return length or float("inf")  # 0 (in `sft`) means: as long as demonstrations are

    longest = max(recipes, key=lambda name: completion_length(recipes[name]))
    arguments: dict[str, Any] = {}
    for name, layers in recipes.items():
        for layer in layers:
            env_args = layer.values.get("env_args", {})
            arguments |= {f"{name}.{key}": value for key, value in env_args.items()}
    shared = [layer.without(["env_args"]) for layer in recipes[longest]]
    return [*shared, Layer("the recipes of all tasks", {"env_args": arguments})]


def algorithm_recipe(name: str, tasks: Sequence[Task], kind: str) -> list[Layer]:
    """The layers that are shipped for an algorithm on every task; and over them, for a single task, on that task."""
    file = resources.files("spg_trainer.algorithms") / "recipes.yaml"
    on_this_task = [f"{name} {kind} {recipe_of(tasks[0])}"] if len(tasks) == 1 else []
    origin = "algorithms/recipes.yaml"
    return [*sections(file, origin, f"{name} {kind}"), *sections(file, origin, *on_this_task, of_task=True)]


def sections(file: Traversable, origin: str, *names: str, of_task: bool = False) -> list[Layer]:
    """The sections of a file with these names; names that it does not have are left out.

    origin: the name of the file in the layers. of_task: whether the layers are only for the task of the run.
    """
    content = parsed(file.read_text())
    there = [name for name in names if name in content]
    return [Layer(f"{origin}: {name}", deepcopy(content[name]), of_task) for name in there]


@lru_cache
def parsed(text: str) -> dict[str, dict[str, Any]]:
    """The content of YAML; cached, because a command asks for the same text several times."""
    import yaml

    # If PyYAML was built with libyaml, CSafeLoader takes 0.8 ms for a file, and SafeLoader 14 ms.
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
