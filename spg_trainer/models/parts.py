"""Tensors of which each process has a part, as `--shard` divides them, beside tensors that are whole."""

import sys
from typing import Any

from torch import Tensor


def whole(value: Tensor) -> Tensor:
    """The whole tensor of which each process has a part; all of them ask together. A whole tensor stays as it is."""
    part: Any = value
    return part.full_tensor() if is_part(value) else value


def own_part(value: Tensor, like: Any) -> Tensor:
    """A copy of this process's part of a whole tensor, as `like` is divided; no other process is called."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None).clone()


def local(value: Tensor) -> Tensor:
    """What this process holds of a tensor: its part, or all of a whole one."""
    part: Any = value
    return part.to_local() if is_part(value) else value


def is_part(value: Tensor) -> bool:
    """Whether a tensor is one of which this process has a part."""
    # Slow to import, and imported wherever anything has been divided.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)
