"""Where a setting's value comes from, and how it is written down.

A value is that of the dataclass (`fields.py`), over which lie, in this order: the task's recipe (`recipes/`, which
names its algorithm), the algorithm's own (`algorithms/recipes.yaml`), environment.json of a model that was made for the
task, --config FILE, and flags (`cli.py`). A run that is resumed has its own config.yaml below file and flags.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from spg_trainer.errors import ConfigError
from spg_trainer.runs import own_code
from spg_trainer.settings.adapters import find_adapter
from spg_trainer.settings.fields import Config, Decoding, EvalCommand, Sampling, SftCommand, TaskSettings
from spg_trainer.settings.published import decoding_layer
from spg_trainer.settings.recipes import Layer, algorithm_recipe, task_name, task_recipe
from spg_trainer.settings.values import overlay, plain
from spg_trainer.settings.weights import is_embedded, resolve_model

Command = TypeVar("Command", Config, EvalCommand, SftCommand)

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
SFT = "sft.yaml"
"""The settings of `sft` in the folder of its model: what `sft --resume` goes on with."""


def defaults(
    cls: type[Command], env: str | None = None, model: str | None = None, algorithm: str | None = None
) -> Command:
    """The settings of a command for a task, a model and an algorithm, before any file or flag; None = the default."""
    named = {"env": env, "algorithm": algorithm, "model": model and {"model": model}}
    return apply(cls(), layers(cls, {name: value for name, value in named.items() if value}))


def apply(base: Command, over: Iterable[Layer]) -> Command:
    """`base` with layers of settings over it; ConfigError for an unknown key or a wrong type."""
    for layer in over:
        base = overlay(base, layer.values, f"{layer.origin}:")
    return base


def layers(cls: Any, flags: dict[str, Any]) -> list[Layer]:
    """What lies over the dataclass of a command; flags: what they say, nested as the settings are."""
    over = [Layer("flag", flags)]
    if not issubclass(cls, TaskSettings):
        return over
    if file := flags.get("config"):
        over.insert(0, Layer(file, read_yaml(file)))
    given = apply(cls(), over)  # wrong keys and types are reported before any of them is used
    if run := resumed(given):
        moved = {"output_dir": None}  # the folder may have moved
        place = Layer("default", {"output": moved} if cls is Config else moved)
        return [Layer(str(run), own_code.with_copies(run.parent, read_yaml(run))), place, *over]
    model, record = given.model.model, list[Layer]()
    if recorded := model_environment(given.model.model).get("env"):
        record = [
            Layer(
                f"{model}/{ENVIRONMENT}",
                {"env": own_code.kept(run_holding(model), own_code.ENVIRONMENT, recorded)},
            )
        ]
    env = apply(cls(), [*record, *over]).env
    if cls is Config:
        return [*record, *training(env, model, over), *over]
    shipped = evaluation(env, model) if cls is EvalCommand else fine_tuning(env, model)
    return [*record, *shipped, *over]


def resumed(command: Config | EvalCommand | SftCommand) -> Path | None:
    """The file with the settings of the run (of `sft`, the model) that --resume continues; None if there is none."""
    if isinstance(command, EvalCommand):
        return None
    output, name = (command.output, CONFIG) if isinstance(command, Config) else (command, SFT)
    folder = output.output_dir if output.resume == "auto" else output.resume
    if folder is None:
        return None
    place = Path(folder).resolve()  # a run folder, one of its checkpoints, or a superseded one
    files = (above / name for above in (place, *list(place.parents)[:3]))
    return next((file for file in files if file.is_file()), None)


def training(env: str, model: str, over: Iterable[Layer] = ()) -> list[Layer]:
    """For a training: recipes, environment.json of a model made for the task. over: where the algorithm is named."""
    kind = recipe_kind(model)
    task = task_recipe(env, kind)
    if kind != "tiny" and (decoding := decoding_layer(model)):
        task.append(decoding)
    recipes = task + algorithm_recipe(apply(Config(), [*task, *over]).algorithm, env, kind)
    recipes = for_model(model, recipes)
    made = [*recipes, Layer(f"{model}/{ENVIRONMENT}", made_for(env, model))]
    if (
        apply(Config(), recipes).rollout.block_length == 1
    ):  # also of a model made with blocks: a step for each token
        length = apply(Config(), made).rollout.max_completion_length
        made.append(Layer(recipes[-1].origin, {"rollout": {"block_length": 1, "diffusion_steps": length}}))
    return made


def evaluation(env: str, model: str) -> list[Layer]:
    """For `eval`: what a training on the task samples, in the type that the model was trained in."""
    trained = apply(Config(), training(env, model))
    names = ("max_completion_length", "block_length", "tokens_per_step", *(f.name for f in fields(Decoding)))
    lengths = {name: getattr(trained.rollout, name) for name in names}
    dtype = model_environment(model).get("dtype", "auto")
    return [Layer(f"training on {env}", {"env_args": trained.env_args, **lengths, "model": {"dtype": dtype}})]


def fine_tuning(env: str, model: str) -> list[Layer]:
    """For `sft`: its recipe, a training's arguments and temperature, and the length that the model was made with."""
    trained = apply(Config(), training(env, model))
    shared = {
        "env_args": trained.env_args,
        "temperature": trained.rollout.temperature,
    }  # where habits are counted
    made = made_for(env, model).get("rollout", {})
    length = {name: value for name, value in made.items() if name == "max_completion_length"}
    recipes = for_model(model, task_recipe(env, f"{recipe_kind(model)} sft"))
    return [Layer(f"training on {env}", shared), *recipes, Layer(f"{model}/{ENVIRONMENT}", length)]


