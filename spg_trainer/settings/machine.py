"""What this machine has: the devices, compilers and packages that settings need, and free cores.

`check_machine` checks what settings need before a model is opened; a dry run for other machines leaves it out.
"""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from spg_trainer.errors import ConfigError, ModelError, first_line
from spg_trainer.settings.model import ModelConfig

if TYPE_CHECKING:
    import torch


def check_machine(model: ModelConfig, adam_moments: str) -> None:
    """Raises ConfigError or ModelError if a device, a compiler or a package that the settings need is missing."""
    device = find_device(model.device)
    if model.load_4bit:
        check_bitsandbytes()
    if model.compile:
        check_compiler(device)
    if adam_moments == "8bit":
        check_torchao(device)


def find_device(name: str) -> "torch.device":
    """The device of --device; ModelError if it is not here."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # unknown, not here, or torch is built without CUDA
        raise ModelError(f"device {name!r}: {first_line(error)}; use auto, cpu, cuda or cuda:0") from error


def check_bitsandbytes() -> None:
    """Raises ModelError if bitsandbytes is missing, with which --load-4bit stores weights."""
    if find_spec("bitsandbytes") is None:
        raise ModelError('$load_4bit needs the package bitsandbytes: pip install "bitsandbytes>=0.49"')


def check_compiler(device: "torch.device") -> None:
    """Raises ConfigError if there is no compiler for --compile."""
    if missing := missing_compiler(device):
        raise ConfigError(f"$compile needs {missing}, and there is none. Install it, or leave out $compile.")


def check_torchao(device: "torch.device") -> None:
    """Raises ConfigError if torchao, whose AdamW has moments of 8 bits, is missing or cannot run."""
    try:
        import torchao.optim  # noqa: F401
    except ImportError as error:
        text = f"$adam_moments=8bit is torchao's, which cannot be imported here ({error})"
        raise ConfigError(f"{text}. `pip install torchao`, or use $adam_moments=float32.") from error
    if missing := missing_compiler(device):
        text = f"$adam_moments=8bit: torchao compiles its step, which needs {missing}"
        raise ConfigError(f"{text}, and there is none. Install it, or use $adam_moments=float32.")


def missing_compiler(device: "torch.device") -> str:
    """The name of the program that torch needs to compile for a device, if it is missing; "" if it is installed."""
    if device.type == "cpu":
        has_compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
        return "" if has_compiler else "a C++ compiler on a CPU"
    return "" if find_spec("triton") else "triton on a GPU"


def crowded_cores(device: "torch.device") -> str:
    """A warning if other work leaves fewer free cores than PyTorch has threads; "" if not, and on a GPU.

    A thread that waits for a core makes all the others wait at each operation.
    """
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    free = max(1, cores - others_running())
    if device.type != "cpu" or free >= threads:
        return ""
    return (
        f"PyTorch has {threads} threads, but other work leaves about {free} of {cores} cores free: steps may take "
        f"many times as long. Set OMP_NUM_THREADS={free}, or wait until the machine is idle."
    )


def others_running() -> int:
    """How many cores other processes keep busy, both now and over the last minute; 0 if the system does not say."""
    try:
        minute, _, _, now, _ = Path("/proc/loadavg").read_text(encoding="ascii").split()
    except OSError:
        return 0
    others_now = int(now.partition("/")[0]) - 1  # without this process
    return min(round(float(minute)), others_now)
