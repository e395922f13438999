"""Where a setting's value comes from, how it is written down, and what may change when a run is resumed.

Defaults (`config.py`) < the environment's preset < the model's environment.json < --config FILE < flags (`cli.py`).

YAML is laid over the dataclasses by hand (`overlay`, 0.07 ms a file): pydantic's TypeAdapter adds 0.2 s to every start
and passes over unknown keys, and tyro reads flat command lines, 60 ms for each layer.
"""

import json
import types
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from spg_trainer.errors import CheckpointError, ConfigError, did_you_mean
from spg_trainer.models.adapters import settle
from spg_trainer.runs.environment_file import kept
from spg_trainer.runs.files import to_json
from spg_trainer.settings.fields import Config, EvalCommand, Sampling, SftCommand
from spg_trainer.settings.recipes import load_preset, load_section, task_name

Command = TypeVar("Command", Config, EvalCommand, SftCommand)
T = TypeVar("T")

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
PRESET = "preset.yaml"
"""What a run's settings were before any flag or file changed them, beside its config.yaml."""
SFT = "sft.yaml"
"""The settings of `sft` in the folder of its model: what `sft --resume` goes on with."""
RENAMED = {("output", "board_steps"): "render_steps"}
"""Settings by the names that older run folders know them by, as (part, name)."""
MAY_CHANGE = frozenset(
    "max_steps max_minutes config dry_run eval.eval_steps output.output_dir "
    "output.resume output.save_steps output.keep output.sample_steps output.render_steps output.report output.track "
    "batch.per_device_batch_size".split()
)
"""Settings that may change on resume: how long, what is shown and kept, and where it runs."""


def defaults(
    cls: type[Command],
    *,
    env: str | None = None,
    model: str | None = None,
    algorithm: str | None = None,
    config: str | None = None,
    lora_r: str | None = None,
    level: str | None = None,
    run: str | None = None,
) -> Command:
    """The settings of a command before any flag is read.

    env, model, algorithm, config, lora_r: what flags name; None = not named. level: that of --env-args. run: a run
    folder (of `sft`, a model's) to continue, whose own settings then stand for presets and defaults.
    """
    values = read_yaml(config) if config else {}
    overlay(cls(), values, str(config))  # wrong keys and types are reported before any of them is used
    if run and cls is SftCommand:
        return overlay(replace(read_sft(f"{run}/{SFT}"), output_dir=None), values, str(config))
    if run:
        own = read_config(f"{run}/{CONFIG}")
        own = replace(own, output=replace(own.output, output_dir=None))  # the folder may have moved
        return overlay(own, values, str(config))
    model = model or (values.get("model") or {}).get("model") or cls().model.model
    recorded = model_environment(model)
    own = recorded.get("env") and kept(run_holding(model), recorded["env"])
    env = env or values.get("env") or own or cls().env
    algorithm = algorithm or values.get("algorithm") or Config.algorithm
    level = level or (values.get("env_args") or {}).get("level")
    preset = task_preset(env, model, algorithm, level)
    named = {"algorithm": algorithm} if cls is Config else {}
    base = overlay(cls(), {"env": env, "model": {"model": model}, **named}, "flags")
    if base.model.is_adapter:  # it is trained as it is
        for part in (preset, preset.get("sft", {})):
            part.get("model", {}).pop("lora_r", None)
    rank = lora_r or (values.get("model") or {}).get("lora_r")
    if base.model.is_adapter or str(rank or 0) != "0":  # adapters have a reference without a copy
        preset.get("model", {}).pop("ref_copy", None)
    base = overlay(base, command_preset(cls, preset), f"preset of {env}")
    if cls is EvalCommand and recorded.get("dtype"):  # as it was trained and evaluated
        base = overlay(base, {"model": {"dtype": recorded["dtype"]}}, ENVIRONMENT)
    return overlay(base, values, str(config))


def preset_of(config: Config, run: Path | None = None) -> Config:
    """The settings that today's preset gives for a run's task, model, algorithm and level, its adapters settled.

    run: the folder of a run that is there. Raises SpgError where the model or the preset cannot be read.
    """
    named = {"env": config.env, "model": config.model.model, "algorithm": config.algorithm}
    level = config.env_args.get("level")
    preset = defaults(Config, **named, lora_r=str(config.model.lora_r), level=level)
    return replace(preset, model=settle(preset.model, run))


