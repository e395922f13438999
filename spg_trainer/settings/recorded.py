"""Reads and writes the files that record settings: config.yaml of a run, environment.json of a run or a model.

`runs/resume.py` decides which settings a run's config.yaml has, and which of them may change on --resume.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

import yaml

from spg_trainer.errors import ConfigError
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.configs import Config
from spg_trainer.settings.decoding import LENGTHS, Sampling
from spg_trainer.settings.model import LoadConfig
from spg_trainer.settings.task import parse_tasks
from spg_trainer.settings.types import json_document, overlay, plain
from spg_trainer.settings.weights import is_embedded, resolve_model

Settings = TypeVar("Settings")

CONFIG = "config.yaml"
"""The settings of a run, in its folder."""
ENVIRONMENT = "environment.json"
"""The file in the folder of a run or a model that says for which task it was made, and how it decodes."""


def model_environment(model: str) -> dict[str, Any]:
    """The environment.json of a model; {} if it has none.

    Paths of code that is gone or has changed are replaced by those of the run's own copies.

    For `tiny` the file is not read, since the recipes have its settings; for `tiny:block`, `tiny:shift` and `tiny:TASK`
    it is read. A new model has no such file. Nor has a model that was not opened from a folder; its name is "".
    """
    if model in ("", "tiny") or is_embedded(model, "new"):
        return {}
    folder = Path(resolve_model(model).base if is_embedded(model, "tiny") else model).expanduser()
    files = (folder / ENVIRONMENT, folder / "model" / ENVIRONMENT)
    file = next((file for file in files if file.is_file()), None)
    record = read_record(file) if file else {}
    run = run_holding(folder) if record else None
    if run is None:
        return record
    from spg_trainer.runs.inputs import with_copies

    # The run's settings have the last paths of files that were moved since the model was written.
    settings, args = read_yaml(run / CONFIG), record.get("env_args", {})
    if "env" in record:
        record["env"] = settings.get("env", record["env"])
    args |= {name: value for name, value in settings.get("env_args", {}).items() if name in args}
    return with_copies(run, record, changed=True)


def taught_length(model: str) -> int:
    """The length of completions, in tokens, that a model was taught, by its environment.json; 0 if it does not say."""
    return int((model_environment(model).get("rollout") or {}).get("max_completion_length", 0))


def other_lengths(sampling: Sampling, model: str) -> str:
    """A sentence if a model decodes here with other lengths, blocks or steps than it was taught; else ""."""
    taught = model_environment(model).get("rollout") or {}
    differs = any(name in taught and taught[name] != getattr(sampling, name) for name in LENGTHS)
    if not differs:
        return ""
    length, block, steps = (taught.get(name, "?") for name in LENGTHS)
    return (
        f"{model} was taught to write {length} tokens in blocks of {block} and {steps} steps ({ENVIRONMENT}); here it "
        f"writes {sampling.max_completion_length} in blocks of {sampling.block_length} and "
        f"{sampling.diffusion_steps} steps."
    )


def lengths_left_out(sampling: Sampling, model: str) -> str:
    """A note if a `Sampling` was made without lengths, and its default lengths are not those the model was taught."""
    note = other_lengths(sampling, model)
    lengths = [f for f in fields(Sampling) if f.name in LENGTHS]
    has_default_lengths = all(getattr(sampling, f.name) == f.default for f in lengths)
    if not note or not has_default_lengths:
        return ""
    return f"{note} defaults(Sampling, env=..., model=..., temperature=...) has the model's own lengths."


def record_of(folder: Path) -> dict[str, Any]:
    """The environment.json in the folder of a run; {} if there is none."""
    file = folder / ENVIRONMENT
    return read_record(file) if file.is_file() else {}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes the environment.json of a model into its folder."""
    (folder / ENVIRONMENT).write_text(json_document(record), encoding="utf-8")


