"""The settings shipped for tasks (`TASK.yaml` here) and for algorithms (`algorithms/recipes.yaml`).

A section holds settings, nested as they are, for a kind of model: `tiny` or `llada`; `tiny sft` those of that command.
An algorithm's `tiny sudoku` is for that task alone.
"""

import re
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

from spg_trainer.errors import ConfigError


class Layer(NamedTuple):
    """Some settings, nested, and where they come from."""

    origin: str
    values: dict[str, Any]


def task_recipe(env: str, section: str) -> list[Layer]:
    """What is shipped for a task: what all tasks have (`default.yaml`), and over it what its own file says."""
    layers = []
    for name in ("default", own_task(env)):
        if (file := resources.files(__name__) / f"{name}.yaml").is_file():
            layers += sections(file, f"recipes/{file.name}", section)
        if not layers:
            raise ConfigError(
                f"The model's environment.json: preset {section!r} should be one of tiny, llada."
            )
    return layers


def algorithm_recipe(name: str, env: str, kind: str) -> list[Layer]:
    """What is shipped for an algorithm, on every task and then on this one."""
    file = resources.files("spg_trainer.algorithms") / "recipes.yaml"
    return sections(file, "algorithms/recipes.yaml", f"{name} {kind}", f"{name} {kind} {own_task(env)}")


def sections(file: Traversable, origin: str, *names: str) -> list[Layer]:
    """Those sections of a file that it has. Read by libyaml where PyYAML has it: 0.8 ms, not 14, at every start."""
    import yaml

    content = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return [Layer(f"{origin}: {name}", content[name]) for name in names if name in content]


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
