"""The config.json of the first LLaDA models (arXiv 2502.09992) and the names of their weights, for `families.py`.

The layers are transformers' Llama, changed in `models/body.py`: its `Float32Angles` and `Float32Rotation` are the
rotary embedding.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from spg_trainer.architecture import llada
from spg_trainer.errors import ModelError
from spg_trainer.settings.model import ModelConfig

if TYPE_CHECKING:
    from transformers.core_model_loading import WeightRenaming


NAMES = {
    "attention_bias": "include_qkv_bias",
    "hidden_act": "activation_type",
    "hidden_size": "d_model",
    "initializer_range": "init_std",
    "intermediate_size": "mlp_hidden_size",
    "max_position_embeddings": "max_sequence_length",
    "mlp_bias": "include_bias",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "num_key_value_heads": "n_kv_heads",
    "tie_word_embeddings": "weight_tying",
}
"""{transformers' name of a setting: config.json's name}."""
REQUIRED: dict[str, Any] = {
    "activation_type": "silu",
    "block_group_size": 1,
    "block_type": "llama",
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "rope": True,
    **dict.fromkeys(("embedding_dropout", "residual_dropout"), 0),
    **dict.fromkeys(
        "alibi attention_layer_norm bias_for_layer_norm include_bias include_qkv_bias".split(), False
    ),
    **dict.fromkeys("input_emb_norm is_causal scale_logits".split(), False),
}
"""The values that config.json must have for these settings, if it names them. With these values LLaDA's own code is
Llama without a causal mask."""
MODULES = {
    "attn_norm": "input_layernorm",
    "ff_norm": "post_attention_layernorm",
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
}
"""{published name of a module of each layer: transformers' name}."""
UNREAD = frozenset(
    "alibi_bias_max attention_layer_norm_with_affine embedding_size flash_attention init_cutoff_factor init_device "
    "init_fn mlp_ratio multi_query_attention precision rope_full_precision".split()
)
"""Settings of config.json that need no check: they change nothing in a pass, or only `derive` reads them."""


def derive(settings: dict[str, Any]) -> dict[str, Any]:
    """The values that a config.json may leave out, computed from those that it has; under transformers' names.

    Raises ModelError for sizes that do not fit each other.
    """
    width, heads, vocabulary = settings["d_model"], settings["n_heads"], settings.get("vocab_size")
    embeddings = settings.get("embedding_size") or vocabulary
    if vocabulary and vocabulary != embeddings:  # a padded row could be sampled as a token that is not there
        raise ModelError(f"embedding_size {embeddings} is not vocab_size {vocabulary}")
    default_kv_heads = 1 if settings.get("multi_query_attention") else heads
    kv_heads = settings.get("n_kv_heads") or default_kv_heads
    if width % (2 * heads) or heads % kv_heads:
        raise ModelError(
            f"d_model {width} must be a multiple of 2 * n_heads, and n_heads {heads} a multiple of "
            f"n_kv_heads {kv_heads}"
        )
    return {
        "vocab_size": embeddings,
        "num_key_value_heads": kv_heads,
        "intermediate_size": settings.get("mlp_hidden_size") or settings["mlp_ratio"] * width,
    }


def renamings() -> "list[WeightRenaming]":
    """The Hub's tensor names and ours; left to right on loading, right to left on saving."""
    from transformers.core_model_loading import WeightRenaming

    modules = {"wte": "model.embed_tokens", "ln_f": "model.norm", "ff_out": "lm_head"}
    pairs = [(rf"^model.transformer.{old}.", rf"^{new}.") for old, new in modules.items()]
    pairs += [
        (rf"^model.transformer.blocks.(\d+).{old}.", rf"^model.layers.(\d+).{new}.")
        for old, new in MODULES.items()
    ]
    return [WeightRenaming(old.replace(".", r"\."), new.replace(".", r"\.")) for old, new in pairs]


class EmbeddedConfig(SimpleNamespace):
    """The configuration of a tiny model that the package ships, under transformers' names, with its tensors' shapes.

    It has what `--dry-run` needs of a configuration, without the seconds that importing transformers takes. `origin`,
    `context` and `block_size` are as in `Pattern`.
    """

    origin = "sequence"
    context = "blocks"
    block_size = 0
    noise = "mask"

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
    for flag, value in (
        ("mask_token_id", settings.mask_token_id),
        ("attention_block", settings.attention_block),
    ):
        if config.noise != "mask" and value is not None:
            raise ModelError(
                f"${flag}={value}: a {config.model_type} hides tokens by random ones in canvases of "
                f"{config.block_size} tokens, which config.json says; leave it out"
            )
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