def command_preset(cls: type[Command], preset: dict[str, Any]) -> dict[str, Any]:
    """The part of a training preset that a command has settings for."""
    sft = preset.pop("sft", {})
    if cls is Config:
        return preset
    sampling = preset_sampling(preset)
    chosen = {"env_args": preset.get("env_args", {}), "max_completion_length": sampling.max_completion_length}
    names = ("block_length", "tokens_per_step", "remasking")
    of_sft = {"temperature": preset["rollout"]["temperature"], **sft}  # habits are counted at RL's
    more = of_sft if cls is SftCommand else {name: getattr(sampling, name) for name in names}
    return {**chosen, **more}


def task_preset(env: str, model: str, algorithm: str = "", level: object = None) -> dict[str, Any]:
    """The preset for a task, under what the model's environment.json says if the model was made for that task.

    On top lies what an algorithm asks for: on every task, then on this one; and then the level of the task.
    """
    kind, recorded = preset_kind(model), model_environment(model)
    preset = load_preset(env, kind)
    sections, levels = preset.pop("algorithms", {}), preset.pop("levels", {})
    if task_name(str(recorded.get("env"))) == task_name(env):
        preset = merge(preset, {part: recorded.get(part) or {} for part in ("env_args", "rollout")})
    for section in (load_section(algorithm, kind), sections.get(algorithm, {})):
        sampling = preset_sampling(preset)
        preset = merge(preset, section)
        blocks = section.get("rollout", {})
        if "block_length" in blocks and "diffusion_steps" not in blocks:
            length = preset["rollout"]["max_completion_length"]
            steps = Sampling.at_rate(length, blocks["block_length"], sampling.tokens_per_step).diffusion_steps
            preset["rollout"]["diffusion_steps"] = steps
    return merge(preset, levels.get(str(level or preset.get("env_args", {}).get("level")), {}))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested mappings with others laid over it, key by key."""
    both = {
        key: merge(base[key], over[key]) if isinstance(over[key], Mapping) else over[key]
        for key in base.keys() & over.keys()
    }
    return {**base, **over, **both}


def preset_sampling(preset: Mapping[str, Any]) -> Sampling:
    """Greedy decoding at a preset's lengths."""
    return overlay(Sampling(), {**preset["rollout"], "temperature": 0.0}, f"preset or {ENVIRONMENT}")


def model_environment(model: str) -> dict[str, Any]:
    """What a model folder says of the environment it was made for; empty where it says nothing."""
    files = (Path(model) / ENVIRONMENT, Path(model) / "model" / ENVIRONMENT)
    file = next((file for file in files if file.is_file()), None)
    try:
        return dict(json.loads(file.read_text())) if file else {}
    except (ValueError, TypeError) as error:
        text = f"{file} is not a JSON object ({error}). Restore it, or remove it to use the presets."
        raise ConfigError(text) from error


def run_holding(path: str | Path) -> Path | None:
    """The run folder that a path is, or that holds it as its model, a checkpoint or a superseded one."""
    place = Path(path)
    if (place / CONFIG).is_file():
        return place
    above = list(place.resolve().parents)[:3] if place.is_dir() else []
    return next((p for p in above if (p / CONFIG).is_file() and (p / ENVIRONMENT).is_file()), None)


def task_record(command: Config | SftCommand, sampling: Sampling, **more: Any) -> dict[str, Any]:
    """What environment.json of a model says of the task it was made for; its temperature is not part of it."""
    lengths = {name: value for name, value in asdict(sampling).items() if name != "temperature"}
    made = {"preset": preset_kind(command.model.model), "rollout": lengths}
    return {"env": command.env, "env_args": dict(command.env_args), **more, **made}


def preset_kind(model: str) -> str:
    """Which presets suit a model: `tiny` for the embedded ones and what was made from them, else `llada`."""
    return "tiny" if model in ("tiny", "new") else model_environment(model).get("preset", "llada")


def to_yaml(config: Any) -> str:
    """The settings, nested as the dataclasses are; what `--config` reads."""
    return yaml.safe_dump(to_json(config), sort_keys=False, allow_unicode=True)


