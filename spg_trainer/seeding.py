"""Makes random streams that depend on their purpose, never on what ran before.

Every stream is keyed by (seed, purpose, step, problem, generation, ...). So resuming a run needs no saved random state,
and nothing changes with the number of processes, the micro-batch or the order of work. torch is imported late, since a
start draws problems without it.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, *key: int | str) -> int:
    """A 63-bit seed for the stream named by `key`, equal on every machine (torch on a CPU uses 32 bits of it)."""
    text = "/".join(str(part) for part in (seed, *key))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *key: int | str, device: "str | torch.device" = "cpu") -> "torch.Generator":
    """A private torch generator for the stream named by `key`, e.g. `generator(seed, "rollout", step, problem, g)`."""
    import torch

    return torch.Generator(device=device).manual_seed(derive(seed, *key))


def numpy_generator(seed: int, *key: int | str) -> np.random.Generator:
    """A private NumPy generator for the stream named by `key`."""
    return np.random.Generator(np.random.PCG64(derive(seed, *key)))


def gpus(device: "torch.device") -> "list[torch.device]":
    """The GPUs whose random state `torch.random.fork_rng` has to keep for a model on `device`: [] if it is no GPU."""
    return [device] if device.type == "cuda" else []
