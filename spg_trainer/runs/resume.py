"""What a run that is resumed refuses: all settings but `MAY_CHANGE` must be those that were pinned when it began."""

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any

from spg_trainer import algorithms
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.runs.inputs import (
    Input,
    Inputs,
    file_settings,
    is_code,
    name_files,
    read_inputs,
    refuse_changed_inputs,
)
from spg_trainer.settings.configs import Config
from spg_trainer.settings.model import settle_adapters
from spg_trainer.settings.recorded import CONFIG, read_config, record_of
from spg_trainer.settings.types import flatten, plain, replace_nested

MAY_CHANGE = frozenset(
    "config overlong timeout_minutes batch.per_device_batch_size eval.patience model.rollout_graphs model.shard "
    "model.sequence_parallel output.accept_changed_code output.output_dir output.report output.resume output.track "
    "max_steps max_minutes dry_run force gpu processes rollout_engine eval.eval_steps eval.keep_worse output.keep "
    "output.sample_rows output.sample_steps output.save_minutes output.save_steps "
    "model.expert_parallel".split()
)
"""Settings that may change on resume: how long the run takes, what is shown and kept, and where it runs."""


def pin(config: Config, algorithm: algorithms.Algorithm, run: Path | None = None) -> Config:
    """The settings as a run records them: with all hyper-parameters, with absolute paths, and with rank, scale and
    dropout of the adapters filled in (`settle_adapters`).

    Settings that are pinned already stay as they are. algorithm: made from `config`. run: the run that goes on.
    """
    config = with_absolute_paths(config)
    return replace(config, model=settle_adapters(config.model, run), algorithm_args=asdict(algorithm))


def with_absolute_paths(config: Config) -> Config:
    """The settings with absolute paths of files, and with code named by its file (`inputs.name_files`)."""
    return replace_nested(config, name_files(file_settings(config)).texts)


def identity(pinned: Config, inputs: Inputs, may_change: Collection[str] = MAY_CHANGE) -> dict[str, Any]:
    """{dotted name: setting} of all settings that tell one run from another.

    Files may be moved during a run, so paths do not count: a path of data or of a model is replaced by the hash of its
    content, and a path of code by the name of its file. may_change: the settings that are left out.
    """
    settings = flatten(plain(pinned), may_change)
    for entry in inputs.values():
        content = Path(entry.path).name if is_code(entry.path) else entry.sha256
        settings = {
            name: value.replace(entry.path, content) if isinstance(value, str) else value
            for name, value in settings.items()
        }
    return settings


def recorded_identity(
    run: Path, before: Config, inputs: Inputs, may_change: Collection[str] = MAY_CHANGE
) -> dict[str, Any]:
    """The `identity` of the settings that a run had before, to be compared with the present one.

    inputs: the present ones. Older versions recorded code by its module or its id, and no hash of it. Here it is named
    by its file, as it is now.
    """
    return identity(with_absolute_paths(before), {**inputs, **read_inputs(run)}, may_change)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`seed was 3, now 4; ...` for all settings that differ; "" if none does."""
    pairs = {name: (before.get(name), after.get(name)) for name in sorted(before.keys() | after.keys())}
    return "; ".join(f"{name} was {old!r}, now {new!r}" for name, (old, new) in pairs.items() if old != new)


def settings_before(run: Path) -> Config:
    """The settings in config.yaml of a run that goes on; CheckpointError if they cannot be read."""
    file = run / CONFIG
    try:
        return read_config(file)
    except ConfigError as error:
        text = f"{file} cannot be read as settings ({error}). Start a new run with another $output_dir."
        raise CheckpointError(text) from error


def refuse_another(run: Path, before: Config, pinned: Config) -> dict[str, Input]:
    """The inputs (`inputs.py`) of a run that goes on. Raises SpgError if settings, data or code differ from those that
    the run began with, or had `before`; with `accept_changed_code`, code may differ.
    """
    inputs = refuse_changed_inputs(run, file_settings(pinned), pinned.output.accept_changed_code)
    refuse_other_settings(run, before, pinned, inputs)
    return inputs


def refuse_other_settings(
    run: Path, before: Config, pinned: Config, inputs: Inputs, may_change: Collection[str] = MAY_CHANGE
) -> None:
    """Raises SpgError if `pinned` differs from the settings that a run had before.

    may_change: the settings that may differ.
    """
    # A run that an older version began lacks the hyper-parameters that were added since.
    defaults = {field.name: field.default for field in fields(algorithms.get(pinned.algorithm))}
    added = {
        name: defaults[name] for name in pinned.algorithm_args if defaults.get(name, MISSING) is not MISSING
    }
    before = replace(before, algorithm_args={**added, **before.algorithm_args})
    recorded = recorded_identity(run, before, inputs, may_change)
    current = identity(pinned, inputs, may_change)
    changed = differences(recorded, {**current, **pinned_commits(run, recorded, current)})
    if not changed:
        return
    raise ConfigError(
        f"{run} is a run of other settings: {changed}. Resume it with its own ($max_steps, $max_minutes, $patience, "
        "$per_device_batch_size and what is logged or kept may change), or use another $output_dir, with $model "
        f"{shlex.quote(str(run))} to train its weights further."
    )


def pinned_commits(run: Path, recorded: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """{dotted name: recorded value} of settings that now also name the commit that the run has used all along.

    E.g. `data` was `ORG/NAME`, of which the run has used commit `abc`, and is now `ORG/NAME@abc`. Such a setting counts
    as unchanged.
    """
    commits = (record_of(run).get("origin") or {}).values()
    return {
        name: before
        for name, value in current.items()
        for before in [recorded.get(name)]
        if (name.endswith("revision") and before is None and value in commits)
        or (name == "data" and value in [f"{before}@{commit}" for commit in commits])
    }


def refuse_changed_hub(run: Path, origin: Mapping[str, str]) -> None:
    """Raises ConfigError if a data set on the hub, or a package of tasks, has changed since a run began.

    origin: {data set: its commit, or a hash of its rows; package: its version} of the environment as it is now. Files
    are checked by `refuse_changed_inputs`.
    """
    before = record_of(run).get("origin") or {}
    for name in before.keys() & origin.keys():
        old, now = before[name], origin[name]
        is_file = old.startswith("sha256")
        if old == now or is_file:
            continue
        source = f"The data set {name} on the hub"
        if re.fullmatch("[0-9a-f]{40}", old):  # a commit
            way_back = (
                f"To go on with what it was: $env_args revision={old} (of the test set of math500 test_revision, of "
                f"several tasks TASK.revision), or with $data={name}@{old}."
            )
        elif old.startswith("version "):
            source, way_back = f"The package {name}", "Install that version again to go on."
        else:  # a hash of its rows
            way_back = f"To go on, put the old data back; {old} is no commit, so they cannot be fetched."
        raise ConfigError(
            f"{source} has changed since {run} began: it was {old}, now it is {now}. {way_back} To train on it as "
            "it is now, start a new run with another $output_dir."
        )
