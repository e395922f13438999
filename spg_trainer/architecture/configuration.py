"""A model's settings: those of an embedded model without transformers, and what flags say of any."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from spg_trainer.architecture import llada
from spg_trainer.errors import ModelError
from spg_trainer.settings.model import ModelConfig


class EmbeddedConfig(SimpleNamespace):
    """The settings of an embedded model under transformers' names, and the shapes of its tensors, read from its files.

    What `--dry-run` asks of a configuration, without the seconds that transformers takes to be imported.
    """

    origin = "sequence"
    context = "blocks"
    block_size = 0

    @classmethod
    def read(cls, folder: Path) -> "EmbeddedConfig":
        """Of a folder in `models_folder()`."""
        stock = {theirs: ours for ours, theirs in llada.NAMES.items()}
        file = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings = {stock.get(name, name): value for name, value in file.items()}
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
        """The shapes of the linear layers' weights, all of which adapters change."""
        return [
            shape for name, shape in self.tensors.items() if len(shape) == 2 and re.search(r"\.\d+\.", name)
        ]


def answer(config: Any, m: ModelConfig) -> None:
    """Puts what flags say of a model into its settings, which are written with it."""
    if m.mask_token_id is not None:
        config.mask_token_id = m.mask_token_id
    if m.attention_block is not None:
        config.block_size = m.attention_block


def check_block_size(config: Any) -> None:
    """Raises ModelError where neither config.json nor a flag says who attends to whom."""
    if config.block_size is None:
        raise ModelError(
            "config.json does not say who attends to whom; pass $attention_block=N (or "
            "block_size=N to from_pretrained): 0 = all tokens to all, n = blocks of n tokens"
        )
