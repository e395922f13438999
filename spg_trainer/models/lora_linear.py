"""A linear layer under an adapter that is kept in a wider type than the layer. It imports peft, which is slow: lazy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn


class MixedLinear(Linear):
    """peft's layer, except that an adapter in float32 beside weights in 16 bits multiplies in 16 bits.

    So it does under autocast, with which the papers' code trains. peft by itself multiplies in float32, which on an
    H100 took as long as the layer below, and keeps a second, wider copy of the input for the backward pass.
    """

    kept_cast: tuple[Tensor, Tensor, float] | None = None
    """What `cast` returns, while nothing trains and it need not be made again at every pass (`casts_kept`)."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x (..., in) to (..., out) in the type of x."""
        narrow_adapter = self.kept_cast or self.cast(x.dtype)
        if narrow_adapter is None or args or kwargs:
            return super().forward(x, *args, **kwargs)
        down, up, scale = narrow_adapter
        result = self.base_layer(x)
        if self.kept_cast is None:  # else nothing trains, and dropout does nothing
            x = self.lora_dropout[self.active_adapters[0]](x)
        # One product that adds to the layer's result, rounded once.
        low = torch.mm(x.flatten(0, -2), down)
        return torch.addmm(result.flatten(0, -2), low, up, alpha=scale).view_as(result)

    def cast(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, float] | None:
        """The one active adapter in a type, (in, r) and (r, out), and its scale; None where peft's own way is right."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        if len(active) != 1 or self.disable_adapters or self.merged or self.lora_variant:
            return None
        (name,) = active
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        if dtype == down.dtype or self.lora_B[name].bias is not None:
            return None
        return down.to(dtype).T, up.to(dtype).T, self.scaling[name]


def multiply_in_16_bits(model: nn.Module) -> None:
    """Makes each of peft's linear layers a `MixedLinear`; those of a base in 4 bits are another class and stay."""
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = MixedLinear


@contextmanager
def casts_kept(model: nn.Module) -> Iterator[None]:
    """Inside, adapters are cast once and not at every pass; nothing may train, nor may another adapter act."""
    layers = [module for module in model.modules() if isinstance(module, MixedLinear)]
    for layer in layers:
        layer.kept_cast = layer.cast(layer.base_layer.weight.dtype)
    try:
        yield
    finally:
        for layer in layers:
            layer.kept_cast = None
