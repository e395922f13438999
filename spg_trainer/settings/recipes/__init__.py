"""The settings shipped for tasks (`TASK.yaml` here) and for algorithms (`algorithms/recipes.yaml`).

A section holds settings, nested as they are, for a kind of model: `tiny` or `llada`; `tiny sft` those of that command.
An algorithm's `tiny sudoku` is for that task alone, as is `tiny blackjack` in the file of Gymnasium's games.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

from spg_trainer.errors import ConfigError
from spg_trainer.settings import packages
from spg_trainer.settings.values import read_word

TOGETHER = " + "
"""Between the tasks of a run that has several, as `envs.mixture` has it."""


class Layer(NamedTuple):
    """Some settings, nested, and where they come from."""

    origin: str
    values: dict[str, Any]


def task_recipe(env: str, section: str) -> list[Layer]:
    """What is shipped for a task: what all tasks have (`default.yaml`), and over it what its own file says."""
    layers = []
    for name in ("default", recipe_of(env)):
        if (file := resources.files(__name__) / f"{name}.yaml").is_file():
            layers += sections(file, f"recipes/{file.name}", section)
        if not layers:
            raise ConfigError(
                f"The model's environment.json: preset {section!r} should be one of tiny, llada."
            )
    return layers


def game_recipe(env: str, section: str) -> list[Layer]:
    """What is shipped for one of Gymnasium's own games alone, where it is the only task of a run."""
    game = re.fullmatch(r"gymnasium:([A-Za-z0-9]+)-v\d+", env)
    file = resources.files(__name__) / "gymnasium.yaml"
    return sections(file, f"recipes/{file.name}", f"{section} {game[1].lower()}") if game else []


def read_env(word: str) -> tuple[str, dict[str, object]]:
    """`countdown:level=2` -> ("countdown", {"level": 2}); of several tasks `gsm8k:weight=2` -> "gsm8k.weight"."""
    words = [read_word("--env", one) for one in word.split(TOGETHER)]
    if len(words) == 1:
        return words[0]
    name = TOGETHER.join(one for one, _ in words)
    given = zip(packages.envs.mixture.tasks_of(name), words, strict=True)
    return name, {f"{task}.{key}": value for task, (_, own) in given for key, value in own.items()}


def task_words(env: str, env_args: Mapping[str, Any] | None = None) -> list[str]:
    """The words of a command line that name a task and its arguments."""
    given = [f"{key}={value}" for key, value in (env_args or {}).items()]
    return ["--env", *env.split(TOGETHER), *(["--env-args", *given] if given else [])]


def one_name(task: str) -> str:
    """`Math`, `math500` and `envs:spg/MATH500-v0`, while it is the newest version, are all `math500`."""
    own = own_task(task)
    if own is None or task.isidentifier():
        return own or task
    id = task.rpartition(":")[2]
    return own if id in packages.envs.registry.known() and packages.envs.resolve(own) == id else task


def mixed_recipe(env: str, section: str) -> list[Layer]:
    """`task_recipe` of the task; of several, that of the longest completions, with the arguments of each."""
    if TOGETHER not in env:
        return [*task_recipe(env, section), *game_recipe(env, section)]
    each = {task: task_recipe(name, section) for task, name in packages.envs.mixture.tasks_of(env).items()}

    def longest(layers: list[Layer]) -> float:
        values = {key: value for layer in layers for key, value in layer.values.items()}
        return values.get("rollout", values).get("max_completion_length") or float(
            "inf"
        )  # 0: as long as needed

    lead = max(each, key=lambda task: longest(each[task]))
    own = [(t, layer.values.get("env_args", {})) for t, layers in each.items() for layer in layers]
    arguments = {f"{task}.{key}": value for task, values in own for key, value in values.items()}
    layers = [
        Layer(origin, {k: v for k, v in given.items() if k != "env_args"}) for origin, given in each[lead]
    ]
    return [*layers, Layer("the recipes of all tasks", {"env_args": arguments})]


def algorithm_recipe(name: str, env: str, kind: str) -> list[Layer]:
    """What is shipped for an algorithm, on every task and then on this one."""
    file = resources.files("spg_trainer.algorithms") / "recipes.yaml"
    return sections(file, "algorithms/recipes.yaml", f"{name} {kind}", f"{name} {kind} {recipe_of(env)}")


def sections(file: Traversable, origin: str, *names: str) -> list[Layer]:
    """Those sections of a file that it has."""
    content = parsed(file.read_text())
    return [Layer(f"{origin}: {name}", deepcopy(content[name])) for name in names if name in content]


@lru_cache
def parsed(text: str) -> dict[str, dict[str, Any]]:
    """A file of YAML, once for each text: a start asks for the same file several times.

    Read by libyaml where PyYAML has it: 0.8 ms, not 14.
    """
    import yaml

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def task_name(env: str) -> str:
    """`spg/Sudoku-v0`, `./file.py:my/Sudoku-v0` and `sudoku` are all `sudoku`; several are joined by `+`."""
    names = [re.split(r"[:/]", one)[-1] for one in env.split(TOGETHER)]
    return "+".join(re.sub(r"-v\d+$", "", name).lower() for name in names)


def recipe_of(env: str) -> str | None:
    """The name of a task's recipe: all of Gymnasium's environments share one, and a task of other people has none."""
    return "gymnasium" if env.startswith("gymnasium:") and TOGETHER not in env else own_task(env)


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
