"""The published families as tables; facts and sources are in docs/models.md.

`Family` says what the fields of a table mean, and how to add a family from outside.
"""

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import new_class
from typing import Any, Literal

import transformers
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.core_model_loading import Split, WeightConverter, WeightRenaming, WeightTransform
from transformers.models.glm4_moe.modeling_glm4_moe import Glm4MoeForCausalLM
from transformers.models.llama.modeling_llama import LlamaForCausalLM
from transformers.models.ministral3.modeling_ministral3 import Ministral3ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeForCausalLM

from spg_trainer.architecture import llada
from spg_trainer.errors import ModelError
from spg_trainer.models.body import Body, MaskedLM


@dataclass(frozen=True)
class Family:
    """How one kind of published model differs from a stock class of transformers."""

    model_type: str
    """config.json's `model_type`."""
    architecture: str
    """The first of config.json's `architectures`. It decides between two families with the same `model_type`."""
    stock: type[PreTrainedModel]
    """The stock `...ForCausalLM` class that computes the model."""
    key: str = ""
    """The family's name in the Auto classes, if that is not `model_type`."""
    shift: Literal[0, 1] = 0
    """1 where the logits for token i stand at i - 1."""
    block_size: int | None = 0
    """Tokens of an attention block; 0 = all tokens see all. A value in config.json takes precedence. None = config.json
    must have one."""
    origin: Literal["sequence", "completion"] = "sequence"
    """Where blocks are counted from, see `Pattern`."""
    context: Literal["blocks", "causal"] = "blocks"
    """Whether a finished block sees itself whole or is causal, see `Pattern`. In a causal family, config.json may say
    `context: whole`: then the prompt and finished blocks see themselves whole."""
    rope_type: str = "default"
    """The type of config.json's `rope_parameters`."""
    names: Mapping[str, str] = field(default_factory=dict)
    """{transformers' name of a setting, or `block_size`: config.json's name}, for the settings whose names differ."""
    required: Mapping[str, Any] = field(default_factory=dict)
    """{setting of config.json: the value that it must have if it is there}. If that value is 0, false or null (the
    setting is off), null is allowed, too."""
    unread: frozenset[str] = frozenset()
    """Settings of config.json that the stock class does not have, and that change nothing in a pass."""
    derive: Callable[[dict[str, Any]], dict[str, Any]] = lambda settings: {}
    """Takes config.json's settings; returns further settings of the stock class: those that follow from these, and
    those that config.json lacks."""
    tokenizer: type[PreTrainedTokenizerFast] | None = None
    """The class that stands in for a tokenizer which comes as code of its own."""
    weights: Callable[[], list[WeightTransform]] = list
    """How the Hub's weights are converted to the stock class's, if their names or shapes differ; works both ways."""
    rotates_in_float32: bool = False
    """Whether queries and keys of any type are rotated in float32 and rounded once, as LLaDA's code does."""

    def __post_init__(self) -> None:
        if self.shift not in (0, 1):
            raise ModelError(
                f"shift is {self.shift!r}; logits stand at their token (0) or at the one before (1)"
            )


_REQUIRED: dict[str, Any] = {
    "attention_dropout": 0,
    "hidden_act": "silu",
    "rope_scaling": None,
    "use_sliding_window": False,
}
"""{setting of config.json: the value that it must have in every family, if it is there}."""
_KNOWN = set(GenerationConfig._get_default_generation_params()) | set(
    "attn_implementation auto_map block_size head_dim mask_token_id model_type rope_theta torch_dtype".split()
)
"""Settings that the config.json of any family may have."""

BY_ARCHITECTURE: dict[str, type["FamilyConfig"]] = {}
"""The configurations of all families by their `architecture`."""


