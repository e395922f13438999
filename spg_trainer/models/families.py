"""The published families as tables; facts and sources are in docs/models.md.

`family.py` says what the fields of a table mean, and how to add a family from outside.
"""

from typing import Any

from transformers import Qwen2Tokenizer
from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from transformers.core_model_loading import Split, WeightConverter, WeightRenaming, WeightTransform
from transformers.models.glm4_moe.modeling_glm4_moe import Glm4MoeForCausalLM
from transformers.models.llama.modeling_llama import LlamaForCausalLM
from transformers.models.ministral3.modeling_ministral3 import Ministral3ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeForCausalLM

from spg_trainer.architecture import llada
from spg_trainer.errors import ModelError
from spg_trainer.models.family import Family


def _stacked_experts() -> list[WeightTransform]:
    """Conversions that put the experts of a layer into two tensors; on the Hub each expert has tensors of its own."""
    return get_checkpoint_conversion_mapping("qwen3_moe")


def _derive_llada_moe(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that LLaDA-MoE's config.json writes differently from Qwen3's class.

    config.json has a list of all layers, in which a 0 marks each layer without experts.
    """
    derived: dict[str, Any] = {"norm_topk_prob": False}
    if "moe_layer_freq" in settings:
        has_experts = settings["moe_layer_freq"] or ()
        derived["mlp_only_layers"] = [layer for layer, has in enumerate(has_experts) if not has]
    return derived


def _llada2_weights() -> list[WeightTransform]:
    """The weight names of LLaDA 2; its queries, keys and values are one tensor on the Hub."""
    names = {  # {pattern of the Hub's name: of the stock class's}
        r"^model\.word_embeddings\.": r"^model\.embed_tokens\.",
        r"\.attention\.dense\.": r"\.self_attn\.o_proj\.",
        r"\.attention\.query_layernorm\.": r"\.self_attn\.q_norm\.",
        r"\.attention\.key_layernorm\.": r"\.self_attn\.k_norm\.",
        r"\.mlp\.gate\.expert_bias": r"\.mlp\.gate\.e_score_correction_bias",
    }
    parts = [rf"\.self_attn\.{part}_proj\.weight" for part in "qkv"]
    fused = WeightConverter([r"\.attention\.query_key_value\.weight"], parts, [Split(0)])
    return [*(WeightRenaming(hub, stock) for hub, stock in names.items()), fused, *_stacked_experts()]


def _refuse_left_to_right(settings: dict[str, Any]) -> dict[str, Any]:
    """Raises ModelError for weights of Nemotron-Labs that were trained only from left to right; derives no settings."""
    if settings.get("dlm_paradigm") == "autoregressive":
        raise ModelError(
            "config.json has dlm_paradigm = 'autoregressive': these weights write from left to right. Take a "
            "checkpoint of a diffusion model, whose dlm_paradigm is 'bidirectional' or 'block_diff'."
        )
    return {}


def _nemotron_labs_weights() -> list[WeightTransform]:
    """The weight names of Nemotron-Labs-Diffusion."""
    return [
        WeightRenaming(r"^encoder\.", r"^model\."),
        WeightRenaming(r"^diffusion_head\.", r"^lm_head\."),
    ]


_UNREAD_OF_SDAR = frozenset(
    "debug ep_size fuse_cross_entropy micro_forward skip_checkpoint use_deepep".split()
)
"""Settings in the config.json of SDAR's models that change nothing in a pass (`Family.unread`)."""

# The first three values of each family are its `model_type`, `architecture` and `stock`.
FAMILIES = (
    Family(
        "llada",
        "LLaDAModelLM",
        LlamaForCausalLM,
        names=llada.NAMES,
        required=llada.REQUIRED,
        unread=llada.UNREAD,
        derive=llada.derive,
        weights=llada.renamings,
        rotates_in_float32=True,
    ),
    Family(
        "Dream",
        "DreamModel",
        Qwen2ForCausalLM,
        shift=1,
        required={"use_mrope": False},
        tokenizer=Qwen2Tokenizer,
    ),
    Family(
        "Fast_dLLM_Qwen",
        "Fast_dLLM_QwenForCausalLM",
        Qwen2ForCausalLM,
        shift=1,
        block_size=None,
        names={"block_size": "bd_size"},
        unread=frozenset({"conplemenrary_mask"}),
    ),
    Family("sdar", "SDARForCausalLM", Qwen3ForCausalLM, block_size=None, unread=_UNREAD_OF_SDAR),
    Family(
        "sdar_moe",
        "SDARMoeForCausalLM",
        Qwen3MoeForCausalLM,
        block_size=None,
        names={"num_local_experts": "num_experts"},
        unread=_UNREAD_OF_SDAR,
        weights=_stacked_experts,
    ),
    # On the Hub, its config.json has the `model_type` of Llama, and no mask token: its code has 5.
    Family(
        "stable_diffcoder",
        "StableDiffcoderForCausalLM",
        LlamaForCausalLM,
        block_size=4,
        required={"attention_bias": False, "mlp_bias": False},
        derive=lambda settings: {"mask_token_id": settings.get("mask_token_id", 5)},
    ),
    Family("a2d-qwen3", "A2DQwen3LMHeadModel", Qwen3ForCausalLM, block_size=None),
    Family(
        "illada",
        "ILLaDAForCausalLM",
        LlamaForCausalLM,
        required={"layer_norm_eps": None, "resid_pdrop": 0},
    ),
    Family(
        "llada",
        "LLaDAMoEModelLM",
        Qwen3MoeForCausalLM,
        key="llada_moe",
        names={
            "intermediate_size": "dense_intermediate_size",
            "moe_intermediate_size": "expert_intermediate_size",
            "num_local_experts": "num_experts",
        },
        required={
            "clip_qkv": None,
            "moe_router_enable_expert_bias": False,
            "moe_router_score_function": "softmax",
            "partial_rotary_factor": 1,
            "qk_layernorm": True,
            "router_num_group": None,
            "router_topk_group": None,
            "shared_expert_intermediate_size": None,
        },
        unread=frozenset({"moe_layer_freq", "routed_scaling_factor"}),
        derive=_derive_llada_moe,
        weights=_stacked_experts,
    ),
    Family(
        "llada2_moe",
        "LLaDA2MoeModelLM",
        Glm4MoeForCausalLM,
        block_size=32,
        names={
            "attention_bias": "use_qkv_bias",
            "n_routed_experts": "num_experts",
            "n_shared_experts": "num_shared_experts",
        },
        required={
            "embedding_dropout": 0,
            "moe_router_enable_expert_bias": True,
            "norm_head": False,
            "norm_softmax": False,
            "output_dropout": 0,
            "router_dtype": "fp32",
            "score_function": "sigmoid",
            "use_bias": False,
            "use_qk_norm": True,
            "use_rmsnorm": True,
            "using_split_qkv_in_self_attention": False,
        },
        unread=frozenset({"max_window_layers", "partial_rotary_factor", "rotary_dim", "sliding_window"}),
        weights=_llada2_weights,
    ),
    Family(
        "nemotron_labs_diffusion",
        "NemotronLabsDiffusionModel",
        Ministral3ForCausalLM,
        block_size=None,
        origin="completion",
        context="causal",
        rope_type="yarn",
        required={"mlp_bias": False, "attention_bias": False, "sliding_window": None},
        unread=frozenset({"ar_loss_weight", "dlm_loss_weight", "dlm_paradigm", "dp_varying_mask_ratio"}),
        derive=_refuse_left_to_right,
        weights=_nemotron_labs_weights,
    ),
)
"""Each published family. SDAR-30B-A3B and a2d-qwen3 have no block size in their config.json (`block_size=None`), so
`--attention-block` has to say it."""
