"""What files say of settings: config.yaml of a run, sft.yaml and environment.json of a model."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from spg_trainer.errors import ConfigError
from spg_trainer.settings.decoding import Decoding, Sampling, at_rate
from spg_trainer.settings.fields import Config, SftCommand
from spg_trainer.settings.places import STARTED, found_again
from spg_trainer.settings.values import overlay, plain, scalar, settings_of
from spg_trainer.settings.weights import SFT, is_embedded, resolve_model

Settings = TypeVar("Settings")

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
RETIRED = {"threshold_slack": 0.0, "max_post_steps": 16, "refresh_steps": 0, "suffix_tokens": None}
"""Settings of decoding that earlier versions had, with the defaults at which today's decoding is the same."""
NO_LONGER_HERE = {Config: {"editing_threshold": None}, SftCommand: {"ref_copy": False}}
"""{command: {setting that it has no more: the only value that it took}}. Other commands still have these settings."""


def model_environment(model: str) -> dict[str, Any]:
    """The environment.json of a model folder, its paths as they are found from here; empty where there is none.

    It is read of `tiny:block` and `tiny:shift`, but not of `tiny`: the recipes are made of this one.
    """
    beside_tiny = is_embedded(model, "tiny") and model != "tiny"
    folder = Path(resolve_model(model).base if beside_tiny else model).expanduser()
    files = (folder / ENVIRONMENT, folder / "model" / ENVIRONMENT)
    file = next((file for file in files if file.is_file()), None)
    record = read_record(file) if file else {}
    # A checkpoint of an earlier version does not say where its run was started; the run's own file may.
    run = run_holding(folder) if record and STARTED not in record else None
    return found_again(record, record_of(run) if run else record)


def record_of(folder: Path) -> dict[str, Any]:
    """The environment.json of a run or of a model of `sft`; of an unfinished model, that of its newest checkpoint.

    It is empty where there is none.
    """
    checkpoints = folder.glob(f"checkpoints/step-*/{ENVIRONMENT}")
    newest_first = sorted(checkpoints, key=lambda file: (len(file.parent.name), file), reverse=True)
    return next((read_record(file) for file in (folder / ENVIRONMENT, *newest_first) if file.is_file()), {})


def read_record(file: Path) -> dict[str, Any]:
    """What an environment.json holds; ConfigError if it cannot be read."""
    try:
        return dict(json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        text = f"{file} is not a JSON object ({error}). Restore it, or remove it to use the recipes."
        raise ConfigError(text) from error


def run_holding(path: str | Path) -> Path | None:
    """The folder of a training or of `sft` that a path is, or that holds it as its model or a checkpoint."""
    place = Path(path).expanduser()

    def holds_run(folder: Path) -> bool:
        return (folder / CONFIG).is_file() or (folder / SFT).is_file()

    if holds_run(place):
        return place
    above = list(place.resolve().parents)[:3] if place.is_dir() else []
    runs = (folder for folder in above if holds_run(folder) and (folder / ENVIRONMENT).is_file())
    return next(runs, None)


def task_record(command: Config | SftCommand, sampling: Sampling, **more: Any) -> dict[str, Any]:
    """What environment.json of a model says of the task it was made for; more: what else it shall say.

    Of decoding it holds lengths, steps and remasking alone, so that no later run inherits an approximation. How
    positions are drawn is none, and is held where they are drawn.
    """
    left_out = {f.name for f in fields(Decoding)} | {"temperature"}
    left_out -= {"remasking"}
    if sampling.remasking == "plackett_luce":
        left_out -= {"position_temperature"}
    rollout = {name: value for name, value in asdict(sampling).items() if name not in left_out}
    task = {"env": command.env, "env_args": dict(command.env_args)} if command.env else {}
    return {**task, **more, "preset": recipe_kind(command.model.model), "rollout": rollout}


def recipe_kind(model: str) -> str:
    """Which recipes suit a model: `tiny` for the embedded ones and what was made from them, else `llada`."""
    if is_embedded(model, "tiny", "new"):
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


def read_settings(path: str | Path, cls: type = Config) -> Any:
    """What a file says of the settings of a command, also one of an earlier version.

    Raises ConfigError for what this version cannot do any more.
    """
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        return settings
    if cls is not Config:
        settings = in_groups(settings, cls)
    left = next((values for command, values in NO_LONGER_HERE.items() if issubclass(cls, command)), {})
    for group in (settings, settings.get("rollout"), settings.get("model")):
        if not isinstance(group, dict):
            continue
        for name, only_value in left.items():
            if name in group and group[name] == only_value:
                del group[name]
        for name, default in RETIRED.items():
            if (value := group.pop(name, default)) != default:
                raise ConfigError(
                    f"{path}: {name}={value!r} is a setting of an earlier version, which made decoding no faster than "
                    "others do. Leave it out and start a new run, or go on with that version."
                )
    return settings


def in_groups(settings: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """Settings of a command in its groups, where earlier versions wrote them all on one level.

    `{"block_length": 8}` becomes `{"rollout": {"block_length": 8}}`, and `tokens_per_step`, where no steps were given,
    `diffusion_steps` of so many tokens a step.
    """
    known, grouped = settings_of(cls), dict[str, Any]()
    flat = {**settings}
    rate = flat.pop("tokens_per_step", None)
    if "diffusion_steps" in flat and flat["diffusion_steps"] in (0, [], None):  # these stood for the rate
        del flat["diffusion_steps"]
    if rate is not None and "diffusion_steps" not in flat:
        rate = scalar(rate) if isinstance(rate, str) else rate
        flat["diffusion_steps"] = at_rate(rate) if isinstance(rate, int | float) else rate
    for name, value in flat.items():
        is_group = isinstance(value, Mapping)
        dotted = name if is_group or name not in known else known[name][0]
        group, _, key = dotted.rpartition(".")
        if group and isinstance(grouped.get(group, {}), Mapping):
            grouped[group] = {**grouped.get(group, {}), key: value}
        else:
            grouped[name] = {**grouped.get(name, {}), **value} if is_group else value
    return grouped


def read_config(file: str | Path, cls: type[Settings] = Config) -> Settings:  # type: ignore[assignment]
    """The settings in config.yaml of a run, or in sft.yaml of a model; ConfigError if they cannot be read."""
    return overlay(cls(), read_settings(file, cls), f"{file}:")
