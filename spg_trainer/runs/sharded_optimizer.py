"""Writes and reads the optimizer's state of a sharded model. Each process writes its part; any number can read it.

torch.distributed.checkpoint records every tensor by name (here PARAMETER/exp_avg and the like), and where its parts
lie.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from spg_trainer.distributed import raised_by_all
from spg_trainer.errors import CheckpointError
from spg_trainer.models.states import trainable_parameters

if TYPE_CHECKING:
    from torch import Tensor, nn


def save_sharded_optimizer(folder: Path, model: "nn.Module", optimizer_state: Mapping[str, Any]) -> None:
    """Writes an optimizer's state; all processes must call this. Raises CheckpointError on all of them if one cannot
    write its part.
    """
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    names = list(trainable_parameters(model))
    named = {
        f"{names[number]}/{key}": value
        for number, entry in optimizer_state["state"].items()
        for key, value in entry.items()
    }
    try:
        dcp.save(named, checkpoint_id=folder)
    except CheckpointException as error:  # a BaseException, which no `except Exception` would catch
        process, (reason, _) = next(iter(error.failures.items()))
        raise raised_by_all(
            CheckpointError(
                f"Process {process} cannot write {folder}: {reason}. What was saved before is untouched: free space or "
                "fix the permissions and continue with $resume."
            )
        ) from error


def load_sharded_optimizer(folder: Path, model: "nn.Module") -> dict[int, dict[str, Any]]:
    """The `state` of an optimizer's state_dict, with this process's part of each tensor, without communication.

    Raises KeyError, RuntimeError or OSError for a state that is missing or does not fit.
    """
    from torch.distributed import checkpoint as dcp

    reader, parameters = dcp.FileSystemReader(folder), trainable_parameters(model)
    numbers = {name: number for number, name in enumerate(parameters)}
    wanted: dict[str, Tensor] = {}
    saved: Any
    for key, saved in reader.read_metadata().state_dict_metadata.items():
        name, _, _ = key.rpartition("/")
        parameter, dtype = parameters[name], saved.properties.dtype
        if saved.size == parameter.shape:
            wanted[key] = torch.zeros_like(parameter, dtype=dtype)  # divided like the parameter
        else:
            wanted[key] = torch.zeros(saved.size, dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # as intended
        dcp.load(wanted, storage_reader=reader, no_dist=True)
    state: dict[int, dict[str, Any]] = {}
    for key, value in wanted.items():
        name, _, field = key.rpartition("/")
        state.setdefault(numbers[name], {})[field] = value
    return state
