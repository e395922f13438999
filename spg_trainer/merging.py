"""`merge`: an adapter worked into the weights below it."""

import sys
from dataclasses import replace
from pathlib import Path

from spg_trainer.errors import ConfigError
from spg_trainer.models.source import resolve_model
from spg_trainer.runs.checkpoint import export
from spg_trainer.settings.fields import MergeCommand
from spg_trainer.settings.sources import model_environment

MERGED = "merged"


def merge(command: MergeCommand) -> None:
    """Writes the whole model. Raises ConfigError for a source without an adapter, and for a folder that is taken."""
    if not command.source:
        raise ConfigError("Nothing to merge. Give a run or the folder of an adapter, e.g. runs/NAME.")
    source = resolve_model(command.source)
    if source.adapter is None:
        raise ConfigError(
            f"{command.source} holds no adapter: there is nothing to merge. Give a run of --lora-r, or a folder with "
            "adapter_config.json; whole weights are used as they are."
        )
    target = Path(command.output or source.adapter.resolve().parent / MERGED)
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise ConfigError(f"{target} is taken. Choose a folder that is new or empty with --output.")
    recorded = model_environment(str(source.adapter))
    dtype = recorded.get("dtype", "float32") if command.dtype == "auto" else command.dtype

    import torch

    from spg_trainer.models.load import load_model

    policy = load_model(str(source.adapter), dtype="float32", device="cpu", revision=command.revision)
    whole = policy.model.merge_and_unload().to(getattr(torch, dtype))
    advice = "Free space, fix the permissions, or choose another --output."
    export(target, replace(policy, model=whole), {**recorded, "dtype": dtype}, advice=advice)
    sys.stdout.write(f"{target}\n")
