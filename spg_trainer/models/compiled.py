"""Layers which torch compiles for passes without a cache (`--compile`). Fused kernels round otherwise."""

import shutil
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from spg_trainer.errors import ConfigError
from spg_trainer.models.states import base_model


def compile_layers(model: nn.Module, backend: Any = "inductor") -> None:
    """Compiles the layers of a model where they are alike, for any number of rows and columns, in place.

    The first layer stays as it is, whose input has no gradient where the embedding is frozen, and the last one, which
    computes some columns only. So a run compiles four times: with autograd and without, with a mask and without; and as
    often for passes of a single row.

    Raises ConfigError where there is no compiler.
    """
    base = base_model(model)
    if missing := missing_compiler(base.device):
        raise ConfigError(f"$compile needs {missing}, and there is none. Install it, or leave out $compile.")
    for layer in base.base_model.layers[1:-1]:
        layer.compile(dynamic=True, backend=backend)
    base.base_model.is_compiled = True


def missing_compiler(device: torch.device) -> str:
    """The program that torch needs to compile for a device, if it is not installed; empty if it is."""
    if device.type == "cpu":
        has_compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
        return "" if has_compiler else "a C++ compiler on a CPU"
    return "" if find_spec("triton") else "triton on a GPU"
