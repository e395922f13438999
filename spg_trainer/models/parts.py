"""Tensors of any shape that are divided, so that each process has a part; whole tensors pass through unchanged."""

import sys
from typing import Any

from torch import Tensor


def whole(value: Tensor) -> Tensor:
    """The whole of a divided tensor; all processes call this together. A whole tensor is returned as it is."""
    part: Any = value
    return part.full_tensor() if is_part(value) else value


def own_part(value: Tensor, like: Any) -> Tensor:
    """A copy of this process's part of a whole tensor, divided like `like`; other processes need not call this."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None).clone()


def local(value: Tensor) -> Tensor:
    """What this process holds of a tensor: its part of a divided one, or all of a whole one."""
    part: Any = value
    return part.to_local() if is_part(value) else value


def mesh_of(value: Tensor) -> Any:
    """The mesh of processes among which a tensor is divided; None for a whole tensor."""
    part: Any = value
    return part.device_mesh if is_part(value) else None


def is_part(value: Tensor) -> bool:
    """Whether a tensor is divided, so that this process has a part of it."""
    # The module is slow to import. If anything has been divided, it has been imported.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def is_expert_part(value: Tensor) -> bool:
    """Whether a tensor holds some whole experts of a layer, as this process has them."""
    mesh = mesh_of(value)
    return mesh is not None and mesh.mesh_dim_names == ("group",)
