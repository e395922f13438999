"""The settings shipped for tasks (`TASK.yaml` here) and for algorithms (`algorithms/recipes.yaml`).

Each file says what it asks for of `tiny` models and of `llada`, nested as the settings are, besides `sft`, the settings
of that command, and, for a task, `algorithms` and `levels`: what one of these asks for on this task.
"""

import re
from collections.abc import Iterable
from functools import reduce
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

from spg_trainer.errors import ConfigError

SECTIONS = ("algorithms", "levels", "sft")


class Layer(NamedTuple):
    """Some settings, nested, and where they come from."""

    origin: str
    values: dict[str, Any]


def recipe(env: str, kind: str, algorithm: str | None = None, level: object = None) -> list[Layer]:
    """What is shipped for a task and a kind of model, `tiny` or `llada`; a later layer lies over those before it.

    The task's recipe (over what all tasks have, `default.yaml`), then the algorithm's own, then what the task's says of
    the algorithm and of a level. algorithm: None = the one that the task's recipe names.
    """
    tasks = task_recipes(env, kind)
    name = algorithm or merge(tasks)["algorithm"]
    level = str(level or merge(tasks).get("env_args", {}).get("level"))
    own = read_kinds(resources.files("spg_trainer.algorithms") / "recipes.yaml").get(name) or {}
    layers = [
        Layer(task.origin, {k: v for k, v in task.values.items() if k not in SECTIONS}) for task in tasks
    ]
    layers += [Layer("algorithms/recipes.yaml", own.get(kind, {}))]
    for section, key in (("algorithms", name), ("levels", level)):
        layers += [Layer(task.origin, task.values.get(section, {}).get(key, {})) for task in tasks]
    return [layer for layer in layers if layer.values]


def merge(layers: Iterable[Layer]) -> dict[str, Any]:
    """The settings of all layers, a later one over those before it, key by key."""

    def over(below: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        nested = {k: over(below[k], v) for k, v in values.items() if isinstance(v, dict) and k in below}
        return {**below, **values, **nested}

    return reduce(over, (layer.values for layer in layers), {})


def sft_recipe(env: str, kind: str) -> dict[str, Any]:
    """What is shipped for `sft` on a task and a kind of model."""
    return merge(task_recipes(env, kind))["sft"]


def task_recipes(env: str, kind: str) -> list[Layer]:
    """What all tasks have, and the task's own file where it has one, with their sections."""
    folder, names = resources.files(__name__), ("default", own_task(env))
    files = [file for name in names if (file := folder / f"{name}.yaml").is_file()]
    layers = [Layer(f"recipes/{file.name}", read_kinds(file).get(kind)) for file in files]
    if layers[0].values is None:
        raise ConfigError(f"The model's environment.json: preset {kind!r} should be one of tiny, llada.")
    return [layer for layer in layers if layer.values]


def read_kinds(file: Traversable) -> dict[str, Any]:
    """A file of this package, by libyaml where PyYAML has it: 0.8 ms, not 14, at every start."""
    import yaml

    return yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def task_name(env: str) -> str:
    """`spg/Sudoku-v0`, `./file.py:my/Sudoku-v0` and `sudoku` are all `sudoku`."""
    return re.sub(r"-v\d+$", "", re.split(r"[:/]", env)[-1]).lower()


def own_task(env: str) -> str | None:
    """`spg/Sudoku-v0`, `envs:spg/Sudoku-v0` and `sudoku` are all `sudoku`; a task of other people is None.

    Theirs may be called Sudoku too (`./my_task.py:my/Sudoku-v0`, `reasoning_gym:sudoku`) and be quite another task.
    """
    where, _, last = env.strip().rpartition(":")
    namespace = last.rpartition("/")[0]
    if where.partition(".")[0] not in ("", "envs") or namespace not in ("", "spg"):
        return None
    name = task_name(last)
    return "math500" if name == "math" else name  # as `envs.registry.ALIASES` has it