def for_model(model: str, recipes: list[Layer]) -> list[Layer]:
    """Recipes without what they say of the model, if that is an adapter, which is trained as it is."""
    if find_adapter(model) is None:
        return recipes
    return [Layer(origin, {**values, "model": {}}) for origin, values in recipes]


def made_for(env: str, model: str) -> dict[str, Any]:
    """The arguments and lengths that a model was made with, if it was made for this task."""
    recorded = model_environment(model)
    same = task_name(str(recorded.get("env"))) == task_name(env)
    return {part: recorded.get(part) or {} for part in ("env_args", "rollout")} if same else {}


def model_environment(model: str) -> dict[str, Any]:
    """What a model folder says of the environment it was made for; empty where it says nothing.

    Recipes are made of the embedded models of LLaDA's kind, whose own files say no more.
    """
    other_kind = is_embedded(model, "tiny") and model != "tiny"
    folder = Path(resolve_model(model).base if other_kind else model).expanduser()
    files = (folder / ENVIRONMENT, folder / "model" / ENVIRONMENT)
    file = next((file for file in files if file.is_file()), None)
    try:
        return dict(json.loads(file.read_text())) if file else {}
    except (ValueError, TypeError) as error:
        text = f"{file} is not a JSON object ({error}). Restore it, or remove it to use the recipes."
        raise ConfigError(text) from error


def run_holding(path: str | Path) -> Path | None:
    """The run folder that a path is, or that holds it as its model, a checkpoint or a superseded one."""
    place = Path(path).expanduser()
    if (place / CONFIG).is_file():
        return place
    above = list(place.resolve().parents)[:3] if place.is_dir() else []
    return next((p for p in above if (p / CONFIG).is_file() and (p / ENVIRONMENT).is_file()), None)


def task_record(command: Config | SftCommand, sampling: Sampling, **record: Any) -> dict[str, Any]:
    """What environment.json of a model says of the task it was made for: of decoding lengths and remasking alone."""
    # No run inherits an approximation.
    own = {f.name for f in fields(Decoding)} - {"remasking"} | {"temperature"}
    lengths = {name: value for name, value in asdict(sampling).items() if name not in own}
    made = {"preset": recipe_kind(command.model.model), "rollout": lengths}
    return {"env": command.env, "env_args": dict(command.env_args), **record, **made}


def recipe_kind(model: str) -> str:
    """Which recipes suit a model: `tiny` for the embedded ones and what was made from them, else `llada`."""
    if any(is_embedded(model, word) for word in ("tiny", "new")):
        return "tiny"
    return model_environment(model).get("preset", "llada")


def to_yaml(settings: Any) -> str:
    """The settings, nested as the dataclasses are; what `--config` reads."""
    return yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True)


def read_yaml(path: str | Path) -> Any:
    """What is in a YAML file; ConfigError if it cannot be read."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = Path(path).read_text(encoding="utf-8").splitlines()[: mark.line + 1][-1:]
        shown = f" ({line[0].strip()})" if line else ""
        raise ConfigError(
            f"{path}, line {mark.line + 1}{shown}: {error.problem}. It must be YAML."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ConfigError(f"{path} cannot be read as YAML: {why}. Give the path of a YAML file.") from error


def read_config(file: str | Path, cls: type[Command] = Config) -> Command:
    """The settings in config.yaml of a run, or in sft.yaml of a model; ConfigError if they cannot be read."""
    return overlay(cls(), read_yaml(file), f"{file}:")
