"""The layers of a model: which are mixtures of experts, whether these can be divided among processes, and which linear
layers LoRA adapters are put on.

Linear layers have names here, and other ones in published models. The settings of adapters are in settings/model.py;
`models/lora.py` makes adapters.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from spg_trainer.architecture import llada
from spg_trainer.architecture.llada import EmbeddedConfig
from spg_trainer.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
EXPERTS = (".experts.gate_up_proj", ".experts.down_proj")
"""Ends of the names of parameters with the matrices of all experts of a layer."""


def expert_layers(config: "PreTrainedConfig") -> int:
    """How many layers of a model are mixtures of experts; the others are dense. 0 for a model without experts."""
    if not hasattr(config, "num_experts_per_tok"):
        return 0
    # A config says which layers are dense by the number of the first ones, or by a list of them.
    dense = getattr(config, "first_k_dense_replace", len(getattr(config, "mlp_only_layers", None) or ()))
    return config.num_hidden_layers - dense


def check_expert_parallel(config: "PreTrainedConfig", size: int) -> None:
    """Raises ConfigError if the experts of a model of this configuration cannot be divided among `size` processes."""
    if not expert_layers(config):
        raise ConfigError(f"$expert_parallel={size}: this model has no experts to divide. Leave it out.")
    if config.num_local_experts % size:
        raise ConfigError(
            f"$expert_parallel={size} does not divide the {config.num_local_experts} experts of a layer. Use a divisor "
            "of their number."
        )


def check_router(config: Any, has_adapters: bool) -> None:
    """Raises ConfigError for --train-router where routers are frozen with the base, or are trained anyway.

    config: a model's configuration. has_adapters: whether adapters are trained.
    """
    if has_adapters:
        raise ConfigError(
            "$train_router: adapters are trained, and the model below them, with its routers, is frozen. Leave it out, "
            "or train all weights with $lora_r=0."
        )
    if not getattr(config, "freezes_router", False):
        what = "trains its routers with all other weights" if expert_layers(config) else "has no router"
        raise ConfigError(f"$train_router: this model {what}. Leave it out.")


def check_lora(config: Any, targets: Sequence[str], *, experts: bool, dropout: float) -> None:
    """Raises ConfigError for settings of new adapters that a model of this configuration cannot have."""
    if experts and not expert_layers(config):
        raise ConfigError(
            "$lora_experts: this model has no experts, and all its layers have adapters; leave it out"
        )
    if experts and dropout:
        raise ConfigError(
            f"$lora_dropout={dropout} with $lora_experts: adapters of experts have no dropout; use 0"
        )
    lora_layers(config, targets, experts=experts)


def lora_layers(config: Any, targets: Sequence[str], *, experts: bool = False) -> tuple[str, ...]:
    """The names, in transformers' class, of the linear layers of each transformer layer that get adapters.

    config: a model's configuration. targets: as --lora-targets. experts: as --lora-experts; in a mixture of experts
    without it, only the layers of attention can have adapters. The router and the head never have any. Raises
    ConfigError for a name that is none of these layers.
    """
    known = ATTENTION
    # In DiffusionGemma, each layer has a dense part beside its experts.
    if experts or not expert_layers(config) or getattr(config, "dense_beside_experts", False):
        known += FEED_FORWARD
    if tuple(targets) == ("all",):
        return known
    published: dict[str, set[str]] = {}
    for name, layer in published_names(config):
        if layer in known:
            published.setdefault(name, set()).add(layer)
    chosen: set[str] = set()
    for target in targets:
        found = published.get(target, {target} & {*known})
        if not found:
            other_names = [name for name in published if name not in known]
            raise ConfigError(
                f"$lora_targets: {target!r} is no linear layer of this model. Use all, or some of "
                f"{' '.join([*known, *other_names])}."
            )
        chosen |= found
    if not chosen:
        raise ConfigError("$lora_targets names no layer. Use all, or names such as q_proj v_proj.")
    return tuple(layer for layer in known if layer in chosen)


def published_names(config: Any) -> Iterator[tuple[str, str]]:
    """Yields (name of a module in the published model, name of the layer in transformers' class) where they differ.

    A published module may be several layers here, as LLaDA2's query_key_value is.
    """
    if isinstance(config, EmbeddedConfig):
        if any(".blocks." in name for name in config.tensors):  # others are stored under transformers' names
            yield from ((name, _last_part(layer)) for name, layer in llada.MODULES.items())
        return
    for transform in config.family.weights():
        for source in transform.source_patterns:
            for target in transform.target_patterns:
                yield _last_part(source), _last_part(target)


def _last_part(pattern: str) -> str:
    r"""`attn_out` of a pattern such as `^model\.blocks\.(\d+)\.attn_out\.`."""
    return pattern.replace("\\", "").removesuffix(".weight").rstrip(".").rpartition(".")[2]
