"""Layers that torch compiles for passes without a cache (`--compile`).

Compiled layers round differently: kernels are fused, and the adapters of queries, keys and values are joined
(`joint_adapters.py`).
"""

from typing import Any

from torch import nn

from spg_trainer.models.states import base_model
from spg_trainer.settings.machine import check_compiler


def compile_layers(model: nn.Module, backend: Any = "inductor") -> None:
    """Compiles the inner layers of a model in place, for any number of rows and columns.

    Two layers are left out, since they differ from the others: the first, whose input has no gradient if the embedding
    is frozen, and the last, which computes only some columns. All others share one compilation. A run makes four of
    them: with autograd and without, with an attention mask and without; and four more for passes of a single row.

    Raises ConfigError if there is no compiler.
    """
    base = base_model(model)
    check_compiler(base.device)
    layers = base.base_model.layers[1:-1]
    if model is not base:
        # This import costs nothing here, as the adapter has imported peft.
        from spg_trainer.models.joint_adapters import join_adapters

        for layer in layers:
            join_adapters(layer.self_attn)
    for layer in layers:
        layer.compile(dynamic=True, backend=backend)
    base.base_model.is_compiled = True