class FamilyConfig:
    """Settings under the names of the stock class, read from a config.json and written back in its own names.

    This is a mix-in: `register_family` makes the class of a family from it and the stock class's configuration, in this
    order. So `super()` is the stock configuration.

    `auto_map` is neither followed nor written. Raises ModelError for a setting that the family does not have.
    """

    family: Family
    model_class: type[PreTrainedModel]
    is_causal = False
    noise = "mask"
    """What stands at a hidden place: "mask" is [MASK], "uniform" a token drawn uniformly from the vocabulary."""
    mask_words = ("<|mask|>", "<|MASK|>", "<|mdm_mask|>", "|<MASK>|", "<[MASK]>")
    """Names of [MASK] that are looked for in the vocabulary if neither config nor tokenizer names it."""
    text_ends = ("<|endoftext|>",)
    turn_ends = ("<|eot_id|>", "<|role_end|>", "<|im_end|>")
    """Words that end a completion if the vocabulary has them, in addition to the eos of config and tokenizer."""
    block_size: int | None
    context: str
    """What finished blocks attend to, see `Pattern`."""
    mask_token_id: int | None = None
    _file: tuple[dict[str, Any], dict[str, Any]] | None = None
    """config.json as it was read, and the stock class's `to_dict` right then. What differs from it later was changed
    by the user."""

    @property
    def origin(self) -> str:
        """Where blocks are counted from, see `Pattern`."""
        return self.family.origin

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """As in transformers, but without its warning that a file's `model_type` is not that of the class."""
        settings, unused = super().get_config_dict(*args, **kwargs)
        return settings | {"model_type": cls.model_type}, unused

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers: the configuration of a config.json, with changes by transformers' names.

        Between two families with one `model_type`, config.json's `architectures` decide.
        """
        for name in config_dict.get("architectures") or ():
            named = BY_ARCHITECTURE.get(name, cls)  # an unknown name decides nothing
            if named.family is not cls.family:
                return named.from_dict(config_dict, **kwargs)
        cls._check(config_dict)
        name_in_stock = {on_hub: in_stock for in_stock, on_hub in cls.family.names.items()}
        unused = ("auto_map", "attn_implementation", "model_type")
        # A stock class would fill in ids of its own vocabulary for tokens that a config.json does not name.
        settings = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        used = {name: value for name, value in config_dict.items() if name not in unused}
        settings |= {name_in_stock.get(name, name): value for name, value in used.items()}
        settings |= cls.family.derive(config_dict)
        settings["head_dim"] = (
            settings.get("head_dim") or settings["hidden_size"] // settings["num_attention_heads"]
        )
        without_changes = super().from_dict(dict(settings))
        # The `to_dict` of this class would write config.json's names.
        as_read = PreTrainedConfig.to_dict(without_changes)
        result = super().from_dict(settings, **kwargs)
        config = result[0] if isinstance(result, tuple) else result  # a tuple also has the unused arguments
        config._file = (dict(config_dict), as_read)
        return result

    @classmethod
    def _check(cls, settings: Mapping[str, Any]) -> None:
        """Raises ModelError for a setting of config.json that the family does not know, or needs at another value."""
        family = cls.family
        required = _REQUIRED | dict(family.required)
        fields_of_stock = {f.name for f in dataclasses.fields(cls)}
        known = (fields_of_stock - set(family.names)) | set(family.names.values())  # by config.json's names
        known |= _KNOWN | family.unread | required.keys() | set(cls.attribute_map.values())
        if family.context == "causal":
            known.add("context")
            if settings.get("context", "causal") not in ("causal", "whole"):
                raise ModelError(
                    f"config.json has context = {settings['context']!r}; prompt and finished blocks are 'causal' or "
                    "see themselves 'whole'"
                )
        rope = (settings.get("rope_parameters") or {}).get("rope_type", family.rope_type)
        if rope != family.rope_type:
            raise ModelError(
                f"config.json has rope_parameters of type {rope!r}, but {family.architecture} has "
                f"{family.rope_type!r}"
            )
        for name, value in settings.items():
            is_off = value is None and not required.get(name)  # null counts as off
            if name in required and value != required[name] and not is_off:
                raise ModelError(
                    f"config.json has {name} = {value!r}, but {family.architecture} has {required[name]!r}"
                )
            # A setting that is false, 0 or null is off, and may stand in the file even if the family does not know it.
            if name not in known and not name.startswith("_") and value:
                raise ModelError(
                    f"config.json has {name} = {value!r}, which {family.architecture} is not known to have; "
                    "remove it if what the model computes does not depend on it"
                )

    def to_dict(self) -> dict[str, Any]:
        """The settings under the names of the Hub's config.json; `save_pretrained` writes these."""
        in_file, as_read = self._file or ({}, {})
        current = super().to_dict()
        names = self.family.names
        changed = {
            names.get(name, name): value
            for name, value in current.items()
            if not name.startswith("_") and (name not in as_read or as_read[name] != value)
        }
        rope = changed.get("rope_parameters") or {}
        if "rope_parameters" not in in_file and rope.get("rope_type", "default") == "default":
            # Files of the Hub have these settings at the top level; transformers collects them in `rope_parameters`.
            changed.pop("rope_parameters", None)
            changed |= {name: value for name, value in rope.items() if name != "rope_type"}
        if "is_causal" not in in_file:  # a forward pass of transformers sets it, and sets it back
            changed.pop("is_causal", None)
        name_of_block_size = names.get("block_size", "block_size")
        if self.block_size == self.family.block_size and name_of_block_size not in in_file:
            changed.pop(name_of_block_size, None)
        if "dtype" in changed and "dtype" not in in_file:  # older tools call it `torch_dtype`
            changed["torch_dtype"] = changed.pop("dtype")
        written = in_file | changed | {"transformers_version": current["transformers_version"]}
        written |= {"model_type": self.family.model_type, "architectures": [self.family.architecture]}
        # What is written has no code of its own, and its weights are stored whole even if they were opened in 4 bits.
        for name in ("auto_map", "quantization_config"):
            written.pop(name, None)
        return written

    def check(self) -> None:
        """Raises ModelError for a setting with which the model could be saved but not opened again.

        Also for one that was given by config.json's name where the configuration was made in Python: there it has
        transformers' name, and would have no effect under the other one.
        """
        if self._file is None:
            own = {f.name for f in dataclasses.fields(self)}
            names = {on_hub: in_stock for in_stock, on_hub in self.family.names.items()}
            for name in (vars(self).keys() & (names.keys() | self.family.unread)) - own:
                instead = f"use {names[name]}={getattr(self, name)!r}" if name in names else "leave it out"
                raise ModelError(
                    f"{name} is a name of config.json, which has no effect on a configuration that is made in Python; "
                    f"{instead}"
                )
        self._check(self.to_dict())

    def to_diff_dict(self) -> dict[str, Any]:
        """The content of config.json: all of `to_dict`, where transformers would leave out defaults."""
        return self.to_dict()


