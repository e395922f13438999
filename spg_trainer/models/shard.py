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

import copy
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spg_trainer import distributed
from spg_trainer.errors import ModelError
from spg_trainer.models.states import base_model
from spg_trainer.settings.weights import first_line

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from transformers import PreTrainedModel

FILE_BYTES = 10**8
"""Size of a file of weights, and so what of a whole model is in memory while it is written; or a layer, if larger."""


def divide(
    model: nn.Module,
    device: torch.device,
    compute: torch.dtype,
    by_layer: bool = False,
    folder: Path | None = None,
) -> None:
    """Divides a model's weights among the processes of the run, in place. An optimizer must be made after this.

    device: this process's, to which the weights are moved, a layer at a time. compute: the type in which weights
    are gathered; those that are kept and trained keep their own. by_layer: whether each pass gathers a layer at a time,
    which `lockstep` has then to order; else a phase gathers all. folder: of the weights of a model that has none yet
    (it is on the device `meta`), of which each process then reads its part. Raises ModelError where torch is too old.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise ModelError(f"--shard needs torch 2.9 or newer, and this is {torch.__version__}; upgrade it")
    base: Any = base_model(model)
    adapters = {p for name, p in base.named_parameters() if _is_adapter(name)}
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
    _reduce_behind_backward(base, by_layer)
    for module in _parts(base):
        module.set_gradient_divide_factor(1.0)  # losses are divided by global totals already
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sums
        # Left to itself, a layer's backward pass gathers what ran before it, which is let go already where that was
        # a pass without a graph: one process would wait for others that have nothing to gather.
        module.set_modules_to_backward_prefetch([module])
    if folder is not None:
        with distributed.raising_on_all():
            _read_parts(base, device, folder)
    with torch.no_grad():
        _one_token(base)  # FSDP takes what runs first for the root, and layers run without it later
    _reshard(base)


def _read_parts(base: "PreTrainedModel", device: torch.device, folder: Path) -> None:
    """Gives a divided model that is on the device `meta` its numbers. Raises ModelError where files do not fit."""
    from safetensors import SafetensorError

    stored = base.state_dict()
    computed = [
        module
        for path, module in base.named_modules()
        if any(f"{path}.{name}" not in stored for name, _ in module.named_buffers(recurse=False))
    ]
    base._apply(lambda value: _room(value, device) if value.is_meta else value.to(device))
    base.tie_weights()
    with torch.no_grad():
        for module in computed:  # what files do not hold: the frequencies of positions
            base._init_weights(module)
        try:
            load_parts(base, folder)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise unreadable(folder, error) from error


def unreadable(folder: Path, error: Exception) -> ModelError:
    """What to raise where `read_layers` has failed."""
    return ModelError(
        f"model {str(folder)!r}: its weights cannot be read in parts: {first_line(error)}. --shard and merge read "
        "safetensors under the Hub's names, as save_pretrained writes them"
    )


def _room(value: Tensor, device: torch.device) -> Tensor:
    """A tensor for the numbers of one on the device `meta`: this process's part, if it is divided."""
    from torch.distributed.tensor import DTensor

    room = torch.empty(local(value).shape, dtype=value.dtype, device=device)
    if not isinstance(value, DTensor):
        return room
    whole = {"shape": value.shape, "stride": value.stride()}
    return DTensor.from_local(room, value.device_mesh, value.placements, run_check=False, **whole)


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's weights are divided among processes, gathered at present or not."""
    return any(True for _ in _parts(base_model(model)))


def is_head_apart(model: "PreTrainedModel") -> bool:
    """Whether the head of a divided model is gathered by itself, at the end of a pass."""
    return any(True for _ in _parts(model.get_output_embeddings()))


