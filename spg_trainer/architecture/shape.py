"""A model in numbers, from its configuration alone: how many weights, of which widths, and its attention pattern."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch

from spg_trainer.architecture.layers import EXPERTS, expert_layers, lora_layers, published_names
from spg_trainer.architecture.llada import EmbeddedConfig, apply_flags, check_block_size
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ModelError, written
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.weights import Weights, is_embedded, known_settings, resolve_model


class Shape(NamedTuple):
    """Numbers of a model; weights are counted, not bytes."""

    layers: int
    width: int
    """Width of the hidden states."""
    ffn: int
    """Inner width of the feed-forward part; in a mixture, summed over the experts that a token takes."""
    queries: int
    """Width of the queries of all heads together."""
    keys: int
    """Width of all keys together; heads may share them."""
    vocabulary: int
    body: int
    """Weights of the layers and the last norm."""
    embedding_and_head: int
    """Weights of the embedding and the head; one matrix if they are tied."""
    active: int
    """Weights of the layers that one token uses: all but those of experts that it does not take."""
    experts: int
    """Weights of the experts among which a token chooses."""
    linear: int
    """Weights of linear layers, without the head and experts: what --load-4bit stores in 4 bits."""
    largest_linear: int
    """Weights of the largest of these layers."""
    largest: int
    """Weights of the largest tensor."""
    pattern: Pattern

    @property
    def whole(self) -> int:
        """The number of all weights, without adapters."""
        return self.body + self.embedding_and_head


def shape_of(config: Any) -> Shape:
    """The numbers of a model. config: its configuration, under the names of transformers."""
    shapes, linear_shapes = _tensors(config)
    sizes, linear = list(map(prod, shapes)), list(map(prod, linear_shapes))
    width, layers_of_experts = config.hidden_size, expert_layers(config)
    if layers_of_experts:
        chosen, expert_width = config.num_experts_per_tok, config.moe_intermediate_size
        # Every token takes the shared experts besides those that are chosen for it.
        ffn = (chosen + getattr(config, "n_shared_experts", 0)) * expert_width
        expert_size = 3 * width * expert_width  # an expert has three matrices: gate, up and down
        experts = layers_of_experts * config.num_local_experts * expert_size
        idle = experts - layers_of_experts * chosen * expert_size
    else:
        ffn, experts, idle = config.intermediate_size, 0, 0
    head_dim = getattr(config, "head_dim", None) or width // config.num_attention_heads
    embedding_and_head = config.vocab_size * width * (1 if config.tie_word_embeddings else 2)
    body = sum(sizes) - embedding_and_head
    return Shape(
        layers=config.num_hidden_layers,
        width=width,
        ffn=ffn,
        queries=head_dim * config.num_attention_heads,
        keys=head_dim * config.num_key_value_heads,
        vocabulary=config.vocab_size,
        body=body,
        embedding_and_head=embedding_and_head,
        active=body - idle,
        experts=experts,
        linear=sum(linear),
        largest_linear=max(linear),
        largest=max(sizes),
        pattern=pattern_of(config),
    )


def count_lora(config: Any, r: int, targets: Sequence[str] = ("all",), *, experts: bool = False) -> int:
    """The number of weights in the adapters of rank `r` that `add_lora` puts on a model of this configuration."""
    if not r:
        return 0
    # The adapter of a matrix (out, in) has the factors (out, r) and (r, in): r * (out + in) weights.
    return r * sum(
        number * sum(matrix) for number, matrix in adapted_matrices(config, targets, experts=experts)
    )


def adapted_matrices(
    config: Any, targets: Sequence[str] = ("all",), *, experts: bool = False
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yields (how many there are of it, the shape of a matrix) of the weights on which `add_lora` puts adapters."""
    layers = lora_layers(config, targets, experts=experts)
    if isinstance(config, EmbeddedConfig):
        ours = dict(published_names(config))
        shapes = {name: shape for name, shape in config.tensors.items() if re.search(r"\.\d+\.", name)}
    else:
        ours, shapes = {}, {name: p.shape for name, p in _on_meta(config).named_parameters()}
    for name, shape in shapes.items():
        if not re.search(r"\.\d+\.", name):  # a weight outside of the transformer layers
            continue
        _, _, module = name.removesuffix(".weight").rpartition(".")
        if name.endswith(EXPERTS):
            if experts:
                num_experts, *shape_of_matrix = shape  # the matrices of a layer's experts are one tensor
                yield num_experts, tuple(shape_of_matrix)
        elif ours.get(module, module) in layers:
            yield 1, tuple(shape)


