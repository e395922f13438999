"""Where a setting's value comes from, how it is written down, and what may change when a run is resumed.

A value is that of the dataclass (`fields.py`), over which lie, in this order: the task's recipe (`recipes/TASK.yaml`,
which names its algorithm), the algorithm's own (`algorithms/recipes.yaml`), environment.json of a model that was made
for the task, --config FILE, and flags (`cli.py`). A run that is resumed has its own config.yaml below file and flags.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.runs.environment_file import kept
from spg_trainer.runs.files import to_json
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.fields import Config, EvalCommand, LoadConfig, Sampling, SftCommand
from spg_trainer.settings.recipes import Layer, merge, recipe, sft_recipe, task_name
from spg_trainer.settings.values import flatten, overlay

Command = TypeVar("Command", Config, EvalCommand, SftCommand)

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
SFT = "sft.yaml"
"""The settings of `sft` in the folder of its model: what `sft --resume` goes on with."""
MAY_CHANGE = frozenset(
    "max_steps max_minutes config dry_run eval.eval_steps output.output_dir output.resume output.save_steps "
    "output.keep output.sample_steps output.report output.track batch.per_device_batch_size model.shard".split()
)
"""Settings that may change on resume: how long, what is shown and kept, and where it runs."""


def defaults(
    cls: type[Command], env: str | None = None, model: str | None = None, algorithm: str | None = None
) -> Command:
    """The settings of a command for a task, a model and an algorithm, before any file or flag; None = the default."""
    named = {"env": env, "algorithm": algorithm, "model": model and {"model": model}}
    return apply(cls(), layers(cls, {name: value for name, value in named.items() if value}))


def apply(base: Command, over: Iterable[Layer]) -> Command:
    """`base` with layers of settings over it; ConfigError for an unknown key or a wrong type."""
    for layer in over:
        base = overlay(base, layer.values, layer.origin)
    return base


def layers(cls: type[Command], flags: dict[str, Any]) -> list[Layer]:
    """What lies over the dataclass of a command; flags: what they say, nested as the settings are."""
    if cls not in (Config, EvalCommand, SftCommand):
        return [Layer("flag", flags)]
    config = flags.get("config")
    over = [Layer(str(config), read_yaml(config) if config else {}), Layer("flag", flags)]
    apply(cls(), over)  # wrong keys and types are reported before any of them is used
    if run := resumed(cls, flags):
        moved = {"output_dir": None}  # the folder may have moved
        own = Layer(str(run), read_yaml(run))
        return [own, Layer("default", moved if cls is SftCommand else {"output": moved}), *over]
    given = merge(over)
    model = given.get("model", {}).get("model") or cls().model.model
    recorded = model_environment(model).get("env")
    record = Layer(f"{model}/{ENVIRONMENT}", {"env": kept(run_holding(model), recorded)} if recorded else {})
    env = given.get("env") or record.values.get("env") or cls().env
    if cls is Config:
        shipped = task_layers(env, model, given.get("algorithm"))
    else:
        shipped = [Layer(f"recipe of {env}", command_recipe(cls, env, model))]
    return [record, *shipped, *over]


def resumed(cls: type[Command], flags: Mapping[str, Any]) -> Path | None:
    """The file with the settings of the run (of `sft`, the model) that --resume continues; None if there is none."""
    output = flags.get("output", {}) if cls is Config else flags
    folder = output.get("output_dir") if output.get("resume") == "auto" else output.get("resume")
    if folder is None:
        return None
    place = Path(folder).resolve()  # a run folder, one of its checkpoints, or a superseded one
    files = (above / (SFT if cls is SftCommand else CONFIG) for above in (place, *list(place.parents)[:3]))
    return next((file for file in files if file.is_file()), None)


def task_layers(env: str, model: str, algorithm: str | None) -> list[Layer]:
    """The task's recipe, the algorithm's own, and environment.json of a model that was made for the task."""
    over = recipe(env, recipe_kind(model), algorithm)
    if LoadConfig(model).is_adapter:  # it is trained as it is; `model` of a recipe is for whole models
        over = [Layer(layer.origin, {**layer.values, "model": {}}) for layer in over]
    made = [*over, Layer(f"{model}/{ENVIRONMENT}", made_for(env, model))]
    if (
        merge(over)["rollout"]["block_length"] == 1
    ):  # an algorithm's, of a model made with blocks, too: a token a step
        steps = merge(made)["rollout"]["max_completion_length"]
        made.append(Layer(over[-1].origin, {"rollout": {"block_length": 1, "diffusion_steps": steps}}))
    return made


def made_for(env: str, model: str) -> dict[str, Any]:
    """The arguments and lengths that a model was made with, if it was made for this task."""
    recorded = model_environment(model)
    same = task_name(str(recorded.get("env"))) == task_name(env)
    return {part: recorded.get(part) or {} for part in ("env_args", "rollout")} if same else {}


def command_recipe(cls: type[Command], env: str, model: str) -> dict[str, Any]:
    """What the settings of a training on the task say of `eval` or `sft`."""
    training, recorded = defaults(Config, env, model), model_environment(model)
    sampling, shared = training.rollout, {"env_args": training.env_args}
    if cls is EvalCommand:
        names = ("max_completion_length", "block_length", "tokens_per_step", "remasking")
        lengths = {name: getattr(sampling, name) for name in names}
        return {**shared, **lengths, "model": {"dtype": recorded.get("dtype", "auto")}}  # as it was trained
    own = sft_recipe(env, recipe_kind(model))
    if LoadConfig(model).is_adapter:
        own.pop("model", None)
    made = made_for(env, model).get("rollout", {})
    own["max_completion_length"] = made.get("max_completion_length", own["max_completion_length"])
    return {**shared, "temperature": sampling.temperature, **own}  # habits are counted at RL's temperature


def model_environment(model: str) -> dict[str, Any]:
    """What a model folder says of the environment it was made for; empty where it says nothing."""
    folder = Path(model).expanduser()
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


def task_record(command: Config | SftCommand, sampling: Sampling, **more: Any) -> dict[str, Any]:
    """What environment.json of a model says of the task it was made for; its temperature is not part of it."""
    lengths = {name: value for name, value in asdict(sampling).items() if name != "temperature"}
    made = {"preset": recipe_kind(command.model.model), "rollout": lengths}
    return {"env": command.env, "env_args": dict(command.env_args), **more, **made}


def recipe_kind(model: str) -> str:
    """Which recipes suit a model: `tiny` for the embedded ones and what was made from them, else `llada`."""
    return "tiny" if model in ("tiny", "new") else model_environment(model).get("preset", "llada")


def to_yaml(config: Any) -> str:
    """The settings, nested as the dataclasses are; what `--config` reads."""
    return yaml.safe_dump(to_json(config), sort_keys=False, allow_unicode=True)


def with_origins(settled: Config, over: Iterable[Layer]) -> str:
    """`to_yaml` of settings made of layers, with where each value comes from behind it."""
    origins = {name: layer.origin for layer in over for name in flatten(layer.values)}
    origins |= {"dry_run": "default", "config": "default"}

    def lines(tree: Mapping[str, Any], path: str = "", indent: str = "") -> Iterator[str]:
        for key, value in tree.items():
            if value and isinstance(value, dict):
                yield f"{indent}{key}:"
                yield from lines(value, f"{path}{key}.", f"{indent}  ")
            else:
                style = None if isinstance(value, list) else False  # a list on one line
                text = yaml.safe_dump({key: value}, default_flow_style=style, width=1e9, allow_unicode=True)
                yield f"{indent}{text.rstrip()}  # {origins.get(path + key, 'default')}"

    return "\n".join(lines(to_json(settled)))


def read_yaml(path: str | Path) -> Any:
    """What is in a YAML file; ConfigError if it cannot be read."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ConfigError(f"{path} cannot be read as YAML: {why}. Give the path of a YAML file.") from error


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`seed was 3, now 4; ...` for all that differs, or nothing."""
    pairs = {name: (before.get(name), after.get(name)) for name in sorted(before.keys() | after.keys())}
    return "; ".join(f"{name} was {old!r}, now {new!r}" for name, (old, new) in pairs.items() if old != new)


def read_config(file: str | Path, cls: type[Command] = Config) -> Command:
    """The settings in config.yaml of a run, or in sft.yaml of a model; ConfigError if they cannot be read."""
    return overlay(cls(), read_yaml(file), str(file))


def identity(config: Config, run: Path, ignore: Collection[str] = MAY_CHANGE) -> dict[str, Any]:
    """What makes a run the run it is: its settings by dotted name, without those that may change on resume.

    Adapters count as they are trained; the folder `run` may hold the only copy of the one it started from.
    """
    return flatten(to_json(replace(config, model=settle(config.model, run))), ignore)


def refuse_changes(file: Path, config: Config) -> None:
    """Raises if the settings in a run's config.yaml differ from `config` where they may not."""
    try:
        before = read_config(file)
    except ConfigError as error:
        text = f"{file} cannot be read as settings ({error}). Start a new run with another --output-dir."
        raise CheckpointError(text) from error
    if changed := differences(identity(before, file.parent), identity(config, file.parent)):
        raise ConfigError(
            f"{file.parent} is a run of other settings: {changed}. Resume it with its own (--max-steps, --max-minutes, "
            "--per-device-batch-size and what is logged or kept may change), or use another --output-dir."
        )
