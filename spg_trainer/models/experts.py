"""Mixtures of experts in numbers: how many there are, how many a token takes."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class Experts(NamedTuple):
    """The feed-forward part of a mixture; of any other model `layers` is 0."""

    layers: int
    """Layers that have experts; the others are dense."""
    count: int
    """Experts of such a layer, and how many of them a token takes."""
    chosen: int
    shared: int
    """Experts that every token takes besides."""
    width: int
    """Of an expert, as `intermediate_size` is of a dense layer."""


def experts_of(config: "PreTrainedConfig") -> Experts:
    """What a model's configuration says of its experts, under transformers' names."""
    if not hasattr(config, "num_experts_per_tok"):
        return Experts(0, 0, 0, 0, 0)
    dense = getattr(config, "first_k_dense_replace", len(getattr(config, "mlp_only_layers", None) or ()))
    return Experts(
        layers=config.num_hidden_layers - dense,
        count=config.num_local_experts,
        chosen=config.num_experts_per_tok,
        shared=getattr(config, "n_shared_experts", 0),
        width=config.moe_intermediate_size,
    )