def open_config(place: str | Path, **options: Any) -> Any:
    """As `AutoConfig.from_pretrained`, which goes by `model_type`: if that is a stock one, `architectures` decide."""
    try:
        config = AutoConfig.from_pretrained(place, **{**options, "trust_remote_code": False})
    except ValueError as error:
        if (
            named := re.search("model type `([^`]+)`", str(error))
        ) is None:  # what transformers does not know
            raise
        if named[1] != OF_NEWER:
            raise ModelError(_untrained(named[1])) from error
        raise ModelError(
            f"model_type {OF_NEWER!r} is not in transformers {transformers.__version__}: pip install "
            "'transformers>=5.23'"
        ) from error
    if not is_known(config):
        for name in config.architectures or ():
            if name in BY_ARCHITECTURE:
                return BY_ARCHITECTURE[name].from_pretrained(place, **options)
    return config


OF_NEWER = "diffusion_gemma"
"""The `model_type` of a family whose stock class older versions of transformers do not have."""


def is_in_transformers() -> bool:
    """Whether this version of transformers has the stock class of `OF_NEWER`."""
    return OF_NEWER in CONFIG_MAPPING


def is_known(config: Any) -> bool:
    """Whether a configuration is that of a family which is trained here."""
    return hasattr(config, "family")


def refuse_unknown(config: Any) -> None:
    """Raises ModelError unless a configuration is that of a family which is trained here."""
    if not is_known(config):
        raise ModelError(_untrained(config.model_type))


def _untrained(model_type: str) -> str:
    """What to say of a model that cannot be trained here."""
    families = {config_class.family.model_type for config_class in BY_ARCHITECTURE.values()}
    return f"model_type {model_type!r}; those that can be trained here are {', '.join(sorted(families))}"


def register_family(family: Family) -> type[PreTrainedModel]:
    """Registers a family with the Auto classes and `load_model`, and returns its model class.

    A new family needs only this call. A second family with the same `key` replaces the first.
    """
    key = family.key or family.model_type
    of_config = {"family": family, "model_type": key}  # the attributes of the new class
    of_config |= {"block_size": family.block_size, "context": family.context, **_defaults(family)}
    config = _new(family.architecture + "Config", (FamilyConfig, family.stock.config_class), of_config)
    stock_body = getattr(
        sys.modules[family.stock.__module__], family.stock.__name__.replace("ForCausalLM", "Model")
    )
    # Blocks need a mask of pairs, which flash and flex attention do not take.
    is_full = family.block_size == 0
    of_body = {"config_class": config, "_supports_flash_attn": is_full, "_supports_flex_attn": is_full}
    body = _new(family.architecture + "Body", (Body, stock_body), of_body)
    of_model = {"config_class": config, "body_class": body, "shift": family.shift}
    config.model_class = _new(family.architecture, (MaskedLM, family.stock), of_model)
    BY_ARCHITECTURE[family.architecture] = config
    _register(config)
    return config.model_class


def _defaults(family: Family) -> dict[str, Any]:
    """Class attributes for a configuration: the defaults, as dataclass fields, that differ from the stock class's.

    They are the values that the family requires, and None for token ids, since the stock class's ids are of another
    vocabulary.
    """
    name_in_stock = {on_hub: in_stock for in_stock, on_hub in family.names.items()}
    fields_of_stock = {f.name for f in dataclasses.fields(family.stock.config_class)}
    needed = {name_in_stock.get(name, name): value for name, value in family.required.items()}
    values = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    values |= {name: value for name, value in needed.items() if name in fields_of_stock and value is not None}
    # With annotations, these names become dataclass fields.
    return {**values, "__annotations__": dict.fromkeys(values, Any)}


def register_again() -> None:
    """Registers all families again, in case another package has taken one of their names since."""
    for config in BY_ARCHITECTURE.values():
        if issubclass(config, FamilyConfig):
            _register(config)
        else:  # a stock class with its own registration
            config.register()


def _register(config: Any) -> None:
    """Registers with transformers the classes that open the models of a configuration, and their weights' names."""
    AutoConfig.register(config.model_type, config, exist_ok=True)
    for auto in (AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM):
        auto.register(config, config.model_class, exist_ok=True)
    register_checkpoint_conversion_mapping(config.model_type, config.family.weights(), overwrite=True)


def _new(name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> Any:
    """A new class in this module, with these bases and class attributes."""
    return new_class(name, bases, exec_body=lambda space: space.update(attributes, __module__=__name__))


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
