"""The settings shipped for each task and algorithm, for `tiny` models and for `llada`; imports nothing heavy."""

import re
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from spg_trainer.errors import ConfigError


def load_preset(env: str, kind: str) -> dict[str, Any]:
    """The preset of an environment and a kind of model, `tiny` or `llada`; other people's tasks get `default.yaml`."""
    folder = resources.files(__name__)
    file = folder / f"{own_task(env)}.yaml"
    kinds = read_packaged_yaml(file if file.is_file() else folder / "default.yaml")
    if kind not in kinds:
        raise ConfigError(
            f"The model's environment.json: preset {kind!r} should be one of {', '.join(kinds)}."
        )
    return kinds[kind]


def load_section(algorithm: str, kind: str) -> dict[str, Any]:
    """What an algorithm of this package asks for on every task; empty where it asks for nothing."""
    sections = read_packaged_yaml(resources.files("spg_trainer.algorithms") / "presets.yaml")
    return (sections.get(algorithm) or {}).get(kind) or {}


def read_packaged_yaml(file: Traversable) -> dict[str, Any]:
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
    ours = where.partition(".")[0] in ("", "envs") and namespace in ("", "spg")
    if not ours:
        return None
    name = task_name(last)
    return "math500" if name == "math" else name  # as `envs.registry.ALIASES` has it
