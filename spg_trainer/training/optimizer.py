"""AdamW as the settings have it, and the learning rate of its next step."""

import shutil
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from spg_trainer.errors import ConfigError
from spg_trainer.settings.fields import OptimizerConfig


def make_optimizer(o: OptimizerConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """torch's AdamW, or torchao's with moments of 8 bits.

    Raises ConfigError where that is not installed or cannot run.
    """
    trained = list(parameters)
    rates: dict[str, Any] = {
        "lr": o.learning_rate,
        "betas": (0.9, o.adam_beta2),
        "weight_decay": o.weight_decay,
    }
    if o.adam_moments == "float32":
        return torch.optim.AdamW(trained, **rates)
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        text = f"--adam-moments 8bit is torchao's, which cannot be imported here ({error})"
        raise ConfigError(f"{text}. `pip install torchao`, or use --adam-moments float32.") from error
    on_cpu = trained[0].device.type == "cpu"
    if not (any(map(shutil.which, ("c++", "g++", "clang++"))) if on_cpu else find_spec("triton")):
        needs = "a C++ compiler on a CPU" if on_cpu else "triton on a GPU"
        text = f"--adam-moments 8bit: torchao compiles its step, which needs {needs}"
        raise ConfigError(f"{text}, and there is none. Install it, or use --adam-moments float32.")
    return AdamW8bit(trained, **rates)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate; compiled optimizers keep it in a tensor, so that they are not compiled for each."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