def trains_parts(model: nn.Module) -> bool:
    """Whether what is trained is divided: all weights of a sharded model, not adapters on one."""
    base = base_model(model)
    trained = any(p.requires_grad for name, p in base.named_parameters() if not _is_adapter(name))
    return trained and is_sharded(base)


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """A phase: its passes call no other process, because each has the whole weights, or they are made together.

    All processes enter together; none waits for another to leave, unless the passes are made together. Nothing happens
    where the model is not sharded, or is gathered already.
    """
    base = base_model(model)
    if distributed.lockstep is not None:
        try:
            yield
        finally:
            distributed.end_passes()
        return
    if not _is_resharded(base):
        yield
        return
    _unshard(base)
    try:
        yield
    finally:
        _reshard(base)


@contextmanager
def resharded(model: nn.Module) -> Iterator[None]:
    """Inside `unsharded`: the weights let go for a while, and gathered again unless something has failed."""
    base = base_model(model)
    if not is_sharded(base) or _is_resharded(base) or distributed.lockstep is not None:
        yield
        return
    _reshard(base)
    yield
    _unshard(base)


def reduce_gradients(model: nn.Module) -> None:
    """Sums the gradients of a sharded model that is trained, inside `unsharded`; each process is left with its part's.

    A process without completions takes part with zeros. The weights are apart afterwards. Adapters are left alone, and
    so is a model that is not sharded.
    """
    base = base_model(model)
    if distributed.lockstep is not None:
        distributed.end_passes()  # each backward pass has summed its own
        for p in base.parameters():
            # No process had one. An optimizer that is given no gradient leaves out its momentum and its decay, too.
            if p.requires_grad and p.grad is None:
                p.grad = torch.zeros_like(p)
    elif trains_parts(base):
        # FSDP reduces behind a backward pass, and only tensors that have a gradient: zero is added to each of them.
        _reduce_behind_backward(base, True)
        (_one_token(base) * 0).backward()
        _reduce_behind_backward(base, False)


def whole(value: Tensor) -> Tensor:
    """A tensor of which each process has a part, whole in all of them; another as it is."""
    part: Any = value
    return part.full_tensor() if is_part(value) else value


def whole_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights of a sharded model by name, whole and on the CPU; all processes go through them together."""
    for name, value in _stored(base_model(model)).items():
        yield name, whole(value.detach()).cpu()


def _stored(base: Any) -> dict[str, Tensor]:
    """What is written of a model: a head that is the embedding is not."""
    return {name: x for name, x in base.state_dict().items() if name not in base.all_tied_weights_keys}


def _by_layer(names: Iterable[str]) -> list[list[str]]:
    """Neighbours of one layer together: the Hub may keep several of our tensors as one, or one as several."""
    return [list(group) for _, group in groupby(names, lambda name: ".".join(name.split(".")[:3]))]


def own_part(value: Tensor, like: Any) -> Tensor:
    """A copy of what this process keeps of a whole tensor that is divided as `like` is; no other process is called."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None).clone()


def save_whole(model: "PreTrainedModel", tensors: Iterator[tuple[str, Tensor]], folder: Path) -> None:
    """Writes config.json and the weights that `tensors` yields as `save_pretrained` does, a file at a time."""
    from safetensors.torch import save_file
    from transformers.core_model_loading import revert_weight_conversion

    model.config.save_pretrained(folder)
    files: list[dict[str, int]] = [{}]
    values = _stored(model)
    for layer in _by_layer(values):
        sizes = {name: values[name].numel() * values[name].element_size() for name in layer}
        if files[-1] and sum((files[-1] | sizes).values()) > FILE_BYTES:
            files.append({})
        files[-1] |= sizes
    weight_map: dict[str, str] = {}
    for number, sizes in enumerate(files, 1):
        many = f"-{number:05d}-of-{len(files):05d}" if len(files) > 1 else ""
        content = revert_weight_conversion(model, dict(next(tensors) for _ in sizes))
        save_file(
            {name: value.contiguous() for name, value in content.items()},
            folder / f"model{many}.safetensors",
            {"format": "pt"},
        )
        weight_map |= dict.fromkeys(content, f"model{many}.safetensors")
    if len(files) > 1:
        total = sum(sum(sizes.values()) for sizes in files)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


INDEX = "model.safetensors.index.json"


