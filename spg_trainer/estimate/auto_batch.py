"""How many rows go through the model at once where a setting is `auto`: as many as memory holds."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from spg_trainer.algorithms import Algorithm
from spg_trainer.estimate.cards import USABLE
from spg_trainer.estimate.memory import Memory
from spg_trainer.settings.fields import AUTO, Config

CAREFUL_COPIES = 8
"""The most masked copies at once that `auto` takes on a CPU, and with divided weights or columns.

Elsewhere, on CUDA with undivided weights and columns, it fills the memory. On a CPU more copies gain nothing, and free
memory is not always known. With divided weights or columns, running out of memory would end the run, since its update
is not repeated with half as many copies."""
CGROUP = Path("/sys/fs/cgroup")
"""The folder in which Linux says how much memory the container of this process may take."""


def with_masked_copies(config: Config, copies: int) -> Config:
    """The settings with `copies` masked copies at once in an update."""
    return replace(config, batch=replace(config.batch, per_device_batch_size=copies))


def fitting_batch(
    config: Config,
    algorithm: Algorithm,
    memory_of: Callable[[int, int | None], Memory],
    usable: float,
    *,
    processes: int = 1,
    on_cuda: bool = True,
) -> tuple[int, int | None]:
    """(copies, rows) that go through the model at once; where settings say `auto`, the most that fit by estimate.

    copies: masked copies of an update, as --per-device-batch-size has them. rows: completions of a rollout;
    None = decided later, on a GPU by `estimate/sizes.py: rows_of_a_pass` and on a CPU by the sampler.

    Neither number is above what a process has in a step (in an update with --sequence-parallel: its group), nor below
    1, even if 1 does not fit. Copies and completions are searched for separately, since an update and a rollout are
    never in memory together. A run on anything but CUDA, and one whose weights or columns are divided, takes at most
    `CAREFUL_COPIES` copies, and leaves the rows open.

    memory_of: (copies, rows) -> the most that a process holds. usable: bytes that tensors of a process can take.
    """
    if config.batch.per_device_batch_size != AUTO:
        return config.batch.per_device_batch_size, None
    batch = config.batch
    completions = math.ceil(batch.prompts_per_step * batch.num_generations / processes)
    masks = algorithm.make_masking().count(config.rollout.max_completion_length)
    sharing = config.model.sequence_parallel
    most_copies = sharing * completions * masks
    is_careful = not on_cuda or config.model.is_divided or sharing > 1
    if is_careful:
        most_copies = min(most_copies, CAREFUL_COPIES)
    any_rows = 1  # the peak of an update does not depend on them
    copies = _most_that_fit(lambda n: memory_of(n, any_rows).update_peak <= usable, most_copies)
    if is_careful:
        return copies, None
    rows = _most_that_fit(lambda n: memory_of(copies, n).rollout_peak <= usable, completions)
    return copies, rows


def _most_that_fit(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits, or 1 if none does. If a number fits, all smaller ones must fit too."""
    # Bisection: `fitting` fits (or is 1), and `too_many` does not fit or is above `most`.
    fitting, too_many = 1, most + 1
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if fits(middle):
            fitting = middle
        else:
            too_many = middle
    return fitting


def usable_here(device: torch.device, processes: int) -> float:
    """Bytes that tensors of this process can take on a device, including those that they take already.

    processes: how many the run has. The processes on this machine share its memory: as many as a launcher's
    LOCAL_WORLD_SIZE says; without this variable, all of them.
    """
    if device.type == "cuda":
        free_of_card, _ = torch.cuda.mem_get_info(device)
        return USABLE * (free_of_card + torch.cuda.memory_reserved(device))
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    available = 1024 * _number_in("/proc/meminfo", "MemAvailable:")
    if not available:  # a system without /proc does not say how much is free
        available = math.inf
    free = min(available, _free_in_container())
    # This process's share of the free memory, and what it takes already.
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
    """The number after a name in a file of Linux, e.g. 123 in the line `MemAvailable: 123 kB`; 0 if there is none."""
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    for line in lines:
        words = line.split()
        if words and words[0] == name:
            return float(words[1])
    return 0.0