def _tensors(config: Any) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """(shapes of all weights, shapes of the weights of linear layers without the head)."""
    if isinstance(config, EmbeddedConfig):
        return list(config.tensors.values()), config.linear
    return _tensors_of(_on_meta(config))


@lru_cache(maxsize=1)
def _tensors_of(model: Any) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """`_tensors` of a model. The last result is kept, because an estimate asks for it with each setting it tries."""
    head = model.get_output_embeddings()
    linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer is not head]
    return [p.shape for p in model.parameters()], [layer.weight.shape for layer in linear]


_last_on_meta: dict[tuple[type, str], Any] = {}


def _on_meta(config: Any) -> Any:
    """A model of this configuration, without memory for its weights; the last one is kept, as in `_tensors_of`."""
    from transformers import AutoModelForMaskedLM

    key = type(config), config.to_json_string()
    if key not in _last_on_meta:
        _last_on_meta.clear()
        with torch.device("meta"):
            _last_on_meta[key] = AutoModelForMaskedLM.from_config(config)
    return _last_on_meta[key]


def pattern_of(config: Any) -> Pattern:
    """Which tokens attend to which in a model of this configuration."""
    return Pattern(config.block_size, config.origin, config.context)


def find_config(settings: ModelConfig, env: str) -> Any:
    """The configuration of the model that the settings name, from local files only; None if it is not known.

    Raises ModelError if neither the configuration nor a flag says which tokens attend to which; opening the model would
    raise it, too.
    """
    if is_embedded(settings.model, "new"):
        from spg_trainer.models.tiny import config_of_new

        return config_of_new(settings)
    weights = resolve_model(settings.model, env)
    if is_embedded(settings.model, "tiny"):
        return _with_flags(EmbeddedConfig.read(Path(weights.base)), weights, settings)
    return open_config(weights, settings)


def _with_flags(config: Any, weights: Weights, settings: ModelConfig) -> Any:
    """The configuration with the values of flags; raises ModelError if it is then inconsistent."""
    try:
        apply_flags(config, settings)
        if not 0 <= (config.mask_token_id or 0) < config.vocab_size:
            raise ModelError(
                f"mask_token_id {config.mask_token_id} is none of its {config.vocab_size} embeddings; correct "
                "$mask_token_id, or its config.json"
            )
        check_block_size(config)
    except ModelError as error:
        raise ModelError(f"model {weights.base!r}: {written(error)}") from error
    return config


def open_config(weights: Weights, settings: ModelConfig) -> Any:
    """As `find_config`, for a model whose files transformers reads. The result is enough to open its tokenizer."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from spg_trainer.models.families import open_config, refuse_unknown

    base, adapter = weights.base, weights.adapter
    place = adapter if adapter is not None and (adapter / "config.json").is_file() else base
    try:
        config = open_config(place, revision=settings.revision or "main", local_files_only=True)
    except ModelError:  # the user must see this error, although it is a ValueError, too
        raise
    except (OSError, ValueError):  # the model is not downloaded, or of a kind that transformers does not know
        known = known_settings(base)
        if known.get("model_type") not in CONFIG_MAPPING:
            return None
        config = CONFIG_MAPPING[known["model_type"]].from_dict(known)
    try:
        refuse_unknown(config)
    except ModelError as error:
        raise ModelError(f"model {base!r}: {written(error)}") from error
    return _with_flags(config, weights, settings)
