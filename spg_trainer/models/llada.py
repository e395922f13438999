"""LLaDA on the Llama classes of transformers: no remote code in, the original names out.

The published architecture (LLaDA, arXiv 2502.09992) is Llama without the causal mask: RMSNorm, rotary positions,
SwiGLU, no biases. What differs is kept here: bidirectional attention, rotation in float32, an end token that may also
be the padding, and the Hub's names for settings and tensors, which are read and written back unchanged.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaModel,
    LlamaPreTrainedModel,
    LlamaRotaryEmbedding,
    eager_attention_forward,
    rotate_half,
)

from spg_trainer.errors import ModelError
from spg_trainer.models.body import Checked, Embedding, RMSNorm, pick
from spg_trainer.models.family import BY_ARCHITECTURE
from spg_trainer.models.pattern import Pattern

_REQUIRED: dict[str, Any] = {
    "activation_type": "silu",
    "block_group_size": 1,
    "block_type": "llama",
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "rope": True,
    "rope_parameters": None,
    **dict.fromkeys("attention_dropout embedding_dropout residual_dropout".split(), 0),
    **dict.fromkeys(
        "alibi attention_layer_norm bias_for_layer_norm include_bias include_qkv_bias".split(), False
    ),
    **dict.fromkeys("input_emb_norm is_causal rope_scaling scale_logits".split(), False),
}
"""What this implementation can run; whatever is off may also be null."""
_DERIVED = ("is_causal", "rope_parameters", "rope_scaling", "head_dim")
"""Settings that transformers knows and the Hub's config.json leaves out."""


class LLaDAConfig(PreTrainedConfig):
    """The settings of a LLaDA model under the names of its own config.json; the defaults are LLaDA-8B's.

    The names that transformers uses (hidden_size, num_hidden_layers, ...) are aliases. Settings that are not read here
    are kept and written back; `auto_map` is neither followed nor written. Raises ModelError for another architecture's.
    """

    model_type = "llada"
    is_causal = False
    mask_words, text_ends, turn_ends = (), (), ("<|eot_id|>",)
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
        given = {self.attribute_map.get(key, key): value for key, value in kwargs.items()}
        for name, value in (self.__dict__ | given).items():
            required = _REQUIRED.get(name, value)
            if value != required and (required or value is not None):
                raise ModelError(f"config.json has {name} = {value!r}, but LLaDA has {required!r}")
        for key in _DERIVED:
            kwargs.pop(key, None)
        super().__post_init__(**kwargs)
        self.vocab_size = self.vocab_size or self.embedding_size or 126464
        self.embedding_size = self.embedding_size or self.vocab_size
        if (
            self.vocab_size != self.embedding_size
        ):  # a padded row could be sampled as a token that is not there
            raise ModelError(f"embedding_size {self.embedding_size} is not vocab_size {self.vocab_size}")
        if self.n_kv_heads is None:
            self.n_kv_heads = 1 if getattr(self, "multi_query_attention", None) else self.n_heads
        if self.mlp_hidden_size is None:
            self.mlp_hidden_size = self.mlp_ratio * self.d_model
        if self.d_model % (2 * self.n_heads) or self.n_heads % self.n_kv_heads:
            raise ModelError(
                f"d_model {self.d_model} must be a multiple of 2 * n_heads, n_heads {self.n_heads} one of "
                f"n_kv_heads {self.n_kv_heads}"
            )
        self.head_dim = self.d_model // self.n_heads
        self.rope_parameters = {"rope_type": "default", "rope_theta": float(self.rope_theta)}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As transformers has it; another family that calls itself `llada` is told by its `architectures`."""
        for name in config_dict.get("architectures") or ():
            if name in BY_ARCHITECTURE:
                return BY_ARCHITECTURE[name].from_dict(config_dict, **kwargs)
        return super().from_dict(config_dict, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The settings as the Hub's config.json spells them, which is also what `save_pretrained` writes."""
        settings = {k: v for k, v in super().to_dict().items() if k not in (*_DERIVED, "auto_map")}
        settings["embedding_size"] = settings["vocab_size"]
        settings["architectures"] = ["LLaDAModelLM"]
        return settings

    def to_diff_dict(self) -> dict[str, Any]:
        """What goes into config.json: `to_dict` without the common defaults, dtype as older tools call it."""
        settings = super().to_diff_dict()
        if "dtype" in settings:
            settings["torch_dtype"] = settings.pop("dtype")
        return settings


class LLaDARotaryEmbedding(LlamaRotaryEmbedding):
    """Cosines and sines in float32 whatever the model's dtype; the frequencies survive `model.bfloat16()`."""

    @torch.no_grad()
    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """x: gives the device; position_ids (B, S). Returns cos, sin, each (B, S, head_dim) float32."""
        angles = position_ids[..., None].float() * self.inv_freq.to(x.device)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    def _apply(self, fn: Any, recurse: bool = True) -> "LLaDARotaryEmbedding":
        exact = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, before in exact.items():
            after = self._buffers[name]
            if after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        return self


