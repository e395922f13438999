"""What makes a run the run it is: which of its settings may change when it is resumed, and what else has changed."""

import shlex
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from spg_trainer import algorithms
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.runs.own_code import canonical, kept_if_gone, without_pins
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.fields import Config, SftCommand
from spg_trainer.settings.places import absolute
from spg_trainer.settings.recorded import ENVIRONMENT, read_config, record_of
from spg_trainer.settings.values import flatten, plain

SFT_MAY_CHANGE = frozenset(
    "steps eval.patience rollout.temperature overlong batch.per_device_batch_size output.output_dir output.resume "
    "output.accept_changed_code config timeout_minutes output.report output.track model.shard model.ref_copy".split()
)
"""Those of `sft`, as far as its learning rate lets `steps` and `eval.patience` change; it has no reference to copy."""
MAY_CHANGE = frozenset(
    "max_steps max_minutes timeout_minutes config dry_run gpu processes link force overlong eval.eval_steps "
    "eval.patience "
    "output.output_dir output.resume output.accept_changed_code output.save_steps output.keep output.sample_steps "
    "output.report output.track "
    "batch.per_device_batch_size model.shard".split()
)
"""Settings that may change on resume: how long, what is shown and kept, and where it runs."""


def identity(
    config: Config | SftCommand,
    run: Path,
    ignore: Collection[str] | None = None,
    algorithm: algorithms.Algorithm | None = None,
) -> dict[str, Any]:
    """The settings of a run by dotted name, without those that may change on resume (`ignore`, if they are others).

    Adapters and hyper-parameters count as they are trained. The folder `run` may hold the only copy of the adapter that
    it started from, and of the files of its environment and algorithm. algorithm: what the settings name, where it has
    been built before.
    """
    config = absolute(config, record_of(run))
    if isinstance(config, SftCommand):
        return flatten(plain(config), SFT_MAY_CHANGE if ignore is None else ignore)
    if algorithm is None:
        algorithm = algorithms.build(kept_if_gone(run, config).algorithm, config.hyper_parameters)
    settled = replace(config, model=settle(config.model, run), algorithm_args=asdict(algorithm))
    return flatten(plain(canonical(run, settled)), MAY_CHANGE if ignore is None else ignore)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`seed was 3, now 4; ...` for all that differs, or nothing."""
    pairs = {name: (before.get(name), after.get(name)) for name in sorted(before.keys() | after.keys())}
    return "; ".join(f"{name} was {old!r}, now {new!r}" for name, (old, new) in pairs.items() if old != new)


def refuse_changes(
    file: Path,
    config: Config | SftCommand,
    ignore: Collection[str] | None = None,
    *,
    algorithm: algorithms.Algorithm | None = None,
    record: Path | None = None,
) -> None:
    """Raises if the settings in a run's config.yaml, or sft.yaml, differ from `config` where they may not.

    algorithm: that of `config`, where it has been built before. record: the environment.json that says which data sets
    the run began with; None = that beside the file.
    """
    try:
        before = read_config(file, type(config))
    except ConfigError as error:
        text = f"{file} cannot be read as settings ({error}). Start a new run with another --output-dir."
        raise CheckpointError(text) from error
    is_same = isinstance(config, Config) and (
        (before.algorithm, before.hyper_parameters) == (config.algorithm, config.hyper_parameters)
    )
    recorded = identity(before, file.parent, ignore, algorithm if is_same else None)
    current = identity(config, file.parent, ignore, algorithm)
    if current["model.model"] == str(Path(before.model.model).expanduser().resolve()):
        recorded["model.model"] = current[
            "model.model"
        ]  # who names the folder here, where another is at the start, chose it
    current = without_pins(record or file.with_name(ENVIRONMENT), recorded, current)
    if not (changed := differences(recorded, current)):
        return
    advice = (
        "Resume it with its own (--max-steps, --max-minutes, --per-device-batch-size and what is logged or kept may "
        "change), or use another --output-dir"
    )
    if isinstance(config, SftCommand):
        advice = f"Leave them out, or {second_stage(file.parent)}"
    raise ConfigError(f"{file.parent} is a run of other settings: {changed}. {advice}.")


def second_stage(folder: Path) -> str:
    """What to do in place of going on with a model of `sft`."""
    return f"train a second stage from its weights: --model {shlex.quote(str(folder))} --output-dir ANOTHER"
