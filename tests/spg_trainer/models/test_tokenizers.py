"""Tokenizers and chat templates as the Hub's folders bring them, here made by the test: ends, masks, what is asked."""

import json
from pathlib import Path

import pytest
from transformers.convert_slow_tokenizer import bytes_to_unicode

from spg_trainer.models import Policy, load_model, save_model
from spg_trainer.rollout.tokens import encode_completions, encode_prompts
from tests.common.family_cases import family_folder, tokenizer_of

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""Qwen3's format, of SDAR and a2d-qwen3; Dream's and Fast-dLLM's is the same without the thoughts."""
ROLES = (
    "<role>SYSTEM</role>detailed thinking off<|role_end|>"
    "{% for m in messages %}<role>HUMAN</role>{{ m.content }}<|role_end|>{% endfor %}"
    "{% if add_generation_prompt %}<role>ASSISTANT</role>{% endif %}"
)
"""LLaDA2's: the system part is always there."""


def asked(policy: Policy, prompt: str = "2+2") -> str:
    ids, mask = encode_prompts(policy, [prompt, f"{prompt} and more"])
    assert mask[0].sum() < mask[1].sum() and mask[0, -1] and not mask[0, 0]
    return policy.tokenizer.decode(ids[0][mask[0]], skip_special_tokens=False).replace(" ", "")


@pytest.mark.parametrize(
    "name, template, opening, end",
    [
        ("qwen3_diffusion", CHATML, "<|im_start|>assistant\n<think>\n\n</think>\n\n", 152),
        ("sdar", CHATML, "<|im_start|>assistant\n<think>\n\n</think>\n\n", 152),
        ("llada2", ROLES, "<role>HUMAN</role>2+2<|role_end|><role>ASSISTANT</role>", 151),
    ],
)
def test_a_prompt_is_asked_in_the_folders_own_format(published, tmp_path, name, template, opening, end):
    folder = family_folder(published, name, tmp_path / "hub", chat_template=template)
    policy = load_model(str(folder), attention_block=4)
    assert asked(policy).endswith(opening)
    completion = encode_completions(policy, ["4"], 4)[0].tolist()
    assert completion[1] == end and set(completion[2:]) == {policy.pad_id}
    save_model(policy, tmp_path / "saved")
    again = load_model(str(tmp_path / "saved"))
    assert asked(again) == asked(policy)
    assert (again.mask_id, again.end_token_ids) == (policy.mask_id, policy.end_token_ids)


def dream_files(folder: Path) -> None:
    """Dream's tokenizer: Qwen's byte pairs in vocab.json and merges.txt, behind code that is not run."""
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / file).unlink(missing_ok=True)
    characters = bytes_to_unicode()
    vocabulary = {characters[byte]: byte for byte in range(149)} | {"ab": 149}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    added = {150: "<|endoftext|>", 151: "<|im_start|>", 152: "<|im_end|>", 153: "<|fim|>", 154: "<|mask|>"}
    decoder = {
        str(index): {"content": word, "special": True, "normalized": False, "lstrip": False, "rstrip": False}
        | {"single_word": False}
        for index, word in added.items()
    }
    settings = {
        "tokenizer_class": "DreamTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
        "added_tokens_decoder": decoder,
        "chat_template": CHATML,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "mask_token": "<|mask|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tokenization_dream.py").write_text("raise SystemExit('remote code was run')")


def test_dreams_tokenizer_opens_without_its_code(published, tmp_path):
    folder = family_folder(published, "dream", tmp_path / "hub")
    dream_files(folder)
    policy = load_model(str(folder))
    assert (policy.mask_id, policy.pad_id, policy.end_token_ids) == (154, 150, (150, 152))
    assert policy.tokenizer("ab")["input_ids"] == [149]
    assert policy.tokenizer("a<|im_end|>")["input_ids"] == [97, 152]
    assert asked(policy, "42").startswith("<|im_start|>user\n42<|im_end|>\n")
    save_model(policy, tmp_path / "saved")
    again = load_model(str(tmp_path / "saved"))
    assert asked(again, "42") == asked(policy, "42") and again.end_token_ids == (150, 152)


def test_a_base_model_without_a_template_is_asked_as_it_is(published, tmp_path):
    policy = load_model(str(family_folder(published, "illada", tmp_path / "hub")))
    assert asked(policy) == "2+2" and policy.tokenizer.decode(policy.end_token_ids) == "</s>"
    assert tokenizer_of("illada").convert_tokens_to_ids("<[MASK]>") == policy.mask_id