def load_parts(model: "PreTrainedModel", folder: Path) -> None:
    """Puts the weights of a model folder in place, of each tensor this process's part; no other process is called.

    Adapters stay as they are.

    Raises OSError, KeyError, RuntimeError or SafetensorError for weights that do not fit.
    """
    values = base_weights(model)
    for layer in read_layers(model, folder):
        for name, saved in layer.items():
            value = values[name]
            saved = saved.to(value.dtype)
            value.detach().copy_(own_part(saved, value) if is_part(value) else saved)


def base_weights(model: "PreTrainedModel") -> dict[str, Tensor]:
    """The weights that a model's files hold, by the names that they have without adapters."""
    stored = _stored(model).items()
    return {name.replace(".base_layer", ""): value for name, value in stored if not _is_adapter(name)}


def read_layers(model: "PreTrainedModel", folder: Path) -> Iterator[dict[str, Tensor]]:
    """The weights of a model folder, a layer at a time, by the names that the model gives them without adapters.

    Raises OSError, KeyError, RuntimeError or SafetensorError for weights that do not fit the model.
    """
    from safetensors import safe_open
    from transformers.core_model_loading import revert_weight_conversion

    index: Mapping[str, str] = {}
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
    values = base_weights(model)
    for layer in _by_layer(values):
        shapes = {name: torch.empty(values[name].shape, device="meta") for name in layer}
        stored = {}
        for name in revert_weight_conversion(model, shapes):
            with safe_open(folder / index.get(name, "model.safetensors"), framework="pt") as file:
                stored[name] = file.get_tensor(name)
        ours = _as_ours(model, stored)
        for name, saved in ours.items():
            if saved.shape != values[name].shape:
                raise RuntimeError(f"{name} is {tuple(saved.shape)}, not {tuple(values[name].shape)}")
        yield ours


def _as_ours(model: "PreTrainedModel", stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the Hub's names as the model has them: the way back from `revert_weight_conversion`."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    transforms = get_model_conversion_mapping(model, add_legacy=False)
    renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
    converters = [t for t in transforms if isinstance(t, WeightConverter)]
    of_pattern = {pattern: t for t in converters for pattern in t.source_patterns}
    ours, collected = {}, {}
    for key in sorted(stored, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters)
        if pattern is None:
            ours[name] = stored[key]
            continue
        converter = collected.setdefault(name, copy.deepcopy(of_pattern[pattern]))
        converter.add_tensor(name, key, pattern, stored[key])
    for name, converter in collected.items():
        ours |= converter.convert(name, model=model, config=model.config)
    return ours


def _is_adapter(name: str) -> bool:
    return ".lora_" in name


def local(value: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    part: Any = value
    return part.to_local() if is_part(value) else value


def is_part(value: Tensor) -> bool:
    """Whether a tensor is one of which this process has a part."""
    module = sys.modules.get(
        "torch.distributed.tensor"
    )  # slow to import, and imported where anything is divided
    return module is not None and isinstance(value, module.DTensor)


def _is_resharded(base: nn.Module) -> bool:
    return any(map(is_part, base.parameters()))


def _parts(base: nn.Module) -> "Iterator[FSDPModule]":
    """What is gathered at once: each layer, and embedding, norm and head, together or apart."""
    fsdp = sys.modules.get("torch.distributed.fsdp")  # likewise
    return (module for module in base.modules() if fsdp is not None and isinstance(module, fsdp.FSDPModule))


def _unshard(base: nn.Module) -> None:
    for module in _parts(base):
        module.unshard()


def _reshard(base: nn.Module) -> None:
    for module in _parts(base):
        module.reshard()


def _reduce_behind_backward(base: Any, reduce: bool) -> None:
    """Whether a backward pass is followed by a sum over the processes, after which the weights are let go."""
    base.set_requires_gradient_sync(reduce)
    base.set_reshard_after_backward(reduce)


def _one_token(base: "PreTrainedModel") -> Tensor:
    """A pass through all weights, as short as can be; a scalar."""
    ids = torch.zeros((1, 1), dtype=torch.int64, device=base.device)
    return base(ids, attention_mask=torch.ones_like(ids, dtype=torch.bool)[None, None]).logits.sum()
