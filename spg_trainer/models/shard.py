"""Weights divided among the processes (`--shard`): each keeps its part of every tensor, its gradient and optimizer.

`divide` does that by torch's FSDP2, layer by layer. Completions end at different lengths, so processes never make
equally many passes. There are two ways about that:

- `phase`: a pass calls no other process. The weights are gathered once for a whole phase (`unsharded`: a rollout, an
  evaluation, an update), used as those of any model, and let go; an update sums its gradients by one reduce-scatter
  (`reduce_gradients`). Each process then has all weights in the type that is computed, and in an update all gradients.
- `layer`: a pass gathers the embedding, then a layer at a time, then the head, and processes make their passes together
  (`lockstep`). Each has a layer or two, and sums its gradients as a backward pass comes by.

In both, each of N processes always keeps an Nth of the weights in the type that is trained, and of the optimizer. A
model that is read from a folder is divided before it has any numbers, and each process reads its part.

Adapters are not divided: they are small, and each process has them whole, as without `--shard`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spg_trainer import distributed
from spg_trainer.errors import ModelError
from spg_trainer.models.parts import is_part, local
from spg_trainer.models.states import base_model
from spg_trainer.models.weight_files import is_adapter, load_parts, unreadable
from spg_trainer.models.working_copy import computing_with_copy, working_copy

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from transformers import PreTrainedModel


def divide(
    model: nn.Module,
    device: torch.device,
    compute: torch.dtype,
    by_layer: bool = False,
    folder: Path | None = None,
) -> None:
    """Divides a model's weights among the processes of the run, in place. An optimizer must be made after this.

    device: this process's, to which the weights are moved, a layer at a time.
    compute: the type in which weights are gathered; those that are kept and trained keep their own.
    by_layer: whether each pass gathers a layer at a time, which `lockstep` has then to order; else a phase gathers all.
    folder: of the weights of a model that has none yet (it is on the device `meta`); each process reads its part.

    Raises ModelError where torch is too old.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise ModelError(f"$shard needs torch 2.9 or newer, and this is {torch.__version__}; upgrade it")
    base: Any = base_model(model)
    adapters = {p for name, p in base.named_parameters() if is_adapter(name)}
    for p in adapters:
        p.data = p.data.to(device)
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (distributed.world_size(),)),
        # Inputs stay what they are: positions are rotated in float32 whatever the weights are.
        "mp_policy": MixedPrecisionPolicy(compute, base.dtype, cast_forward_inputs=False),
        "ignored_params": adapters,
    }
    layers, embedding = base.get_submodule("model.layers"), base.get_input_embeddings()
    head = base.get_output_embeddings()
    # An embedding that is not the head is needed at the beginning of a pass alone, and the head at its end.
    ends = [embedding, head] if by_layer and embedding.weight is not head.weight else []
    for module in (*ends, *layers.children(), base):
        # Norm and head stay after a pass: its hidden states are multiplied by the head outside of the body.
        fully_shard(module, reshard_after_forward=by_layer and module not in (base, head), **options)
    _sum_in_backward(base, by_layer)
    for module in _gathered_at_once(base):
        _adapt_to_our_losses(module)
    if folder is not None:
        with distributed.raising_on_all():
            _read_parts(base, device, folder)
    with torch.no_grad():
        _one_token(base)  # FSDP takes what runs first for the root, and layers run without it later
    _reshard(base)


def _adapt_to_our_losses(module: Any) -> None:
    """Sets what FSDP does with gradients: it sums them and divides nothing, and gathers no module ahead of its turn."""
    module.set_gradient_divide_factor(1.0)  # losses are divided by global totals already
    module.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sums
    # Left to itself, a layer's backward pass gathers the layer that ran before it. Where a pass without a graph came
    # between, that one is let go already: one process would wait for others that have nothing to gather.
    module.set_modules_to_backward_prefetch([module])


def _read_parts(base: "PreTrainedModel", device: torch.device, folder: Path) -> None:
    """Gives a divided model that is on the device `meta` its numbers. Raises ModelError where files do not fit."""
    from safetensors import SafetensorError

    in_files = base.state_dict()
    computed = [
        module
        for path, module in base.named_modules()
        if any(f"{path}.{name}" not in in_files for name, _ in module.named_buffers(recurse=False))
    ]
    base._apply(lambda value: _room(value, device) if value.is_meta else value.to(device))
    base.tie_weights()
    with torch.no_grad():
        for module in computed:  # its buffers are in no file: the frequencies of positions
            base._init_weights(module)
        try:
            load_parts(base, folder)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise unreadable(folder, error) from error


