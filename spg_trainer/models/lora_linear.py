"""A linear layer under an adapter that is kept in a wider type than the layer.

`add_lora` in lora.py makes the adapter's two factors, A and B, and draws their first values.

In compiled layers, the adapters of queries, keys and values multiply their common input in one product. One product
rounds differently from three. So a pass without `--compile` makes three, and is rounded as if the layers were not
joined.

This module imports peft, which is slow, so it is imported lazily.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from spg_trainer.models.body import mix_in
from spg_trainer.models.shard import keep_wider
from spg_trainer.models.states import base_model

if TYPE_CHECKING:
    from peft import PeftModel


class MixedLinear(Linear):
    """peft's layer, except that an adapter in float32 beside weights in 16 bits multiplies in 16 bits.

    The papers' code does so, too, because it trains under autocast. Without autocast peft multiplies in float32, which
    on an H100 took as long as the layer itself, and keeps a second, wider copy of the input for the backward pass.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x (..., in) to (..., out) in the type of x."""
        narrow_adapter = self.narrow_factors(x.dtype)
        if narrow_adapter is None or args or kwargs:
            return super().forward(x, *args, **kwargs)
        down, up, scale = narrow_adapter
        result = self.base_layer(x)
        x = self.lora_dropout[self.active_adapters[0]](x)
        return add_product(result, torch.mm(x.flatten(0, -2), down), up, scale)

    def narrow_factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, float] | None:
        """The transposed factors (in, r) and (r, out) of the one active adapter, in `dtype`, and its scale.

        None if peft should multiply in its own way: if `factors` returns None, or if `dtype` and the adapter are both
        wide. In a phase (see `working_copy`) the factors have `dtype` already; outside of one, every pass casts them.
        """
        if (adapter := self.factors()) is None:
            return None
        down, up, scale = adapter
        both_are_wide = dtype == down.dtype and dtype.itemsize > 2
        return None if both_are_wide else (down.to(dtype).T, up.to(dtype).T, scale)

    def factors(self) -> tuple[Tensor, Tensor, float] | None:
        """The weights A (r, in) and B (out, r) of the one active adapter, and its scale.

        None if no adapter or several are active, or if the active one is more than two factors.
        """
        active = [name for name in self.active_adapters if name in self.lora_A]
        is_plain = not (self.disable_adapters or self.merged or self.lora_variant)
        if len(active) != 1 or not is_plain:
            return None
        (name,) = active
        if self.lora_B[name].bias is not None:
            return None
        return self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]


def add_product(result: Tensor, low: Tensor, up: Tensor, scale: float) -> Tensor:
    """result (..., out) + scale * low (rows, r) @ up (r, out): one product, rounded once.

    low: the input times the adapter's first factor. up: its second factor.
    """
    return torch.addmm(result.flatten(0, -2), low, up, alpha=scale).view_as(result)


def multiply_in_16_bits(model: "PeftModel") -> None:
    """Makes each of peft's linear layers a `MixedLinear`; a phase has a working copy of their adapters.

    Linear layers in 4 bits are of another class, and stay as they are.
    """
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = MixedLinear
    base = base_model(model)
    if base.dtype.itemsize == 2:
        keep_wider(base, base.dtype, partial(_wider_adapters, base))


def _wider_adapters(base: nn.Module) -> Iterator[nn.Parameter]:
    """The adapters that are kept in a wider type than the layers below them."""
    for module in base.modules():
        if isinstance(module, MixedLinear):
            for weight in (*module.lora_A.parameters(), *module.lora_B.parameters()):
                if weight.dtype.itemsize > module.base_layer.weight.dtype.itemsize:
                    yield weight


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
