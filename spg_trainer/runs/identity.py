"""What makes a run the run it is: which of its settings may change when it is resumed, and what else has changed."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from spg_trainer import algorithms
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.runs.files import read_json
from spg_trainer.runs.own_code import canonical, kept_if_gone, without_pins
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.fields import Config
from spg_trainer.settings.places import absolute
from spg_trainer.settings.recorded import ENVIRONMENT, read_config
from spg_trainer.settings.values import flatten, plain

MAY_CHANGE = frozenset(
    "max_steps max_minutes timeout_minutes config dry_run gpu processes link force overlong eval.eval_steps "
    "eval.patience "
    "output.output_dir output.resume output.save_steps output.keep output.sample_steps output.report output.track "
    "batch.per_device_batch_size model.shard".split()
)
"""Settings that may change on resume: how long, what is shown and kept, and where it runs."""


def identity(config: Config, run: Path, ignore: Collection[str] = MAY_CHANGE) -> dict[str, Any]:
    """The settings of a run by dotted name, without those that may change on resume.

    Adapters and hyper-parameters count as they are trained. The folder `run` may hold the only copy of the adapter that
    it started from, and of the files of its environment and algorithm.
    """
    config = absolute(config, read_json(run / ENVIRONMENT) or {})
    algorithm = algorithms.build(kept_if_gone(run, config).algorithm, config.hyper_parameters)
    settled = replace(config, model=settle(config.model, run), algorithm_args=asdict(algorithm))
    return flatten(plain(canonical(run, settled)), ignore)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`seed was 3, now 4; ...` for all that differs, or nothing."""
    pairs = {name: (before.get(name), after.get(name)) for name in sorted(before.keys() | after.keys())}
    return "; ".join(f"{name} was {old!r}, now {new!r}" for name, (old, new) in pairs.items() if old != new)


def refuse_changes(file: Path, config: Config, ignore: Collection[str] = MAY_CHANGE) -> None:
    """Raises if the settings in a run's config.yaml differ from `config` where they may not."""
    try:
        before = read_config(file)
    except ConfigError as error:
        text = f"{file} cannot be read as settings ({error}). Start a new run with another --output-dir."
        raise CheckpointError(text) from error
    own, given = (identity(one, file.parent, ignore) for one in (before, config))
    given = without_pins(file.with_name(ENVIRONMENT), own, given)
    if changed := differences(own, given):
        raise ConfigError(
            f"{file.parent} is a run of other settings: {changed}. Resume it with its own (--max-steps, --max-minutes, "
            "--per-device-batch-size and what is logged or kept may change), or use another --output-dir."
        )
