"""The content of environment.json: what a model was made for, from which base, with which versions."""

import platform
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any

from spg_trainer import __version__
from spg_trainer.settings.adapters import REFERENCE
from spg_trainer.settings.recorded import task_record
from spg_trainer.training.run import Run


def environment_record(run: Run) -> dict[str, Any]:
    """What environment.json holds."""
    if run.record is not None:
        return dict(run.record)
    kept = run.folder.path / REFERENCE  # may outlive what it was copied from
    model = replace(run.config.model, model=str(kept)) if kept.is_dir() else run.config.model
    made = replace(run.config, model=model)
    return {
        **task_record(made, run.config.rollout, origin=dict(run.splits["train"].origin)),
        "ends": run.algorithm.end_tokens,
        "dtype": str(run.policy.model.dtype).removeprefix("torch."),
        "base_model": run.policy.source,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages on which a result depends."""
    names = ("torch", "transformers", "accelerate", "peft", "numpy", "numba", "gymnasium")
    ours = {"python": platform.python_version(), "spg-trainer": __version__}
    return ours | {name: installed(name) for name in names}


@cache
def installed(package: str) -> str:
    """The version of a package. It is kept, as looking it up takes as long as writing a small checkpoint."""
    return version(package)
