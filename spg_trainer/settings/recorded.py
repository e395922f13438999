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
LEFT_TO_OTHERS = {Config: {"editing_threshold": None}, SftCommand: {"ref_copy": False}}
"""{a command: settings that it refused at other values than these, and that it has no more}."""


def model_environment(model: str) -> dict[str, Any]:
    """What a model folder says of the environment it was made for, its paths as they are found from here.

    It is empty where the folder says nothing.

    Recipes are made of the embedded models of LLaDA's kind, whose own files say no more.
    """
    other_kind = is_embedded(model, "tiny") and model != "tiny"
    folder = Path(resolve_model(model).base if other_kind else model).expanduser()
    files = (folder / ENVIRONMENT, folder / "model" / ENVIRONMENT)
    file = next((file for file in files if file.is_file()), None)
    record = read_record(file) if file else {}
    run = run_holding(folder) if record and STARTED not in record else None
    return found_again(record, record_of(run) if run else record)


def record_of(folder: Path) -> dict[str, Any]:
    """The environment.json of a run or of a model of `sft`, where this is not finished that of its newest checkpoint.

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
    return next((p for p in above if holds_run(p) and (p / ENVIRONMENT).is_file()), None)


def task_record(command: Config | SftCommand, sampling: Sampling, **record: Any) -> dict[str, Any]:
    """What environment.json of a model says of the task it was made for: of decoding lengths and remasking alone."""
    # No run inherits an approximation. How positions are drawn is no approximation of anything.
    drawn = {"position_temperature"} if sampling.remasking == "plackett_luce" else set()
    own = {f.name for f in fields(Decoding)} - {"remasking"} - drawn | {"temperature"}
    lengths = {name: value for name, value in asdict(sampling).items() if name not in own}
    made = {"preset": recipe_kind(command.model.model), "rollout": lengths}
    task = {"env": command.env, "env_args": dict(command.env_args)} if command.env else {}
    return {**task, **record, **made}


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
    """What a file says of the settings of a command, of an earlier version too.

    Raises ConfigError for what this version cannot do any more.
    """
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        return settings
    if cls is not Config:
        settings = in_groups(settings, cls)
    parts = [settings, settings.get("rollout"), settings.get("model")]
    others = next((values for command, values in LEFT_TO_OTHERS.items() if issubclass(cls, command)), {})
    for part in (part for part in parts if isinstance(part, dict)):
        for name, default in others.items():
            if name in part and part[name] == default:
                del part[name]
        for name, default in RETIRED.items():
            if (value := part.pop(name, default)) != default:
                raise ConfigError(
                    f"{path}: {name}={value!r} is a setting of an earlier version, which made decoding no faster than "
                    "others do. Leave it out and start a new run, or go on with that version."
                )
    return settings


def in_groups(settings: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """Settings of a command in its groups, where earlier versions wrote them all on one level.

    Their decoding speed, `tokens_per_step` where no steps were given, is `diffusion_steps` of so many a step.
    """
    known, result = settings_of(cls), dict[str, Any]()
    given = {**settings}
    rate = given.pop("tokens_per_step", None)
    if "diffusion_steps" in given and given["diffusion_steps"] in (0, [], None):  # as the rate says
        del given["diffusion_steps"]
    if rate is not None and "diffusion_steps" not in given:
        rate = scalar(rate) if isinstance(rate, str) else rate
        given["diffusion_steps"] = at_rate(rate) if isinstance(rate, int | float) else rate
    for name, value in given.items():
        place = name if isinstance(value, Mapping) else known.get(name, (name,))[0]
        group, _, key = place.rpartition(".")
        if group and isinstance(result.get(group, {}), Mapping):
            result[group] = {**result.get(group, {}), key: value}
        else:
            result[name] = {**result.get(name, {}), **value} if isinstance(value, Mapping) else value
    return result


def read_config(file: str | Path, cls: type[Settings] = Config) -> Settings:  # type: ignore[assignment]
    """The settings in config.yaml of a run, or in sft.yaml of a model; ConfigError if they cannot be read."""
    return overlay(cls(), read_settings(file, cls), f"{file}:")
