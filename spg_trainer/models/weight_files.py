"""The files of a model's weights, read and written a layer at a time, so that no process has all of them in memory.

The files are safetensors as `save_pretrained` writes them, under the Hub's names. These are not always the names of our
tensors (`_as_ours`).
"""

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from spg_trainer.distributed import is_expert_part, is_part, local, own_part, whole
from spg_trainer.errors import ModelError, first_line
from spg_trainer.models.forward import base_model

FILE_BYTES = 10**8
"""The most bytes of a file of weights, unless one layer is larger. While a model is written, one file is in memory."""


INDEX = "model.safetensors.index.json"
"""The file that says which weight is in which file, if a model has several files of weights."""


def whole_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, whole tensor on the CPU) for the weights of a sharded model; all processes iterate together."""
    for name, value in _stored(base_model(model)).items():
        yield name, whole(value.detach()).cpu()


def save_whole(model: PreTrainedModel, tensors: Iterator[tuple[str, Tensor]], folder: Path) -> None:
    """Writes config.json and the weights that `tensors` yields as `save_pretrained` does, a file at a time.

    tensors: (name, whole tensor of the weight's shape), in the order of `whole_tensors`.
    """
    model.config.save_pretrained(folder)
    if model.can_generate():  # how it decodes; other families here have no such file
        model.generation_config.save_pretrained(folder)
    files = _files_of(model)
    number_of_files = len(files) + bool(model.unread)
    weight_map: dict[str, str] = {}  # {tensor's name on the Hub: file}
    total = 0
    for number in range(1, number_of_files + 1):
        file = "model.safetensors"
        if number_of_files > 1:
            file = f"model-{number:05d}-of-{number_of_files:05d}.safetensors"
        content = model.unread
        if number <= len(files):
            content = revert_weight_conversion(model, dict(next(tensors) for _ in files[number - 1]))
        total += sum(value.nbytes for value in content.values())
        save_file(
            {name: value.contiguous() for name, value in content.items()},
            folder / file,
            {"format": "pt"},
        )
        weight_map |= dict.fromkeys(content, file)
    if number_of_files > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _files_of(model: PreTrainedModel) -> list[dict[str, int]]:
    """{tensor's name: bytes} of each file of a model's weights; a file has layers up to `FILE_BYTES`, in order."""
    files: list[dict[str, int]] = [{}]
    values = _stored(model)
    for layer in by_layer(values):
        sizes = {name: values[name].numel() * values[name].element_size() for name in layer}
        if files[-1] and sum((files[-1] | sizes).values()) > FILE_BYTES:
            files.append({})
        files[-1] |= sizes
    return files


def load_parts(model: PreTrainedModel, folder: Path) -> None:
    """Reads this process's part of each weight from a model folder into the model; adapters stay as they are.

    Processes do not communicate here. Raises OSError, KeyError, RuntimeError or SafetensorError for weights that do not
    fit.
    """
    values = base_weights(model)
    for layer in read_layers(model, folder):
        for name, saved in layer.items():
            value = values[name]
            saved = saved.to(value.dtype)
            if is_expert_part(value):
                local(value.detach()).copy_(saved)
            else:
                value.detach().copy_(own_part(saved, value) if is_part(value) else saved)


def base_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """{name without adapters: weight} of the weights that a model's files hold."""
    weights_of_base = {
        base_name(name): value for name, value in model.state_dict().items() if not is_adapter(name)
    }
    return {name: value for name, value in weights_of_base.items() if name not in model.all_tied_weights_keys}


def read_layers(model: PreTrainedModel, folder: Path) -> Iterator[dict[str, Tensor]]:
    """Yields the weights of a model folder, one layer at a time, as {name without adapters: weight}.

    Of experts that `--expert-parallel` divides, only those of this process are read.

    Raises OSError, KeyError, RuntimeError or SafetensorError for weights that do not fit the model.
    """
    index: Mapping[str, str] = {}
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
    values = base_weights(model)
    for layer in by_layer(values):
        # Converting tensors without numbers gives the names under which the Hub keeps a layer.
        parts = {
            name: local(values[name]) if is_expert_part(values[name]) else values[name] for name in layer
        }
        shapes = {name: torch.empty(part.shape, device="meta") for name, part in parts.items()}
        first = max(map(_first_expert, (values[name] for name in layer)))
        stored = {}
        for name in revert_weight_conversion(model, shapes):
            in_file = _numbered_from(first, name)
            with safe_open(folder / index.get(in_file, "model.safetensors"), framework="pt") as file:
                part, tensor = shapes.get(name), file.get_slice(in_file)
                if is_expert_part(values.get(name)) and tensor.get_shape()[1:] == list(part.shape[1:]):
                    # The file has the experts of a layer in one tensor.
                    stored[name] = tensor[first : first + len(part)]
                else:
                    stored[name] = file.get_tensor(in_file)
        tensors = _as_ours(model, stored)
        for name, saved in tensors.items():
            if saved.shape != parts[name].shape:
                raise RuntimeError(f"{name} is {tuple(saved.shape)}, not {tuple(parts[name].shape)}")
        yield tensors


def _first_expert(value: Any) -> int:
    """The number of the first expert that this process has of a tensor; 0 for a tensor without divided experts."""
    return value.device_mesh.get_local_rank() * len(local(value)) if is_expert_part(value) else 0


def _numbered_from(first: int, name: str) -> str:
    """The name on the Hub of an expert's tensor, from its name among the experts that begin with number `first`."""
    return re.sub(r"(?<=\.experts\.)\d+", lambda number: str(int(number[0]) + first), name)


def unreadable(folder: Path, error: Exception) -> ModelError:
    """The error to raise if `read_layers` or `load_parts` has failed."""
    return ModelError(
        f"model {str(folder)!r}: its weights cannot be read in parts: {first_line(error)}. $shard and merge read "
        "safetensors under the Hub's names, as save_pretrained writes them"
    )


def _stored(base: Any) -> dict[str, Tensor]:
    """{name: tensor} of the tensors that a model's files hold: all except a head that is the embedding."""
    tensors = base.state_dict()
    return {name: tensor for name, tensor in tensors.items() if name not in base.all_tied_weights_keys}


def by_layer(names: Iterable[str]) -> list[list[str]]:
    """The names of tensors, grouped by layer, because the Hub may keep several tensors of a layer as one.

    The first three parts of a name are its layer: `model.layers.7`.
    """
    return [list(group) for _, group in groupby(names, lambda name: ".".join(name.split(".")[:3]))]


def _as_ours(model: PreTrainedModel, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Converts tensors under the Hub's names to the model's: the inverse of `revert_weight_conversion`."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    transforms = get_model_conversion_mapping(model, add_legacy=False)
    renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
    converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    ours = {}
    collecting = {}  # {our name: the converter that collects the stored tensors of which this one is made}
    for key in sorted(stored, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters)
        if pattern is None:  # it is stored unchanged, at most under another name
            ours[name] = stored[key]
            continue
        converter = collecting.setdefault(name, copy.deepcopy(by_pattern[pattern]))
        converter.add_tensor(name, key, pattern, stored[key])
    for name, converter in collecting.items():
        ours |= converter.convert(name, model=model, config=model.config)
    return ours


def is_adapter(name: str) -> bool:
    """Whether a tensor of this name belongs to an adapter: a factor, a whole module, or rows of the embedding."""
    return any(part in name for part in (".lora_", ".modules_to_save.", ".trainable_tokens_"))


def base_name(name: str) -> str:
    """The name that a tensor or module of a base has without adapters, from its name under peft."""
    for wrapper in (".base_layer", ".original_module", ".token_adapter"):
        name = name.replace(wrapper, "")
    return name
