"""What a run pins when it begins, and what it refuses when it goes on: other settings than these, and changed files."""

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any

from spg_trainer import algorithms
from spg_trainer.errors import ConfigError
from spg_trainer.runs.inputs import (
    MODEL,
    TASK_COPIES,
    Input,
    Inputs,
    file_settings,
    find_inputs,
    hash_of_model,
    name_files,
    read_inputs,
)
from spg_trainer.settings.configs import Config
from spg_trainer.settings.model import REFERENCE_FOLDER, find_adapter, settle_adapters
from spg_trainer.settings.recorded import record_of
from spg_trainer.settings.types import flatten, plain, replace_nested
from spg_trainer.settings.weights import resolve_model

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
        content = Path(entry.path).name if entry.copy else entry.sha256
        settings = {
            name: value.replace(entry.path, content) if isinstance(value, str) else value
            for name, value in settings.items()
        }
    return settings


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`seed was 3, now 4; ...` for all settings that differ; "" if none does."""
    pairs = {name: (before.get(name), after.get(name)) for name in sorted(before.keys() | after.keys())}
    return "; ".join(f"{name} was {old!r}, now {new!r}" for name, (old, new) in pairs.items() if old != new)


def refuse_changed(run: Path, what: str, before: str, now: str, go_on: str = "put the old one back.") -> None:
    """Raises ConfigError if a file, data set or package that a run began with has changed, by its hash or version.

    go_on: how the run can go on with the old one.
    """
    if before != now:
        raise ConfigError(
            f"{what} has changed since {run} began: it was {before}, now it is {now}. To go on, {go_on} To train on "
            "the new one, start a new run with another $output_dir."
        )


def refuse_changed_files(run: Path, inputs: Inputs, *, accept_code: bool) -> None:
    """Raises ConfigError for an input that has changed since a run began; `accept_code`: unless it is code."""
    before = read_inputs(run)
    for name in sorted(before.keys() & inputs.keys()):
        old, now = f"sha256 {before[name].sha256}", f"sha256 {inputs[name].sha256}"
        if not before[name].copy:
            refuse_changed(run, inputs[name].path, old, now)
        elif not accept_code:
            # No setting names a module beside a file.
            or_name_it = "" if "/" in name else ", or name this copy"
            go_on = (
                f"put back the old one, of which {run / before[name].copy} is a copy{or_name_it}. To go on with the "
                "file as it is now, such as one that you repaired: $accept_changed_code."
            )
            refuse_changed(run, inputs[name].path, old, now, go_on)


def changed_settings(
    run: Path, before: Config, pinned: Config, inputs: Inputs, may_change: Collection[str] = MAY_CHANGE
) -> str:
    """The `differences` between the settings that a run had before and `pinned`; "" if they are settings of one run.

    inputs: those of `pinned`. may_change: the settings that may differ.
    """
    # A run that an older version began lacks the hyper-parameters that were added since.
    defaults = {field.name: field.default for field in fields(algorithms.get(pinned.algorithm))}
    added = {
        name: defaults[name] for name in pinned.algorithm_args if defaults.get(name, MISSING) is not MISSING
    }
    before = replace(before, algorithm_args={**added, **before.algorithm_args})
    recorded = identity(before, read_inputs(run), may_change)
    current = identity(pinned, inputs, may_change)
    # A setting may now name the commit that the run has used all along: `data` was `ORG/NAME`, and is now
    # `ORG/NAME@COMMIT`.
    commits = (record_of(run).get("origin") or {}).values()
    for name, value in current.items():
        if str(value).removeprefix(f"{recorded.get(name)}@") in commits:
            current[name] = recorded.get(name)
    return differences(recorded, current)


def refuse_other_settings(
    run: Path, before: Config, pinned: Config, inputs: Inputs, may_change: Collection[str] = MAY_CHANGE
) -> None:
    """Raises ConfigError if there are `changed_settings`."""
    if changed := changed_settings(run, before, pinned, inputs, may_change):
        raise ConfigError(
            f"{run} is a run of other settings: {changed}. Resume it with its own ($max_steps, $max_minutes, "
            "$patience, $per_device_batch_size and what is logged or kept may change), or use another $output_dir, "
            f"with $model {shlex.quote(str(run))} to train its weights further."
        )


def refuse_another(run: Path, before: Config, pinned: Config) -> dict[str, Input]:
    """The inputs of a run that goes on with `pinned`. Raises ConfigError if settings, data or code differ from those
    that the run had `before`, or began with; with `accept_changed_code`, code may differ.
    """
    recorded, inputs = read_inputs(run), find_inputs(file_settings(pinned))
    model = inputs.get(MODEL)
    if model and (run / REFERENCE_FOLDER).is_dir() and model.sha256 != recorded.get(MODEL, model).sha256:
        del inputs[MODEL]  # the run opens its own copy of the weights, not the changed folder
    refuse_changed_files(run, inputs, accept_code=pinned.output.accept_changed_code)
    inputs = {**recorded, **inputs}
    refuse_other_settings(run, before, pinned, inputs)
    return inputs


def refuse_changed_hub(run: Path, origin: Mapping[str, str]) -> None:
    """Raises ConfigError if a data set on the hub, or a package of tasks, has changed since a run began.

    origin: {data set: its commit, or a hash of its rows; package: its version} of the environment as it is now. Files
    are checked by `refuse_changed_files`.
    """
    before = record_of(run).get("origin") or {}
    for name in before.keys() & origin.keys():
        if re.fullmatch("[0-9a-f]{40}", before[name]):  # a commit
            go_on = f"name what it was: $env_args revision={before[name]}, or $data={name}@{before[name]}."
            refuse_changed(run, name, before[name], origin[name], go_on)
        elif not before[name].startswith("sha256"):
            refuse_changed(run, name, before[name], origin[name])


def refuse_changed_base(model: str, run: Path | None) -> None:
    """Raises ConfigError if `model` is an adapter, and the weights that it was trained on have changed.

    run: that of the model, None if it is of none. Nothing is known of a run that began from another adapter, whose hash
    is recorded in place of its base's.
    """
    trained_on = read_inputs(run).get(MODEL) if run else None
    if trained_on is None or not Path(trained_on.path).is_dir() or find_adapter(trained_on.path):
        return
    weights = resolve_model(model)
    if weights.adapter and weights.is_local and (now := hash_of_model(weights.base)) != trained_on.sha256:
        raise ConfigError(
            f"{model} holds an adapter, and its base {weights.base} has changed since the adapter was trained: its "
            f"sha256 was {trained_on.sha256}, now it is {now}. Put the old weights back, or name a copy of them in "
            f"{weights.adapter / 'adapter_config.json'}, at base_model_name_or_path."
        )


def task_code_differs(before: Inputs, now: Inputs) -> bool:
    """Whether code of a task or of a reward has changed, so that a completion may now earn another reward."""
    task_code = [name for name, entry in before.items() if entry.copy.startswith(TASK_COPIES)]
    return any(name in now and now[name].sha256 != before[name].sha256 for name in task_code)