def read_record(file: Path) -> dict[str, Any]:
    """The content of an environment.json; ConfigError if it cannot be read."""
    try:
        return dict(json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        text = f"{file} is not a JSON object ({error}). Restore it, or remove it to use the recipes."
        raise ConfigError(text) from error


def run_holding(path: str | Path) -> Path | None:
    """The run folder that a path names, or in which it lies up to three levels deep, e.g. as a model; else None."""
    place = Path(path).expanduser()
    if (place / CONFIG).is_file():
        return place
    above = list(place.resolve().parents)[:3] if place.is_dir() else []
    runs = (folder for folder in above if (folder / CONFIG).is_file() and (folder / ENVIRONMENT).is_file())
    return next(runs, None)


def refuse_unregistered(run: Path, env: str) -> None:
    """Raises ConfigError if a task of a run stands in a script or a notebook, which this process does not run.

    env: the tasks of the run, as it recorded them.
    """
    from spg_trainer.runs.inputs import read_inputs, says_id

    for id in (task.env for task in parse_tasks(env)):
        if not re.fullmatch(r"[\w-]+/[\w.-]+", id) or id in packages.envs.registry.known():
            continue
        where, file = (
            "another module than that of its class, a notebook or text on standard input",
            "./FILE.py",
        )
        for name, entry in read_inputs(run).items():
            code = entry.path if Path(entry.path).is_file() else str(run / entry.copy)
            is_script = re.fullmatch(r"env( \d+)?", name) and entry.copy and entry.path not in env
            if is_script and says_id(code, id):
                where = file = code
        raise ConfigError(
            f"{id}, a task of {run}, is registered by {where}, which this process does not run. To resume the run, do "
            f"it from there: train(defaults(Config, resume={str(run)!r})). To evaluate it, name a file that registers "
            f'the task and trains only under `if __name__ == "__main__":`, $env={quote(f"{file}:{id}")}.'
        )


def task_record(
    env: str, env_args: Mapping[str, object], model: LoadConfig, sampling: Sampling, **more: Any
) -> dict[str, Any]:
    """The content of a model's environment.json: the task that it was made for, and its decoding. more: further keys.

    Of decoding it only has the lengths, steps and remasking, so that no later run inherits an approximation.
    """
    recorded = {"max_completion_length", "block_length", "diffusion_steps", "remasking"}
    rollout = {name: value for name, value in asdict(sampling).items() if name in recorded}
    task = {"env": env, "env_args": dict(env_args)} if env else {}
    if model.chat_template_args:
        more["chat_template_args"] = dict(model.chat_template_args)
    return {
        **task,
        **more,
        "preset": recipe_kind(model.model, model_environment(model.model)),
        "rollout": rollout,
    }


def recipe_kind(model: str, record: Mapping[str, Any]) -> str:
    """The kind of recipes for a model: `tiny` for models of the package and those trained from them, else `llada`.

    record: the model's environment.json.
    """
    return "tiny" if is_embedded(model, "tiny", "new") else record.get("preset", "llada")


def shown_settings(config: Config) -> dict[str, Any]:
    """The settings of a run to show to a reader: without the sizes of a new model, unless the model is new."""
    shown = asdict(config)
    if not is_embedded(config.model.model, "new"):
        for name in ("hidden_size", "num_layers", "num_heads", "intermediate_size"):
            del shown["model"][name]
    return shown


def to_yaml(settings: Any) -> str:
    """The settings in YAML, nested as the dataclasses are, as `--config` reads them."""
    return yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True)


class _EachKeyOnce(yaml.SafeLoader):
    """Reads YAML, but refuses a key that a mapping has twice, of which YAML would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for i, key in enumerate(keys):
            if key.value in [other.value for other in keys[:i]]:
                mark = key.start_mark
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is set twice", problem_mark=mark
                )
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file; ConfigError if it cannot be read, or sets a key twice."""
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_EachKeyOnce)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        lines_up_to_mark = Path(path).read_text(encoding="utf-8").splitlines()[: mark.line + 1]
        line = f" ({lines_up_to_mark[-1].strip()})" if lines_up_to_mark else ""
        raise ConfigError(
            f"{path}, line {mark.line + 1}{line}: {error.problem}. It must be YAML, each key once."
        ) from error
    except FileNotFoundError as error:
        text = f"{path}: there is no such file (looked in {Path.cwd()}). Give the path of a YAML file."
        raise ConfigError(text) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ConfigError(f"{path} cannot be read as YAML: {why}. Give the path of a YAML file.") from error


def read_config(file: str | Path, cls: type[Settings] = Config) -> Settings:  # type: ignore[assignment]
    """The settings in config.yaml of a run; ConfigError if they cannot be read."""
    return overlay(cls(), read_yaml(file), f"{file}:")
