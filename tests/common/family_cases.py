"""The published families in small: folders of the Hub's shape with a tokenizer, and what the original code computed."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from spg_trainer.architecture.pattern import block_causal_mask
from spg_trainer.models import tiny_tokenizer
from spg_trainer.models.families import BY_ARCHITECTURE
from tests.common.trainer_cases import made_once, save_writing

BLOCKS = {
    "dream": 0,
    "fastdllm_v2": 8,
    "illada": 0,
    "llada2": 32,
    "lladamoe": 0,
    "qwen3_diffusion": None,
    "sdar": 4,
}
"""Folders of families other than LLaDA's own, and the attention blocks of each; None = its config.json does not say."""
WORDS = {
    "dream": {150: "<|endoftext|>", 152: "<|im_end|>", 154: "<|mask|>"},
    "fastdllm_v2": {150: "<|endoftext|>", 152: "<|im_end|>", 154: "|<MASK>|"},
    "illada": {0: "<s>", 1: "<pad>", 2: "</s>", 5: "<[MASK]>"},
    "llada2": {150: "<|endoftext|>", 151: "<|role_end|>", 153: "<|mask|>"},
    "lladamoe": {150: "<|endoftext|>", 151: "<|role_end|>", 153: "<|mask|>"},
    "qwen3_diffusion": {150: "<|endoftext|>", 152: "<|im_end|>", 155: "<|mask|>"},
    "sdar": {150: "<|endoftext|>", 152: "<|im_end|>", 155: "<|MASK|>"},
    "stable_diffcoder": {0: "<s>", 1: "<pad>", 2: "</s>"},
}
"""Their special tokens; ids as in the fixtures, which scale them down."""

EXPERTS = {"moe_intermediate_size": 8, "num_experts_per_tok": 2}
UNTRAINED = {
    "dream": ("DreamModel", {}),
    "fastdllm_v2": ("Fast_dLLM_QwenForCausalLM", {"block_size": 5}),
    "illada": ("ILLaDAForCausalLM", {"tie_word_embeddings": True}),
    "llada2": (
        "LLaDA2MoeModelLM",
        {
            **EXPERTS,
            "n_routed_experts": 8,
            "n_group": 2,
            "topk_group": 1,
            "use_qk_norm": True,
            "block_size": 5,
        },
    ),
    "lladamoe": ("LLaDAMoEModelLM", {**EXPERTS, "num_experts": 6}),
    "nemotron_labs": ("NemotronLabsDiffusionModel", {"block_size": 5}),
    "qwen3_diffusion": ("A2DQwen3LMHeadModel", {"block_size": 0}),
    "sdar": ("SDARForCausalLM", {"block_size": 5}),
    "sdar_moe": (
        "SDARMoeForCausalLM",
        {**EXPERTS, "num_experts": 6, "norm_topk_prob": True, "block_size": 5},
    ),
}
"""Architecture of a model of each family that a test makes itself, and the settings that are its own."""


def untrained(name: str, kv_heads: int = 1) -> Path:
    """A small model of a family for the tests' own task, in a folder of the session and the processes it starts.

    It has two heads of queries for each of `kv_heads`, those of keys and values.
    """
    folder = name if kv_heads == 1 else f"{name}-{kv_heads}-heads"
    return made_once(folder, functools.partial(save_untrained, name, kv_heads=kv_heads))


def save_untrained(name: str, folder: Path, kv_heads: int = 1) -> Path:
    """Writes that model to a folder."""
    architecture, own = UNTRAINED[name]
    tokenizer, kind = tiny_tokenizer(), BY_ARCHITECTURE[architecture]
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "max_position_embeddings": 128,
    }
    heads = {"num_attention_heads": 2 * kv_heads, "num_key_value_heads": kv_heads, "head_dim": 8}
    sizes |= {**heads, "vocab_size": len(tokenizer)}
    tokens = {"mask_token_id": tokenizer.mask_token_id, "eos_token_id": tokenizer.eos_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return save_writing(kind.model_class(kind(**sizes, **tokens, **own)).eval(), folder)


def tokenizer_of(name: str, **settings: object) -> PreTrainedTokenizerFast:
    """A tokenizer with a family's special tokens at their ids; every other character of ASCII is a token."""
    words = WORDS[name]
    free = (index for index in range(160) if index not in words)
    vocabulary = {chr(code): index for code, index in zip(range(10, 127), free, strict=False)}
    vocabulary |= {word: index for index, word in words.items()}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.add_special_tokens(list(words.values()))
    return PreTrainedTokenizerFast(tokenizer_object=core, **settings)


def family_folder(data: Path, name: str, folder: Path, **settings: object) -> Path:
    """A family's small checkpoint with its tokenizer, and remote code that must not run."""
    shutil.copytree(data / "models" / name, folder, ignore=shutil.ignore_patterns("*.npz"))
    tokenizer_of(name, **settings).save_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text())
    for reference in (settings.get("auto_map") or {}).values():
        (folder / f"{reference.split('.')[0]}.py").write_text("raise SystemExit('remote code was run')")
    return folder


def cases(data: Path, name: str) -> dict[str, dict[str, Tensor]]:
    """Inputs of the original code and what it returned, by the case's name."""
    stored = np.load(data / "models" / name / "cases.npz")
    found: dict[str, dict[str, Tensor]] = {}
    for key in stored.files:
        case, _, part = key.partition(".")
        value = torch.from_numpy(stored[key])
        found.setdefault(case, {})[part] = value.long() if value.dtype == torch.int32 else value
    return found


def doubled(length: int, block: int) -> Tensor:
    """Who sees whom in [noisy | clean] (1, 1, 2n, 2n): as dFactory, dllm, SDAR and Fast-dLLM have it."""
    index = torch.arange(2 * length)
    clean, number = index >= length, index % length // block
    own = (number[:, None] == number) & (clean[:, None] == clean)
    earlier = ~clean[:, None] & clean & (number < number[:, None])
    among = clean[:, None] & clean & (number <= number[:, None])
    return (own | earlier | among)[None, None]


def blocks_of(length: int, block: int) -> Tensor:
    """Who sees whom in blocks from left to right (1, 1, n, n)."""
    number = torch.arange(length)[None] // block
    return block_causal_mask(number, number)
