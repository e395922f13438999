"""Mixtures of experts: which layers are mixtures, and how evenly experts are chosen."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from spg_trainer.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig


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


@contextmanager
def counting_choices(model: "nn.Module") -> Iterator[dict[tuple[str, int], float]]:
    """Counts how often each expert is chosen in the passes made inside; yields {(router's name, expert): times}.

    Padding counts as well, and what is computed twice counts twice. The dict stays empty for a model without experts.
    """
    counts: dict[tuple[str, int], float] = {}
    hooks = []

    def count(name: str, chosen: Any, experts: int) -> None:
        for expert, times in enumerate(chosen.flatten().bincount(minlength=experts).tolist()):
            counts[name, expert] += times

    for name, module in model.named_modules():
        if name.endswith("mlp.gate") and hasattr(module, "top_k"):
            counts |= {(name, expert): 0.0 for expert in range(module.num_experts)}
            # A router returns (logits, weights, chosen experts).
            hooks.append(
                module.register_forward_hook(
                    lambda router, _, out, name=name: count(name, out[2], router.num_experts)
                )
            )
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def router_load(counts: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """{"router/busiest": how often the busiest expert of any layer is chosen}, where 1 is an even share.

    Empty for a model without experts, or if no pass was made. counts: from `counting_choices`, summed over processes.
    """
    layers: dict[str, list[float]] = {}
    for (name, _), times in counts.items():
        layers.setdefault(name, []).append(times)
    # How often the busiest expert of each layer is chosen, divided by the mean of the layer's experts.
    busiest = [max(times) * len(times) / sum(times) for times in layers.values() if sum(times)]
    return {"router/busiest": max(busiest)} if busiest else {}
