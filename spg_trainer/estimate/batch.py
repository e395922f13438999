"""How many masked copies go through the model at once, where the settings leave it open: as many as memory holds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from spg_trainer.algorithms import Algorithm
from spg_trainer.estimate.cards import USABLE
from spg_trainer.settings.fields import Config
from spg_trainer.settings.updates import AUTO


def with_fitting_batch(
    config: Config, algorithm: Algorithm, peak_of: Callable[[Config], float], usable: float, processes: int
) -> Config:
    """The settings with a number in place of per_device_batch_size `auto`: the largest whose step fits by estimate.

    It is at most all masked copies of a process's completions in a step, and 1 where nothing fits. peak_of: the
    bytes that a process holds at most with some settings. usable: bytes that its tensors can take.
    """
    batch = config.batch
    if batch.per_device_batch_size != AUTO:
        return config
    masks = algorithm.make_masking().count(config.rollout.max_completion_length)
    completions = -(-batch.prompts_per_step * batch.num_generations // processes)

    def with_size(size: int) -> Config:
        return replace(config, batch=replace(batch, per_device_batch_size=size))

    fits, too_many = 1, masks * completions + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if peak_of(with_size(middle)) <= usable:
            fits = middle
        else:
            too_many = middle
    return with_size(fits)


def usable_here(device: torch.device) -> float:
    """Bytes that tensors of this process can take on a device, also those that they take already."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return USABLE * (free + torch.cuda.memory_reserved(device))
    return USABLE * (_kilobytes("/proc/meminfo", "MemAvailable") + _kilobytes("/proc/self/status", "VmRSS"))


def _kilobytes(file: str, name: str) -> float:
    """Bytes that a line `NAME: 123 kB` of a file of Linux says; 0 where there is none."""
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return 1024 * next((float(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0.0)
