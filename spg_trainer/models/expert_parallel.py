"""Experts divided among processes (`--expert-parallel`): each process of a group keeps and computes some of them.

transformers does this (`AllToAllEP`): in each mixture layer, every process sends its tokens to the processes that have
the chosen experts, and gets the results back. The backward pass takes the same way, so the gradient of an expert holds
the tokens of the whole group already, and is not summed over the group. The processes of a group therefore make their
passes together (`models.shard.Lockstep`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spg_trainer import distributed
from spg_trainer.architecture.experts import check_expert_parallel
from spg_trainer.architecture.lora_layers import EXPERTS
from spg_trainer.errors import ConfigError
from spg_trainer.models.parts import local
from spg_trainer.models.weight_files import is_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def divide_experts(
    base: "PreTrainedModel", device: torch.device, compute_dtype: torch.dtype, size: int
) -> set[nn.Parameter]:
    """Divides the experts of a model among groups of `size` processes, in place; returns their parameters.

    base: still empty (on the device `meta`), with as many experts as a multiple of `size`. compute_dtype: the type of a
    pass. Raises ConfigError if experts have adapters.
    """
    from transformers.distributed.expert_parallel import apply_expert_parallelism
    from transformers.distributed.parallel_utils import replace_layer_number_by_wildcard

    check_expert_parallel(base.config, size)
    parameters = [name for name, _ in base.named_parameters()]
    if any(".experts." in name and is_adapter(name) for name in parameters):
        raise ConfigError(
            f"$expert_parallel={size}: the adapter is on experts, which stay whole then. Leave it out, or train "
            "adapters of attention alone."
        )
    mesh, alone = (distributed.process_mesh(number, device.type) for number in (size, 1))
    # The parameters come first, since a module's new `forward` asks how many experts it has.
    names = (*parameters, *(name for name, _ in base.named_modules()))
    styles = {name: base.ep_plan.get(replace_layer_number_by_wildcard(name)) for name in names}
    for name, module in base.named_modules():
        if name.endswith(".experts") and base.dtype != compute_dtype:
            _compute_in_type_of_input(module)
    plan = {name: style for name, style in styles.items() if style}
    apply_expert_parallelism(base, mesh["group"], alone["group"], plan, ep_implementation="all_to_all")
    base.copies_of_experts = mesh["across"]
    return set(expert_parameters(base))


def expert_parameters(base: "PreTrainedModel") -> list[nn.Parameter]:
    """The parameters with the experts of a model, if they are divided."""
    if not hasattr(base, "copies_of_experts"):
        return []
    return [p for name, p in base.named_parameters() if name.endswith(EXPERTS)]


def sum_over_copies(base: "PreTrainedModel") -> None:
    """Sums the gradients of divided experts over the groups of processes, each of which has a copy of all experts."""
    experts = expert_parameters(base)
    if not experts or base.copies_of_experts.size() == 1:
        return
    group = base.copies_of_experts.get_group()
    for p in experts:
        if p.requires_grad:
            gradient = local(p.grad)
            total = gradient.contiguous()
            torch.distributed.all_reduce(total, group=group)
            gradient.copy_(total)


def _compute_in_type_of_input(module: nn.Module) -> None:
    """Makes experts compute in the type of their input, narrower than that of their weights, as FSDP does for layers.

    Gradients are converted back by autograd, and added up in the type of the weights.
    """
    forward = module.forward

    def forward_in_type(hidden_states: Tensor, *routing: Any) -> Tensor:
        with _weights_in(module, hidden_states.dtype):
            return forward(hidden_states, *routing)

    module.forward = forward_in_type


@contextmanager
def _weights_in(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Inside, a module has its weights in another type."""
    kept = dict(module._parameters)
    module._parameters.update({name: weight.to(dtype) for name, weight in kept.items()})
    try:
        yield
    finally:
        module._parameters.update(kept)
