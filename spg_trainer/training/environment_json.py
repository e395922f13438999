"""Composes a model's environment.json: the task that it was trained for, its base model, and versions."""

import platform
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any

from spg_trainer import __version__
from spg_trainer.settings.lora import REFERENCE_FOLDER
from spg_trainer.settings.recorded import task_record
from spg_trainer.settings.rows_arguments import task_arguments
from spg_trainer.training.run import Run


def environment_record(run: Run) -> dict[str, Any]:
    """The content of environment.json for a model that this run writes."""
    config, model, own_copy = run.config, run.config.model, run.folder.path / REFERENCE_FOLDER
    if own_copy.is_dir():  # the folder that --model named may be deleted before the run is
        model = replace(model, model=str(own_copy))
    origin = dict(run.splits["train"].origin)
    return {
        **task_record(config.env, task_arguments(config), model, config.rollout, origin=origin),
        "ends": run.algorithm.end_tokens,
        "dtype": str(run.policy.model.dtype).removeprefix("torch."),
        "base_model": run.policy.source,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages on which a result depends."""
    packages = ("torch", "transformers", "accelerate", "peft", "numpy", "numba", "gymnasium")
    python_and_ours = {"python": platform.python_version(), "spg-trainer": __version__}
    return python_and_ours | {package: installed(package) for package in packages}


@cache
def installed(package: str) -> str:
    """The version of an installed package; cached, since looking it up takes as long as writing a small checkpoint."""
    return version(package)
