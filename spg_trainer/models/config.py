"""LLaDA's config.json, read and written under its own names."""

from typing import Any, ClassVar

from transformers import PreTrainedConfig

from spg_trainer.errors import ModelError

_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "activation_type": ("silu",),
    "alibi": (False, None),
    "attention_dropout": (0, None),
    "attention_layer_norm": (False, None),
    "bias_for_layer_norm": (False, None),
    "block_group_size": (1,),
    "block_type": ("llama",),
    "embedding_dropout": (0, None),
    "include_bias": (False, None),
    "include_qkv_bias": (False, None),
    "input_emb_norm": (False, None),
    "is_causal": (False, None),
    "layer_norm_type": ("rms",),
    "layer_norm_with_affine": (True,),
    "residual_dropout": (0, None),
    "rope": (True,),
    "rope_parameters": (None,),
    "rope_scaling": (None,),
    "scale_logits": (False, None),
}
_SIZES = (
    "d_model",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "mlp_hidden_size",
    "max_sequence_length",
    "vocab_size",
)


class LLaDAConfig(PreTrainedConfig):
    """The settings of a LLaDA model under the names of its own config.json; the defaults are LLaDA-8B's.

    The names that transformers uses (hidden_size, num_hidden_layers, ...) are aliases. Settings that this
    implementation does not read are kept and written back; `auto_map` is neither followed nor written.
    Raises ModelError for a setting that would need another architecture.
    """

    model_type = "llada"
    is_causal = False
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "num_key_value_heads": "n_kv_heads",
        "intermediate_size": "mlp_hidden_size",
        "max_position_embeddings": "max_sequence_length",
        "tie_word_embeddings": "weight_tying",
        "attention_bias": "include_qkv_bias",
        "mlp_bias": "include_bias",
        "initializer_range": "init_std",
        "hidden_act": "activation_type",
    }

    vocab_size: int | None = None
    embedding_size: int | None = None
    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int | None = None
    mlp_hidden_size: int | None = 12288
    mlp_ratio: int = 4
    max_sequence_length: int = 4096
    weight_tying: bool = False
    rope_theta: float = 500000.0
    rms_norm_eps: float = 1e-5
    activation_type: str = "silu"
    block_type: str = "llama"
    layer_norm_type: str = "rms"
    include_bias: bool = False
    include_qkv_bias: bool = False
    attention_dropout: float = 0.0
    init_std: float = 0.02
    use_cache: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    mask_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.pop("auto_map", None)
        settings = {
            **self.__dict__,
            **{self.attribute_map.get(key, key): value for key, value in kwargs.items()},
        }
        _check_supported(settings)
        for key in ("is_causal", "rope_parameters", "rope_scaling", "head_dim"):
            kwargs.pop(key, None)
        super().__post_init__(**kwargs)
        if self.vocab_size and self.embedding_size and self.vocab_size != self.embedding_size:
            raise ModelError(
                f"config.json has embedding_size {self.embedding_size} and vocab_size {self.vocab_size}; "
                "only equal sizes are supported, because a padded row could be sampled as a token that does "
                "not exist"
            )
        self.vocab_size = self.embedding_size or self.vocab_size or 126464
        self.embedding_size = self.vocab_size
        if self.n_kv_heads is None:
            self.n_kv_heads = 1 if getattr(self, "multi_query_attention", None) else self.n_heads
        if self.mlp_hidden_size is None:
            self.mlp_hidden_size = self.mlp_ratio * self.d_model
        self._check_sizes()
        self.head_dim = self.d_model // self.n_heads
        self.rope_parameters = {"rope_type": "default", "rope_theta": float(self.rope_theta)}

    def to_dict(self) -> dict[str, Any]:
        """The settings as the Hub's config.json spells them, which is also what `save_pretrained` writes."""
        settings = super().to_dict()
        for key in ("is_causal", "rope_parameters", "head_dim", "auto_map"):
            settings.pop(key, None)
        settings["embedding_size"] = settings["vocab_size"]
        settings["architectures"] = ["LLaDAModelLM"]
        return settings

    def to_diff_dict(self) -> dict[str, Any]:
        """What goes into config.json: `to_dict` without the common defaults, dtype as older tools call it."""
        settings = super().to_diff_dict()
        if "dtype" in settings:
            settings["torch_dtype"] = settings.pop("dtype")
        return settings

    def _check_sizes(self) -> None:
        for name in _SIZES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ModelError(
                    f"{name} is {value!r}; a LLaDA config.json needs a whole number of at least 1 there"
                )
        if self.d_model % (2 * self.n_heads):
            raise ModelError(
                f"d_model {self.d_model} with n_heads {self.n_heads}: rotary positions need d_model to be a "
                f"multiple of 2 * n_heads = {2 * self.n_heads}"
            )
        if self.n_heads % self.n_kv_heads:
            raise ModelError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")


def _check_supported(settings: dict[str, Any]) -> None:
    for name, allowed in _SUPPORTED.items():
        if name in settings and settings[name] not in allowed:
            raise ModelError(
                f"config.json has {name} = {settings[name]!r}, this LLaDA implementation needs "
                f"{allowed[0]!r}: the checkpoint is of another architecture and would give wrong results"
            )
