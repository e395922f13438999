"""In compiled layers, the adapters of queries, keys and values multiply their common input in one product.

One product rounds differently from three. So a pass without `--compile` makes three, and is rounded as if the layers
were not joined. This module imports peft, which is slow, so it is imported lazily.
"""

from typing import Any

import torch
from torch import Tensor, nn

from spg_trainer.models.body import mix_in
from spg_trainer.models.lora_linear import MixedLinear, add_product

PARTS = ("q_proj", "k_proj", "v_proj")


class InputWithProducts:
    """An input x (B, S, in), and its products, (B * S, r) each, with the first factors of the adapters of `PARTS`."""

    def __init__(self, x: Tensor, products: tuple[Tensor, ...]) -> None:
        self.x, self.products = x, products

    def __getattr__(self, name: str) -> Any:  # attention asks for the input's shape and device
        return getattr(self.x, name)


class JointLinear(MixedLinear):
    """The layer of one of `PARTS` under an adapter."""

    part: int
    """The layer's index in `PARTS`."""

    def forward(self, x: Tensor | InputWithProducts, *args: Any, **kwargs: Any) -> Tensor:
        """x (..., in) to (..., out) in the type of x."""
        if not isinstance(x, InputWithProducts):
            return super().forward(x, *args, **kwargs)
        _, up, scale = self.factors()
        return add_product(self.base_layer(x.x), x.products[self.part], up.to(x.dtype).T, scale)

    def first_factor(self) -> Tensor | None:
        """The adapter's first factor (r, in); None without an adapter, or if dropout changes its input."""
        if (adapter := self.factors()) is None:
            return None
        drops = self.training and not isinstance(self.lora_dropout[self.active_adapters[0]], nn.Identity)
        first, _, _ = adapter
        return None if drops else first


class JointAttention:
    """Attention that multiplies its input by the first factors of all adapters of `PARTS` in one product.

    The layers then get an `InputWithProducts` in place of the input.
    """

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the layer's own `forward`; hidden_states (B, S, in)."""
        if torch.compiler.is_compiling():
            factors = [getattr(self, name).first_factor() for name in PARTS]
            if all(factor is not None for factor in factors):
                joint = torch.cat([factor.to(hidden_states.dtype) for factor in factors])
                product = torch.mm(hidden_states.flatten(0, -2), joint.T)
                products = product.split([len(factor) for factor in factors], -1)
                hidden_states = InputWithProducts(hidden_states, products)
        return super().forward(hidden_states, *args, **kwargs)


def join_adapters(attention: nn.Module) -> None:
    """Joins the three adapter products of an attention into one, in place, if each of `PARTS` has an adapter."""
    layers = [getattr(attention, name, None) for name in PARTS]
    if all(type(layer) is MixedLinear for layer in layers):
        for part, layer in enumerate(layers):
            layer.__class__, layer.part = JointLinear, part
        mix_in(JointAttention, attention)