def read_yaml(path: str | Path, source: str = "--config") -> dict[str, Any]:
    """The settings in a YAML file, by their present names. source: what an error calls it."""
    problem, values = "", None
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except yaml.YAMLError as error:
        problem = f"not valid YAML ({' '.join(str(error).split())})"
    except UnicodeDecodeError:
        problem = "not a text file"
    if problem or not isinstance(values, dict):
        problem = problem or f"should hold `name: value` lines, as {CONFIG} of a run does"
        remedy = "Give a YAML file's path." if source == "--config" else "Restore it, or start a new run."
        raise ConfigError(f"{source} {path}: {problem}. {remedy}")
    for (part, old), new in RENAMED.items():
        nested = values.get(part)
        if isinstance(nested, dict) and old in nested:
            nested[new] = nested.pop(old)
    return values


def flatten(tree: Mapping[str, Any], ignore: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`, without the dotted names in `ignore`; an empty mapping leaves nothing."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name not in ignore:
            leaves |= flatten(value, ignore, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return leaves


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`seed was 3, now 4; ...` for all that differs, or nothing."""
    pairs = {name: (before.get(name), after.get(name)) for name in sorted(before.keys() | after.keys())}
    return "; ".join(f"{name} was {old!r}, now {new!r}" for name, (old, new) in pairs.items() if old != new)


def read_config(file: str | Path) -> Config:
    """The settings in a run's config.yaml, whichever version wrote it; ConfigError if they cannot be read."""
    config = overlay(Config(), read_yaml(file, "the run's"), str(file))
    m = config.model
    # Once these were the defaults, and the adapter's own dropout was used.
    if m.is_adapter and m.lora_r == 0 and m.lora_dropout == 0:
        config = replace(config, model=replace(m, lora_dropout=None))
    return config


def read_sft(file: str | Path) -> SftCommand:
    """The settings in a model's sft.yaml; ConfigError if they cannot be read."""
    return overlay(SftCommand(), read_yaml(file, "the model's"), str(file))


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


def overlay(base: T, values: Mapping[str, Any], source: str, path: str = "") -> T:
    """A copy of the dataclass `base` with nested `values` laid over it, or ConfigError; dicts are merged by key."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {path.rstrip('.')} should hold `name: value` lines, not {values!r}.")
    hints = get_type_hints(type(base))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{source}: unknown setting {path + str(key)!r}. {_nearest_setting(base, key)}")
        current = getattr(base, key)
        if is_dataclass(current):
            changes[key] = overlay(current, value, source, f"{path}{key}.")
        elif not isinstance(current, dict):
            changes[key] = _convert(value, hints[key], f"{source}: {path}{key}")
        elif isinstance(value, Mapping):
            changes[key] = {**current, **{str(name): item for name, item in value.items()}}
        else:
            raise ConfigError(f"{source}: {path}{key} should be a mapping of names to values, not {value!r}.")
    return replace(base, **changes)  # type: ignore[type-var]


def _nearest_setting(base: Any, key: str) -> str:
    known = {f.name: getattr(base, f.name) for f in fields(base)}
    for part, nested in known.items():
        if is_dataclass(nested) and hasattr(nested, str(key)):
            return f"Did you mean '{part}.{key}'?"
    return did_you_mean(key, known).rstrip() or f"Known: {', '.join(sorted(known))}."


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type: bool, int, float, str, Literal, optional, tuple, or a number or a word."""
    words: list[str | None] = []
    if get_origin(hint) in (Union, types.UnionType):  # `... | None`, or a number or a word
        hint, *others = get_args(hint)
        words = [word for other in others for word in get_args(other) or (None,)]
        if value in words:
            return value
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value in options:
            return value
        raise ConfigError(f"{where}={value!r}: should be one of {', '.join(map(str, options))}.")
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(item, options[0], where) for item in items)
    if hint is float and type(value) in (int, str):
        with suppress(ValueError):  # YAML 1.1 reads 1e-3 as text
            return float(value)
    if type(value) is hint:
        return value
    expected = " or ".join([hint.__name__, *filter(None, words)])
    raise ConfigError(f"{where}={value!r}: should be of type {expected}.")
