"""Reads the configuration of a shipped model without transformers, and puts flags into any model's configuration."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from spg_trainer.architecture import llada
from spg_trainer.errors import ModelError
from spg_trainer.settings.model import ModelConfig


class EmbeddedConfig(SimpleNamespace):
    """The configuration of a tiny model that the package ships, under transformers' names, with its tensors' shapes.

    It has what `--dry-run` needs of a configuration, without the seconds that importing transformers takes. `origin`,
    `context` and `block_size` are as in `Pattern`.
    """

    origin = "sequence"
    context = "blocks"
    block_size = 0

    @classmethod
    def read(cls, folder: Path) -> "EmbeddedConfig":
        """The configuration of a model in `models_folder()`, from its config.json and the header of its weights."""
        transformers_name = {in_file: name for name, in_file in llada.NAMES.items()}
        file = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings = {transformers_name.get(name, name): value for name, value in file.items()}
        with (folder / "model.safetensors").open("rb") as weights:
            header = json.loads(weights.read(int.from_bytes(weights.read(8), "little")))
        shapes = {
            name: tuple(description["shape"])
            for name, description in header.items()
            if name != "__metadata__"
        }
        return cls(**settings, tensors=shapes)

    @property
    def linear(self) -> list[tuple[int, ...]]:
        """The shapes of the weights of all linear layers, without the head; adapters change each of them."""
        matrices = {name: shape for name, shape in self.tensors.items() if len(shape) == 2}
        # Names of weights in layers have the layer's number. Those of the embedding and the head have none.
        return [shape for name, shape in matrices.items() if re.search(r"\.\d+\.", name)]


def apply_flags(config: Any, settings: ModelConfig) -> None:
    """Writes what flags say of a model into its configuration, which is saved with the model."""
    if settings.mask_token_id is not None:
        config.mask_token_id = settings.mask_token_id
    if settings.attention_block is not None:
        config.block_size = settings.attention_block


def check_block_size(config: Any) -> None:
    """Raises ModelError if neither config.json nor a flag says who attends to whom."""
    if config.block_size is None:
        raise ModelError(
            "config.json does not say who attends to whom; pass $attention_block=N (or "
            "block_size=N to from_pretrained): 0 = all tokens to all, n = blocks of n tokens"
        )
