"""What makes a run the run it is: which of its settings may change when it is resumed, and what else has changed."""

import shlex
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from spg_trainer import algorithms
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.runs.own_code import (
    canonical,
    kept_if_gone,
    refuse_changed_data,
    refuse_changed_files,
    without_pins,
)
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.fields import Config, SftCommand
from spg_trainer.settings.places import absolute
from spg_trainer.settings.recorded import read_config, record_of, settings_file
from spg_trainer.settings.values import flatten, plain

_IN_BOTH = frozenset(
    "config overlong timeout_minutes batch.per_device_batch_size eval.patience model.rollout_graphs model.shard "
    "output.accept_changed_code output.output_dir output.report output.resume output.track".split()
)
MAY_CHANGE = _IN_BOTH.union(
    "max_steps max_minutes dry_run force gpu link processes eval.eval_steps output.keep output.sample_steps "
    "output.save_steps".split()
)
"""Settings of a training that may change on resume: how long, what is shown and kept, and where it runs."""
SFT_MAY_CHANGE = _IN_BOTH.union("steps model.ref_copy rollout.temperature".split())
"""Those of `sft`, but with --patience 0 neither the patience nor the steps; it has no reference to copy."""


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


def refuse_another(
    run: Path, config: Config | SftCommand, algorithm: algorithms.Algorithm | None = None
) -> None:
    """Raises SpgError where a run shall go on with other settings, data or code than it began with.

    With `accept_changed_code` the code may be another. run: the folder of a training or of `sft`. algorithm: that of
    `config`, where it has been built before.
    """
    refuse_changes(run / settings_file(config), config, algorithm=algorithm)
    # `sft` keeps no copies of files to compare with.
    if isinstance(config, Config) and not config.output.accept_changed_code:
        refuse_changed_files(run, config)
    refuse_changed_data(run, config)


def refuse_changes(
    file: Path,
    config: Config | SftCommand,
    ignore: Collection[str] | None = None,
    *,
    algorithm: algorithms.Algorithm | None = None,
) -> None:
    """Raises if the settings in a run's config.yaml, or sft.yaml, differ from `config` where they may not.

    ignore: those that may differ, None = those above. algorithm: that of `config`, where it has been built before.
    """
    try:
        before = read_config(file, type(config))
    except ConfigError as error:
        text = f"{file} cannot be read as settings ({error}). Start a new run with another --output-dir."
        raise CheckpointError(text) from error
    is_sft = isinstance(config, SftCommand)
    # With --patience 0 the learning rate is a cosine, which is of one length only.
    if is_sft and not (before.eval.patience and config.eval.patience):
        ignore = SFT_MAY_CHANGE - {"steps", "eval.patience"}
    is_same = not is_sft and (
        (before.algorithm, before.hyper_parameters) == (config.algorithm, config.hyper_parameters)
    )
    recorded = identity(before, file.parent, ignore, algorithm if is_same else None)
    current = identity(config, file.parent, ignore, algorithm)
    if current["model.model"] == str(Path(before.model.model).expanduser().resolve()):
        recorded["model.model"] = current[
            "model.model"
        ]  # who names the folder here, where another is at the start, chose it
    current = without_pins(file.parent, recorded, current)
    if not (changed := differences(recorded, current)):
        return
    advice = (
        "Resume it with its own (--max-steps, --max-minutes, --per-device-batch-size and what is logged or kept may "
        "change), or use another --output-dir"
    )
    if is_sft:
        advice = f"Leave them out, or {second_stage(file.parent)}"
    raise ConfigError(f"{file.parent} is a run of other settings: {changed}. {advice}.")


def second_stage(folder: Path) -> str:
    """What to do in place of going on with a model of `sft`."""
    return f"train a second stage from its weights: --model {shlex.quote(str(folder))} --output-dir ANOTHER"
