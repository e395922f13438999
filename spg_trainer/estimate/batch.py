"""How many masked copies go through the model at once, where the settings leave it open: as many as memory holds."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from spg_trainer.algorithms import Algorithm
from spg_trainer.estimate.cards import USABLE
from spg_trainer.settings.fields import Config
from spg_trainer.settings.updates import AUTO

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what the container of this process may take."""


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


def usable_here(device: torch.device, processes: int) -> float:
    """Bytes that tensors of this process can take on a device, also those that they take already.

    processes: how many the run has. Those on this machine, which LOCAL_WORLD_SIZE of a launcher counts, share its
    memory; without that, all of them do.
    """
    if device.type == "cuda":
        free_of_card, _ = torch.cuda.mem_get_info(device)
        return USABLE * (free_of_card + torch.cuda.memory_reserved(device))
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    free = min(1024 * _number_in("/proc/meminfo", "MemAvailable:"), _free_in_container())
    return USABLE * (free / on_this_machine + 1024 * _number_in("/proc/self/status", "VmRSS:"))


def _free_in_container() -> float:
    """Bytes that the container's limit leaves (cgroup v2); infinite where no limit is set.

    Files that Linux keeps in memory and gives up when it is needed count as free, as in MemAvailable.
    """
    try:
        limit, taken = (
            (CGROUP / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current")
        )
    except OSError:
        return math.inf
    if limit == "max":
        return math.inf
    return max(0.0, float(limit) - float(taken) + _number_in(CGROUP / "memory.stat", "inactive_file"))


def _number_in(file: str | Path, name: str) -> float:
    """The number behind a name in a file of Linux, e.g. 123 in the line `MemAvailable: 123 kB`; 0 without it."""
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((float(words[1]) for words in map(str.split, lines) if words[:1] == [name]), 0.0)
