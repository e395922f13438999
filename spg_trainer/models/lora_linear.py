"""A linear layer under an adapter that is kept in a wider type than the layer.

`add_lora` in lora.py makes the adapter's two factors, A and B, and draws their first values.

This module imports peft, which is slow, so it is imported lazily.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from spg_trainer.models.states import base_model
from spg_trainer.models.working_copy import keep_wider

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
