"""Where a setting's value comes from: defaults < preset < the model's environment.json < --config FILE < flags."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from spg_trainer.config import Config, EvalCommand, SftCommand
from spg_trainer.errors import ConfigError
from spg_trainer.overlay import overlay
from spg_trainer.tasks import own_task, short_name

Command = TypeVar("Command", Config, EvalCommand, SftCommand)
ENVIRONMENT_FILE = "environment.json"


def defaults(
    cls: type[Command],
    *,
    env: str | None = None,
    model: str | None = None,
    algorithm: str | None = None,
    config: str | None = None,
    run: str | None = None,
) -> Command:
    """The settings of a command before any flag is read.

    Args:
        env, model, algorithm, config: what flags name; None = not named. A preset's `algorithm_args` are dropped if
            it was made for another algorithm.
        run: a run folder to continue, whose config.yaml then stands for presets and defaults.
    """
    values = read_yaml(config) if config else {}
    overlay(cls(), values, str(config))  # wrong keys and types are told before any of them is used
    if run:
        held = read_yaml(f"{run}/config.yaml", "the run's")
        held.get("output", {}).pop("output_dir", None)  # the folder may have moved; what is typed counts
        return overlay(overlay(cls(), held, f"{run}/config.yaml"), values, str(config))
    model = model or (values.get("model") or {}).get("model") or cls().model.model
    recorded = model_environment(model)
    env = env or values.get("env") or recorded.get("env") or cls().env
    preset = load_preset(env, preset_kind(model))
    if short_name(str(recorded.get("env"))) == short_name(env):
        preset["env_args"] = {**preset.get("env_args", {}), **recorded.get("env_args", {})}
        preset["rollout"] = {**preset.get("rollout", {}), **recorded.get("rollout", {})}
    if is_adapter(model):
        preset.get("model", {}).pop("lora_r", None)  # it goes on training what it has
    suits = preset.get("algorithm", Config.algorithm)
    if (algorithm or values.get("algorithm") or suits) != suits:
        preset.pop("algorithm_args", None)
    base = overlay(cls(), for_command(cls, preset), f"preset of {env}")
    base = overlay(base, {"env": env, "model": {"model": model}}, "flags")
    if cls is EvalCommand and recorded.get("dtype"):  # as it was trained and evaluated
        base = overlay(base, {"model": {"dtype": recorded["dtype"]}}, ENVIRONMENT_FILE)
    return overlay(base, values, str(config))


def for_command(cls: type[Command], preset: dict[str, Any]) -> dict[str, Any]:
    """The part of a training preset that a command has settings for."""
    rollout, sft = preset.get("rollout", {}), preset.pop("sft", {})
    if cls is Config:
        return preset
    chosen: dict[str, Any] = {"env_args": preset.get("env_args", {})}
    if cls is EvalCommand:
        chosen["block_length"] = rollout["block_length"]
        chosen["max_completion_length"] = rollout["max_completion_length"]
        chosen["tokens_per_step"] = rollout["max_completion_length"] / rollout["diffusion_steps"]
        chosen["remasking"] = rollout.get("remasking", "low_confidence")
        return chosen
    return {**chosen, "max_completion_length": rollout["max_completion_length"], **sft}


def is_adapter(model: str) -> bool:
    """Whether a model folder, or the run folder around it, holds a LoRA adapter."""
    return any((folder / "adapter_config.json").is_file() for folder in (Path(model), Path(model) / "model"))


def load_preset(env: str, kind: str) -> dict[str, Any]:
    """The settings shipped for an environment and a kind of model, `tiny` or `llada`; strangers get `default.yaml`."""
    folder = resources.files("spg_trainer.presets")
    file = folder / f"{own_task(env)}.yaml"
    kinds = yaml.safe_load((file if file.is_file() else folder / "default.yaml").read_text())
    if kind not in kinds:
        raise ConfigError(
            f"{ENVIRONMENT_FILE} of the model: preset {kind!r} should be one of {', '.join(kinds)}."
        )
    return kinds[kind]


def model_environment(model: str) -> dict[str, Any]:
    """What a model folder says of the environment it was made for; empty where it says nothing."""
    for folder in (Path(model), Path(model) / "model"):
        file = folder / ENVIRONMENT_FILE
        if file.is_file():
            try:
                return dict(json.loads(file.read_text()))
            except (ValueError, TypeError) as error:
                raise ConfigError(
                    f"{file} is not a JSON object ({error}). Restore it, or remove it to use the presets."
                ) from error
    return {}


def preset_kind(model: str) -> str:
    """Which presets suit a model: `tiny` for the embedded ones and what was made from them, else `llada`."""
    return "tiny" if model in ("tiny", "new") else model_environment(model).get("preset", "llada")


def read_yaml(path: str, source: str = "--config") -> dict[str, Any]:
    """The settings in a YAML file. source: what an error calls it."""
    remedy = "Give the path of a YAML file." if source == "--config" else "Restore it, or start a new run."
    try:
        values = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"{source} {path}: cannot be read ({error.strerror}). {remedy}") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{source} {path}: not valid YAML ({' '.join(str(error).split())}). {remedy}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source} {path}: not a text file. {remedy}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{source} {path}: should hold `name: value` lines, as config.yaml of a run does. {remedy}"
        )
    return values


def peek(args: Sequence[str], name: str) -> str | None:
    """The value of `--name VALUE` or `--name=VALUE` on a command line, the last one; None if absent."""
    found = None
    for i, text in enumerate(args):
        flag, equals, value = text.partition("=")
        word = flag.replace("_", "-") + equals + value  # tyro reads --output_dir as --output-dir
        if word == f"--{name}" and i + 1 < len(args):
            found = args[i + 1]
        elif word.startswith(f"--{name}="):
            found = word.partition("=")[2]
    return found
