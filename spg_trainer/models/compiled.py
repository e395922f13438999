"""Layers which torch compiles for passes without a cache (`--compile`).

They round otherwise: kernels are fused, and adapters of queries, keys and values joined (`joint_adapters.py`).
"""

from typing import Any

from torch import nn

from spg_trainer.models.states import base_model
from spg_trainer.settings.machine import check_compiler


def compile_layers(model: nn.Module, backend: Any = "inductor") -> None:
    """Compiles the layers of a model where they are alike, for any number of rows and columns, in place.

    The first layer stays as it is, whose input has no gradient where the embedding is frozen, and the last one, which
    computes some columns only. So a run compiles four times: with autograd and without, with a mask and without; and as
    often for passes of a single row.

    Raises ConfigError where there is no compiler.
    """
    base = base_model(model)
    check_compiler(base.device)
    layers = base.base_model.layers[1:-1]
    if model is not base:
        from spg_trainer.models.joint_adapters import join_adapters  # peft has been imported for this model

        for layer in layers:
            join_adapters(layer.self_attn)
    for layer in layers:
        layer.compile(dynamic=True, backend=backend)
    base.base_model.is_compiled = True