class LLaDAAttention(LlamaAttention):
    """Llama's attention over all positions, queries and keys rotated in float32 as published."""

    def __init__(self, config: LLaDAConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        # Without a mask, SDPA and flash attention fall back to this attribute when called outside the model.
        self.is_causal = False

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        keep: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """hidden_states (B, S, D) to (B, S, D), or (B, n, D) if only the positions keep (B, n) ask, and the weights."""
        asking, ask_position = hidden_states, position_embeddings
        if keep is not None:
            asking = pick(hidden_states, keep)
            ask_position = tuple(pick(x.expand(len(keep), -1, -1), keep) for x in position_embeddings)
            if attention_mask is not None and attention_mask.shape[2] > 1:  # see LLaDADecoderLayer
                attention_mask = pick(attention_mask.squeeze(1), keep).unsqueeze(1)
        rows, length = asking.shape[:2]
        projected = (self.q_proj(asking), self.k_proj(hidden_states), self.v_proj(hidden_states))
        query, key, value = (x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for x in projected)
        query, key = _rotate(query, *ask_position), _rotate(key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.attention_dropout if self.training else 0.0
        output, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        return self.o_proj(output.reshape(rows, length, -1)), weights


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, H, S, head_dim) in any dtype; cos, sin (B, S, head_dim) float32. Rounds once, at the end."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * cos.unsqueeze(1) + rotate_half(wide) * sin.unsqueeze(1)).to(x.dtype)


class LLaDADecoderLayer(LlamaDecoderLayer):
    """Llama's layer with LLaDA's attention and norms; the last one may compute some positions only."""

    def __init__(self, config: LLaDAConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.self_attn = LLaDAAttention(config, layer_idx)
        self.input_layernorm = RMSNorm(config.d_model, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.d_model, eps=config.rms_norm_eps)
        self.is_last = layer_idx == config.n_layers - 1

    def forward(self, hidden_states: Tensor, keep: Tensor | None = None, **kwargs: Any) -> Tensor:
        """hidden_states (B, S, D) to the same, or in the last layer to (B, n, D) at the positions keep (B, n).

        No later layer looks at the other positions, so leaving them out changes nothing.
        """
        if keep is None or not self.is_last:
            return super().forward(hidden_states, **kwargs)
        (rows, length), mask = hidden_states.shape[:2], kwargs.get("attention_mask")
        if mask is not None and tuple(mask.shape[:-1]) not in ((rows, 1, length), (rows, 1, 1)):
            # Flash attention masks keys by rows (B, S), and so takes as many queries; others have forms of their own.
            return pick(super().forward(hidden_states, **kwargs), keep)
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), keep=keep, **kwargs)
        kept = pick(hidden_states, keep) + attended
        return kept + self.mlp(self.post_attention_layernorm(kept))


class LLaDAPreTrainedModel(LlamaPreTrainedModel):
    config: LLaDAConfig
    config_class = LLaDAConfig
    _no_split_modules: ClassVar[list[str]] = ["LLaDADecoderLayer"]
    _can_record_outputs: ClassVar = {"hidden_states": LLaDADecoderLayer, "attentions": LLaDAAttention}


class LLaDAModel(LLaDAPreTrainedModel, LlamaModel):
    """The body: token ids (B, S) to hidden states (B, S, D), the last norm applied."""

    def __init__(self, config: LLaDAConfig) -> None:
        super(LlamaModel, self).__init__(config)
        # LLaDA pads with its end token: as padding_idx its embedding would start at zero and never learn.
        self.padding_idx = None
        self.vocab_size = config.vocab_size
        self.embed_tokens = Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(LLaDADecoderLayer(config, index) for index in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, eps=config.rms_norm_eps)
        self.rotary_emb = LLaDARotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()


class LLaDAForMaskedLM(Checked, LLaDAPreTrainedModel, LlamaForCausalLM):
    """Body and output head: `model(input_ids, attention_mask).logits` (B, S, V), position i for token i."""

    pattern = Pattern()
    shift = 0

    def __init__(self, config: LLaDAConfig) -> None:
        super(LlamaForCausalLM, self).__init__(config)
        self.model = LLaDAModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()


def _renamings() -> list[WeightRenaming]:
    """The Hub's tensor names and ours; left to right on loading, right to left on saving."""
    whole = {"wte": "model.embed_tokens", "ln_f": "model.norm", "ff_out": "lm_head"}
    block = {
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
    pairs = [(rf"^model.transformer.{old}.", rf"^{new}.") for old, new in whole.items()]
    pairs += [
        (rf"^model.transformer.blocks.(\d+).{old}.", rf"^model.layers.(\d+).{new}.")
        for old, new in block.items()
    ]
    return [WeightRenaming(old.replace(".", r"\."), new.replace(".", r"\.")) for old, new in pairs]


def register() -> None:
    """Teaches the Auto classes to open `model_type: llada`, also after another package took the name."""
    AutoConfig.register("llada", LLaDAConfig, exist_ok=True)
    for auto in (AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM):
        auto.register(LLaDAConfig, LLaDAForMaskedLM, exist_ok=True)
    register_checkpoint_conversion_mapping("llada", _renamings(), overwrite=True)
