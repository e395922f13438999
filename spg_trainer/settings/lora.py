"""Fills in ("settles") the rank, scale (alpha) and dropout of a run's LoRA adapters; begin here to follow LoRA.

The rank of new adapters is --lora-r (`ModelConfig.lora_r` in model.py), from the user or from a recipe; an adapter that
--model names keeps its own rank. Scale and dropout may be left open (`--lora-alpha` unset): their values then depend on
whether the adapters are new or come from a folder. A run and its config.yaml have the settled numbers. Which layers
have adapters is in architecture/lora_layers.py; models/lora.py makes, loads and merges them. No torch is imported here.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.weights import is_embedded

Model = TypeVar("Model", bound=ModelConfig)

REFERENCE_FOLDER = "reference"
"""The folder, in a run's folder, with a copy of the weights or the adapter that the run started from. Only runs whose
reference model needs such a copy have this folder."""


def settle_adapters(settings: Model, run: Path | None = None) -> Model:
    """The settings with rank, scale and dropout filled in; those that are set stay as they are.

    New adapters get the alpha of `default_alpha` and no dropout. If --model is an adapter, it keeps its rank and alpha,
    and its dropout unless one is set. run: the run that is continued; its copy of the adapter, if it has one, is read
    in place of --model, which may be gone. Raises ConfigError if a rank or alpha is set that is not the adapter's, or
    layers are, and ModelError for an adapter that cannot be read.
    """
    folder = find_adapter(settings.model)
    if run and (run / REFERENCE_FOLDER / "adapter_config.json").is_file():
        folder = run / REFERENCE_FOLDER
    if folder is None:
        alpha = settings.lora_alpha
        if alpha is None and settings.lora_r:
            alpha = default_alpha(settings.lora_r)
        # The reference of new adapters is the model without them, which needs no copy. All weights (rank 0) need one.
        settled = without_idle_copy(settings, needed=not settings.lora_r)
        return replace(settled, lora_alpha=alpha, lora_dropout=settings.lora_dropout or 0.0)
    rank, alpha, dropout = read_adapter(folder)
    rank_set = settings.lora_r or None  # --lora-r 0 is the default and sets nothing
    for flag, setting, recorded in (("$lora_r", rank_set, rank), ("$lora_alpha", settings.lora_alpha, alpha)):
        if setting not in (None, recorded):
            text = f"{flag}={setting}: {folder} already is an adapter, of rank {rank} and alpha {alpha}"
            raise ConfigError(f"{text}. Leave it out, or train fresh adapters on a whole model.")
    if settings.lora_targets != ("all",):
        names = " ".join(settings.lora_targets)
        raise ConfigError(
            f"$lora_targets={names}: {folder} already is an adapter, whose layers are fixed. Leave it out, or train "
            "fresh adapters on a whole model."
        )
    if settings.lora_dropout is not None:
        dropout = settings.lora_dropout
    # `ref_copy` is for all weights; a run that trains a loaded adapter always keeps a copy of the adapter.
    settled = without_idle_copy(settings, needed=False)
    return replace(settled, lora_r=rank, lora_alpha=alpha, lora_dropout=dropout)


def without_idle_copy(settings: Model, *, needed: bool) -> Model:
    """The settings without `ref_copy` (a copy of all start weights), unless the copy is `needed`."""
    return replace(settings, ref_copy=settings.ref_copy and needed)


def find_adapter(model: str) -> Path | None:
    """The folder of the LoRA adapter that --model names, directly or by its run folder; None for any other model."""
    # A name such as `tiny:block` means an embedded or new model, even if a folder has that name.
    if is_embedded(model, "tiny", "new"):
        return None
    folder = Path(model).expanduser()
    for place in (folder, folder / "model"):
        if (place / "adapter_config.json").is_file():
            return place
        if (place / "config.json").is_file():  # a whole model; an adapter in one of its folders is not meant
            return None
    return None


def trains_adapters(settings: ModelConfig) -> bool:
    """Whether adapters are trained (new ones, or those that --model names) rather than all weights."""
    return settings.lora_r > 0 or find_adapter(settings.model) is not None


def default_alpha(rank: int) -> int:
    """Half the rank, rounded up: d1 and SPG train with alpha 64 and rank 128."""
    return (rank + 1) // 2


def read_adapter(folder: Path) -> tuple[int, int, float]:
    """Rank, alpha and dropout from the adapter_config.json in `folder`; ModelError if one is missing or impossible."""
    file = folder / "adapter_config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        rank, alpha, dropout = values["r"], values["lora_alpha"], float(values["lora_dropout"])
        are_whole = all(value == int(value) and value >= 1 for value in (rank, alpha))
        if not are_whole or not 0 <= dropout < 1:
            raise ValueError(f"r {rank}, lora_alpha {alpha}, lora_dropout {dropout}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"{file} is not that of a LoRA adapter ({type(error).__name__}: {error})"
        raise ModelError(
            f"{text}; it needs whole r and lora_alpha of at least 1 and lora_dropout in [0, 1); restore it"
        ) from error
    return int(rank), int(alpha), dropout
