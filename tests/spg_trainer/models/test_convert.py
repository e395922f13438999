"""`convert`: the weights of a language model under a family's names, which its logits prove."""

import json
import re

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from spg_trainer.cli import main
from spg_trainer.likelihood import token_logps
from spg_trainer.likelihood.path_masks import AutoregressiveMasking
from spg_trainer.models import load_model
from spg_trainer.models.forward import base_model
from tests.common.likelihood_cases import make_rollouts, seeded
from tests.common.marks import slow_if

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,
}
SOURCES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen2 tied, padded": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True, "vocab_size": 128}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 8}),
    "qwen3_moe": (
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
        {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8},
    ),
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
}
CASES = [
    ("qwen2", "dream", 0),
    ("qwen2", "fastdllm_v2", 8),
    ("qwen2 tied, padded", "fastdllm_v2", 8),
    ("qwen3", "sdar", 4),
    ("qwen3", "qwen3_diffusion", 0),
    ("qwen3_moe", "sdar_moe", 4),
    ("llama", "llada", 0),
    ("llama", "illada", 0),
    ("llama", "stable_diffcoder", 8),
]


def language_model(name, folder):
    """A random one with a tokenizer of characters, which has a chat template and no mask token."""
    words = ["<|endoftext|>", "<|im_end|>"]
    vocabulary = {word: index for index, word in enumerate([*words, *map(chr, range(32, 127))])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.add_special_tokens(words)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=words[0])
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    config, model_class, own = SOURCES[name]
    tokens = {"eos_token_id": 0, "bos_token_id": None, "pad_token_id": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config(**{**SIZES, "vocab_size": len(vocabulary), **tokens, **own})).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


@pytest.mark.parametrize(
    ("name", "family", "block"),
    slow_if(CASES, lambda name, family, block: family not in ("dream", "sdar_moe", "fastdllm_v2")),
)
def test_a_converted_model_is_its_source_under_causal_attention(tmp_path, name, family, block):
    source, tokenizer = language_model(name, tmp_path / "source")
    words = ["--family", family, "--output", str(tmp_path / "new")]
    block_words = [] if family == "dream" else ["--block-length", str(block)]
    assert main(["convert", str(tmp_path / "source"), *words, *block_words]) == 0
    policy = load_model(tmp_path / "new", device="cpu")
    model, size = policy.model, len(tokenizer)
    assert base_model(model).pattern.block_size == block
    assert policy.mask_id == size and policy.tokenizer.mask_token_id == size
    assert policy.end_token_ids == (0, 1) and policy.tokenizer.chat_template == tokenizer.chat_template
    assert model.config.vocab_size == max(source.config.vocab_size, size + 1)
    ids = torch.randint(2, size, (2, 12), generator=torch.Generator().manual_seed(1))
    causal = torch.ones(12, 12, dtype=torch.bool).tril()[None, None].expand(2, 1, 12, 12)
    with torch.no_grad():
        expected, found = source(ids).logits, model(ids, attention_mask=causal).logits
    assert expected.abs().max() > 1
    torch.testing.assert_close(found[..., :size], expected[..., :size], rtol=0, atol=1e-6)


def test_with_the_shift_and_blocks_of_a_token_it_has_the_likelihood_of_its_source(tmp_path):
    source, _ = language_model("qwen2", tmp_path / "source")
    words = ["--family", "fastdllm_v2", "--block-length", "1", "--output", str(tmp_path / "new")]
    assert main(["convert", str(tmp_path / "source"), *words]) == 0
    policy = load_model(tmp_path / "new", device="cpu")
    rows = make_rollouts([7, 5], 7, [3, 4], tokens=90)
    masks = AutoregressiveMasking(7).draw(rows, seeded())
    logps = token_logps(policy, rows, masks).sum(1)
    for row in range(2):
        prompt = rows.prompt_ids[row][rows.prompt_mask[row]]
        completion = rows.completion_ids[row][rows.completion_mask[row]]
        text = torch.cat([prompt, completion])[None]
        with torch.no_grad():
            logits = source(text).logits[0, len(prompt) - 1 : -1]
            of_mask = policy.model(text).logits[0, len(prompt) - 1 : -1, policy.mask_id, None]
        # The converted model has a token more.
        law = torch.cat([logits, of_mask], -1).log_softmax(-1)
        expected = law.gather(-1, completion[:, None]).squeeze(-1)
        torch.testing.assert_close(logps[row, : len(completion)], expected, rtol=0, atol=1e-5)


def test_what_does_not_fit_is_refused(tmp_path, capsys):
    language_model("qwen2", tmp_path / "source")
    source = str(tmp_path / "source")
    for words, said in (
        ((source, "--family", "sdra"), "expected one of dream, .* Did you mean 'sdar'"),
        ((source, "--family", "llada"), "is made from llama, .* is qwen2. Use --family dream or fastdllm_v2"),
        ((source, "--family", "fastdllm_v2"), "--block-length: the family has no block length"),
        ((source, "--family", "dream", "--output", source), "is taken"),
        ((str(tmp_path / "none"), "--family", "dream"), "/none' is no folder .*ORG/NAME"),
        (("nofolder", "--family", "dream"), "'nofolder' is no folder .*ORG/NAME"),
        ((str(tmp_path), "--family", "dream"), "cannot be opened as a language model"),
        ((source, "--family", "dream", "--block-length", "4"), "dream all tokens see all.* fastdllm_v2, "),
    ):
        assert (
            main(["convert", *words, *([] if "--output" in words else ["--output", str(tmp_path / "new")])])
            == 2
        )
        assert re.search(said, capsys.readouterr().err), said
    gemma = tmp_path / "gemma"
    gemma.mkdir()
    (gemma / "config.json").write_text('{"model_type": "gemma2"}')
    assert main(["convert", str(gemma), "--family", "llada", "--output", str(tmp_path / "new")]) == 2
    assert "is gemma2. No family is made from that; DiffusionGemma is" in capsys.readouterr().err
    settings = json.loads((tmp_path / "source" / "config.json").read_text())
    settings["rope_parameters"] = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    (tmp_path / "source" / "config.json").write_text(json.dumps(settings))
    assert main(["convert", source, "--family", "dream", "--output", str(tmp_path / "new")]) == 2
    assert "rope_parameters of type 'linear'" in capsys.readouterr().err