def _room(value: Tensor, device: torch.device) -> Tensor:
    """A tensor for the numbers of one on the device `meta`: this process's part, if it is divided."""
    from torch.distributed.tensor import DTensor

    room = torch.empty(local(value).shape, dtype=value.dtype, device=device)
    if not isinstance(value, DTensor):
        return room
    full_layout = {"shape": value.shape, "stride": value.stride()}
    return DTensor.from_local(room, value.device_mesh, value.placements, run_check=False, **full_layout)


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's weights are divided among processes, gathered at present or not."""
    return any(True for _ in _gathered_at_once(base_model(model)))


def is_head_apart(model: "PreTrainedModel") -> bool:
    """Whether the head of a divided model is gathered by itself, at the end of a pass."""
    return any(True for _ in _gathered_at_once(model.get_output_embeddings()))


def trains_parts(model: nn.Module) -> bool:
    """Whether what is trained is divided: all weights of a sharded model, not adapters on one."""
    base = base_model(model)
    return is_sharded(base) and any(
        p.requires_grad for name, p in base.named_parameters() if not is_adapter(name)
    )


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """A phase: its passes call no other process, because each has the whole weights, or they are made together.

    All processes enter together; none waits for another to leave, unless the passes are made together. Weights that are
    not divided but kept in a wider type than is computed have a `working_copy` inside. Otherwise nothing happens where
    the model is not sharded, or is gathered already.
    """
    base = base_model(model)
    is_apart = distributed.lockstep is None and any(map(is_part, base.parameters()))
    with computing_with_copy(model):
        if is_apart:
            _unshard(base)
        try:
            yield
        finally:
            if is_apart:
                _reshard(base)
            elif distributed.lockstep is not None:
                distributed.end_passes()


@contextmanager
def resharded(model: nn.Module) -> Iterator[None]:
    """Inside `unsharded`: the weights let go for a while, and gathered again unless something has failed."""
    base = base_model(model)
    if (copy := working_copy(base)) is not None and copy.trained:
        copy.end()
        yield
        copy.begin()
        return
    is_gathered = is_sharded(base) and not any(map(is_part, base.parameters()))
    if not is_gathered or distributed.lockstep is not None:
        yield
        return
    _reshard(base)
    yield
    _unshard(base)


def reduce_gradients(model: nn.Module) -> None:
    """Sums the gradients of a sharded model that is trained, inside `unsharded`; each process is left with its part's.

    A process without completions takes part with zeros. The weights are apart afterwards. Adapters are left alone, and
    so is a model that is not sharded; where it has a working copy, the gradients become those of the weights as they
    are trained, and nothing is summed over processes.
    """
    base = base_model(model)
    if (copy := working_copy(base)) is not None:
        copy.end()
    if distributed.lockstep is not None:
        distributed.end_passes()  # each backward pass has summed its own
        for p in base.parameters():
            # No process had one. An optimizer that is given no gradient leaves out its momentum and its decay, too.
            if p.requires_grad and p.grad is None:
                p.grad = torch.zeros_like(p)
    elif trains_parts(base):
        # FSDP sums in a backward pass, and only tensors that have a gradient: this pass adds zero to each of them.
        _sum_in_backward(base, True)
        (_one_token(base) * 0).backward()
        _sum_in_backward(base, False)


def _gathered_at_once(base: nn.Module) -> "Iterator[FSDPModule]":
    """The modules of which each is gathered at once: a layer; embedding, norm and head, together or apart."""
    # The module is slow to import; wherever anything is divided, it has been imported.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    modules = () if fsdp is None else base.modules()
    return (module for module in modules if isinstance(module, fsdp.FSDPModule))


def _unshard(base: nn.Module) -> None:
    for module in _gathered_at_once(base):
        module.unshard()


def _reshard(base: nn.Module) -> None:
    for module in _gathered_at_once(base):
        module.reshard()


def _sum_in_backward(base: Any, sums: bool) -> None:
    """Sets whether a backward pass sums its gradients over the processes, and lets the weights go after that."""
    base.set_requires_gradient_sync(sums)
    base.set_reshard_after_backward(sums)


def _one_token(base: "PreTrainedModel") -> Tensor:
    """A pass through all weights, as short as can be; a scalar."""
    ids = torch.zeros((1, 1), dtype=torch.int64, device=base.device)
    return base(ids, attention_mask=torch.ones_like(ids, dtype=torch.bool)[None, None]).logits.sum()
