"""New tiny models in the format of LLaDA-8B, and their byte tokenizer. The trained models that come with the package
("embedded", `--model tiny`) were made by these functions."""

from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from spg_trainer.errors import ModelError
from spg_trainer.models.families import BY_ARCHITECTURE, is_in_transformers
from spg_trainer.seeding import derive
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.weights import NEW_CANVASES, known_settings

END, END_OF_TURN, MASK = "<|endoftext|>", "<|eot_id|>", "<|mdm_mask|>"
ROLES = ("user", "assistant", "system")
TAGS = ("<answer>", "</answer>", "<reasoning>", "</reasoning>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['user', 'assistant', 'system'] %}"
    "{{ raise_exception('unknown role ' ~ message['role'] ~ '; use system, user or assistant') }}"
    "{% endif %}"
    "{{ '<|' ~ message['role'] ~ '|>' ~ message['content'] ~ '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer in which every byte is a token with the byte as its id, so that no text is unknown.

    Ids 0..255 are the bytes (one printable ASCII character or newline is one token), 256..261 the special tokens
    `<|endoftext|>` (end and padding), `<|eot_id|>`, `<|mdm_mask|>`, `<|user|>`, `<|assistant|>`, `<|system|>`, and
    262..265 the tags `<answer>`, `</answer>`, `<reasoning>`, `</reasoning>`. Decoding that skips special tokens keeps
    these tags. It pads on the left, adds nothing of its own to a text, and has 266 tokens in all.
    """
    vocabulary = {character: byte for byte, character in bytes_to_unicode().items()}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    special = (END, END_OF_TURN, MASK, *(f"<|{role}|>" for role in ROLES))
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    core.add_tokens([AddedToken(text, normalized=False) for text in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=END,
        mask_token=MASK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


ARCHITECTURES = {"": "LLaDAModelLM", "block": "SDARForCausalLM", "shift": "DreamModel"}
"""{kind of a tiny model, see `new_tiny`: its architecture}."""
BLOCK = 8
"""Tokens of an attention block in a tiny model of kind "block"."""


def llada_config(**changes: Any) -> Any:
    """The configuration of LLaDA-8B with changes, all under the names of its config.json."""
    settings = known_settings("LLaDA-8B-Base") | changes
    # embedding_size follows vocab_size, and n_kv_heads follows n_heads, unless `changes` sets them.
    following = {"embedding_size": settings["vocab_size"], "n_kv_heads": settings["n_heads"]}
    return BY_ARCHITECTURE["LLaDAModelLM"].from_dict(settings | following | changes)


def new_tiny(
    kind: str = "",
    *,
    hidden_size: int = 128,
    layers: int = 4,
    heads: int = 4,
    ffn: int = 344,
    max_length: int = 1024,
    seed: int = 0,
) -> PreTrainedModel:
    """An untrained model for `tiny_tokenizer`, float32, on the CPU, in eval mode; 0.86 M weights by default.

    kind: "" is LLaDA's; "block" SDAR's, which attends to its own block of `BLOCK` tokens and to earlier ones; "shift"
    Dream's, whose logits stand one position before their token; "gemma" a DiffusionGemma of 4 experts, of which a token
    takes 2, with canvases of 8 tokens; an expert is ffn / 4 wide, in steps of 8. hidden_size: a multiple of 2 * heads,
    else ModelError.
    Equal arguments give equal weights whatever ran before, and the global random state is left as it was.
    """
    config = new_config(kind, hidden_size, layers, heads, ffn, max_length)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "new_tiny"))
        if not kind:
            # Earlier versions drew exactly this many numbers and threw them away. Because this draws them, too, the
            # models that come with the package can be made again.
            torch.rand(4 * layers * hidden_size**2)
        model = config.model_class(config).eval()
    if kind == "gemma":
        model.generation_config = _decoding_of_gemma()
    return model


def config_of_new(settings: ModelConfig) -> Any:
    """The configuration of the new model that settings name, `new` or `new:KIND`."""
    _, _, kind = settings.model.partition(":")
    return new_config(
        kind, settings.hidden_size, settings.num_layers, settings.num_heads, settings.intermediate_size
    )


def new_config(kind: str, hidden_size: int, layers: int, heads: int, ffn: int, max_length: int = 1024) -> Any:
    """The configuration of a model of `new_tiny`."""
    if kind == "gemma":
        return _new_gemma(hidden_size, layers, heads, ffn, max_length)
    tokenizer = tiny_tokenizer()
    config_class = BY_ARCHITECTURE[ARCHITECTURES[kind]]
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": ffn,
        "max_position_embeddings": max_length,
        "tie_word_embeddings": False,
        "rope_theta": 10000.0,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "mask_token_id": tokenizer.mask_token_id,
    }
    if kind == "block":
        sizes["block_size"] = BLOCK
    if kind:
        return config_class.from_dict(sizes)
    # LLaDA's config.json has names of its own.
    return llada_config(**{config_class.family.names.get(name, name): size for name, size in sizes.items()})


def _decoding_of_gemma() -> Any:
    """How a small DiffusionGemma decodes: the published temperatures and thresholds, and a step for each token.

    The entropy bound is 1 and not 0.1: a small model that explores takes several tokens in a step.
    """
    from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
        DiffusionGemmaGenerationConfig,
        EntropyBoundSamplerConfig,
    )

    tokenizer = tiny_tokenizer()
    return DiffusionGemmaGenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END_OF_TURN)],
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=NEW_CANVASES.length,
        max_denoising_steps=NEW_CANVASES.steps,
        t_min=0.4,
        t_max=0.8,
        sampler_config=EntropyBoundSamplerConfig(entropy_bound=1.0),
        stability_threshold=1,
        confidence_threshold=0.005,
    )


def _new_gemma(hidden_size: int, layers: int, heads: int, ffn: int, max_length: int) -> Any:
    """The configuration of a small DiffusionGemma for `tiny_tokenizer`, with the smallest vision tower there is."""
    if not is_in_transformers():
        raise ModelError(
            f"new:gemma needs a newer transformers than {transformers.__version__}: pip install 'transformers>=5.23'"
        )
    from transformers import Gemma4VisionConfig
    from transformers.models.diffusion_gemma import DiffusionGemmaTextConfig

    from spg_trainer.models.diffusion_gemma import CanvasConfig

    if hidden_size % (2 * heads) or heads % 2:
        raise ModelError(f"hidden_size {hidden_size} must be a multiple of 2 * heads, and heads {heads} even")
    tokenizer, head_dim = tiny_tokenizer(), hidden_size // heads
    text = DiffusionGemmaTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=head_dim,
        global_head_dim=2 * head_dim,
        layer_types=["sliding_attention"] * (layers - 1) + ["full_attention"],
        sliding_window=64,
        max_position_embeddings=max_length,
        pad_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        num_experts=4,
        top_k_experts=2,
        moe_intermediate_size=max(8, ffn // 32 * 8),  # the grouped product takes widths of whole 16 bytes
    )
    smallest = {
        name: 8 for name in ("hidden_size", "intermediate_size", "head_dim", "position_embedding_size")
    }
    vision = Gemma4VisionConfig(
        **smallest, global_head_dim=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1
    )
    return CanvasConfig(
        text_config=text, vision_config=vision, canvas_length=NEW_CANVASES.length, tie_word_embeddings=True
    )
