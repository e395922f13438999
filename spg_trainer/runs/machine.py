"""Warns if other work of the machine leaves too few cores to a command."""

import os
from pathlib import Path

import torch


def crowded_cores(device: torch.device) -> str:
    """A warning if other work leaves fewer free cores than PyTorch has threads; "" if not, and on a GPU.

    A thread that waits for a core makes all the others wait at each operation.
    """
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
