"""Prompts in, texts out: chat format, padding, cutting at the end token, helpful errors."""

import json
from dataclasses import replace

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch import nn

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.models import Policy, new_tiny, tiny_tokenizer
from spg_trainer.rollout import tokens
from spg_trainer.rollout.player import Player, generate
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.rollout.tokens import decode_completions, encode_prompts
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import Rows

SAMPLING = Sampling(max_completion_length=16, block_length=8, diffusion_steps=8)


@pytest.fixture
def policy() -> Policy:
    tokenizer = tiny_tokenizer()
    ends = tuple(tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|eot_id|>"]))
    model = new_tiny(hidden_size=32, layers=1, heads=2, ffn=48, max_length=64)
    return Policy(model, tokenizer, tokenizer.mask_token_id, tokenizer.pad_token_id, ends, "test")


def written(policy: Policy, *texts: str) -> Rows:
    """Completions as a sampler could have left them; `~` stands for a position that was never unmasked."""
    masked = policy.tokenizer.mask_token
    rows = [policy.tokenizer(x.replace("~", masked), add_special_tokens=False)["input_ids"] for x in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [policy.mask_id] * (width - len(row)) for row in rows])
    is_end = torch.isin(ids, torch.tensor(policy.end_token_ids))
    mask = (is_end.cumsum(-1) - is_end.long()) == 0
    blank = torch.zeros_like(ids)
    return Rows(
        prompt_ids=ids[:, :0],
        prompt_mask=mask[:, :0],
        completion_ids=ids,
        completion_mask=mask,
        unmask_step=blank,
        unmask_logps=blank.float(),
    )


def test_text_ends_at_the_first_end_token_without_special_tokens(policy):
    rollouts = written(
        policy,
        "<answer>12</answer><|eot_id|>more<|endoftext|>",
        "a<|user|>b<|endoftext|>~~~",
        "<|eot_id|>nothing",
        "whole text without an end",
    )
    whole = ["<answer>12</answer>", "ab", "", "whole text without an end"]
    assert decode_completions(policy, rollouts) == whole
    rollouts = written(policy, "ab", "🙂")
    rollouts.completion_mask[1, 2:] = False
    rollouts.completion_ids[0, 1] = len(policy.tokenizer) + 5
    rollouts.completion_mask[0, 2:] = False
    first, half = decode_completions(policy, rollouts)
    assert first == "a" and "\ufffd" in half, (
        "no text beyond the tokenizer; half a character is shown as such"
    )


@pytest.mark.parametrize("text", ["naïve — 你好 🙂", "tabs\tand\nlines", "  <b>&</b> , kept a 's !"])
def test_unicode_and_spacing_survive(policy, text):
    assert decode_completions(policy, written(policy, text + "<|eot_id|>")) == [text]


def test_prompts_follow_the_chat_format_and_are_padded_on_the_left(policy):
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "hi"}]
    ids, mask = encode_prompts(policy, ["hello", messages, ""], ["<answer>", "", ""])
    shown = [policy.tokenizer.decode(row[real]) for row, real in zip(ids, mask, strict=True)]
    assert shown == [
        "<|user|>hello<|eot_id|><|assistant|><answer>",
        "<|system|>Be short.<|eot_id|><|user|>hi<|eot_id|><|assistant|>",
        "<|user|><|eot_id|><|assistant|>",
    ]
    assert mask.all(-1).tolist() == [False, True, False]
    assert mask[:, -1].all()
    assert (mask.int().diff() >= 0).all()
    assert (ids[~mask] == policy.pad_id).all()


def test_the_tokenizer_adds_nothing_of_its_own_to_the_chat_format(policy):
    plain, _ = encode_prompts(policy, ["hello"])
    start = [("<|system|>", policy.tokenizer.convert_tokens_to_ids("<|system|>"))]
    policy.tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<|system|> $A", None, start)
    assert torch.equal(encode_prompts(policy, ["hello"])[0], plain)


def test_without_a_chat_template_a_text_begins_as_the_tokenizer_begins_one(policy):
    policy.tokenizer.chat_template = None
    policy.tokenizer.bos_token = "<|system|>"  # it has one now, but does not add it
    assert policy.tokenizer.decode(encode_prompts(policy, ["hello"])[0][0]) == "hello"
    start = [("<|system|>", policy.tokenizer.convert_tokens_to_ids("<|system|>"))]
    policy.tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<|system|> $A", None, start)
    ids, _ = encode_prompts(policy, ["hello"])
    assert policy.tokenizer.decode(ids[0]) == "<|system|>hello"


def test_variables_of_the_chat_template_reach_it(policy):
    policy.tokenizer.chat_template = (
        "{{ messages[0]['content'] }}{% if enable_thinking %}<think>{% else %}no{% endif %}"
    )
    assert policy.tokenizer.decode(encode_prompts(policy, ["a"])[0][0]) == "ano"
    policy.chat_template_args = {"enable_thinking": True}
    assert policy.tokenizer.decode(encode_prompts(policy, ["a"])[0][0]) == "a<think>"


def test_a_conversation_that_the_chat_template_refuses_is_an_error_of_ours(policy):
    chat = [{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}]
    with pytest.raises(ModelError, match=r"test refuses a conversation of developer, user: unknown role"):
        encode_prompts(policy, [chat])


def test_text_is_taken_as_it_is_without_a_chat_template(policy):
    policy.tokenizer.chat_template = None
    ids, _ = encode_prompts(policy, ["hello"])
    assert policy.tokenizer.decode(ids[0]) == "hello"
    with pytest.raises(ModelError, match=r"'hi'.* no chat template"):
        encode_prompts(policy, ["a", [{"role": "user", "content": "hi"}]])


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ("hello", "single string 'hello'"),
        (["a", 7], "prompt 7"),
        (["a", [{"role": "user"}]], r"'user'.*content"),
    ],
)
def test_prompts_of_a_wrong_kind_are_named(policy, prompts, words):
    with pytest.raises(ConfigError, match=words):
        encode_prompts(policy, prompts)


def test_generate_answers_in_order_and_depends_only_on_the_seed(policy):
    prompts = ["one", "a second, longer prompt", "three"]
    sampling = replace(SAMPLING, temperature=1.0)
    first = generate(policy, prompts, sampling, seed=3)
    assert generate(policy, prompts, sampling, seed=3, rows_per_forward=1) == first
    assert generate(policy, prompts[:2], sampling, seed=3) == first[:2]
    assert generate(policy, prompts, sampling, seed=4) != first
    assert generate(policy, [], sampling) == []
    twins = generate(policy, ["one", "one"], sampling, seed=3)
    assert twins[0] == first[0] != twins[1]


def test_several_answers_stand_together_with_the_log_probability_of_each_token(policy):
    prompts, sampling = ["one", "two"], replace(SAMPLING, temperature=1.0)
    texts, logps = generate(policy, prompts, sampling, num_return_sequences=3, return_logps=True)
    assert len(texts) == len(logps) == 6 and len(set(texts)) > 2
    assert texts[::3] == generate(policy, prompts, sampling)
    assert all(own.ndim == 1 and 1 <= len(own) <= 16 and (own <= 0).all() for own in logps)
    with pytest.raises(ConfigError, match="needs a sampling with a temperature"):
        generate(policy, prompts, SAMPLING, num_return_sequences=2)
    with pytest.raises(ConfigError, match="--num-return-sequences 0"):
        generate(policy, prompts, sampling, num_return_sequences=0)


def test_a_model_answers_with_the_lengths_that_it_was_made_with(policy, tmp_path):
    made = {"max_completion_length": 6, "block_length": 3, "diffusion_steps": 4}
    (tmp_path / "environment.json").write_text(
        json.dumps({"env": "sudoku", "preset": "tiny", "rollout": made})
    )
    policy.source = str(tmp_path)
    assert generate(policy, ["hello"]) == generate(policy, ["hello"], Sampling(**made))
    ((logps),) = generate(policy, ["hello"], return_logps=True)[1]
    assert len(logps) <= 6


def test_a_prompt_too_long_for_the_model_is_an_error(policy):
    fits = "x" * (64 - 16 - 3)
    assert len(generate(policy, ["short", fits], SAMPLING)) == 2
    with pytest.raises(ConfigError) as error:
        generate(policy, ["short", fits + "x"], SAMPLING)
    for word in ("49 tokens", "65", "64 positions", "=15 or less"):
        assert word in str(error.value)


def test_no_dropout_and_no_graph(policy):
    clean = generate(policy, ["hello"], SAMPLING)
    dropout = nn.Dropout(0.9)
    policy.model.add_module("noise", dropout)
    policy.model.model.norm.register_forward_hook(lambda module, args, output: dropout(output))
    policy.model.train()
    assert generate(policy, ["hello"], SAMPLING) == clean
    ids, mask = encode_prompts(policy, ["hello"])
    assert not sample_completions(policy, ids, mask, SAMPLING, None).unmask_logps.requires_grad
    assert torch.is_grad_enabled()


def test_a_player_records_what_it_is_asked_for(policy):
    prompts = encode_prompts(policy, ["1 + 1 = ?"])
    found = Player(policy, SAMPLING, records=frozenset({"confidence_change"})).sample(prompts, [("a key",)])
    assert found.confidence_change.shape == found.completion_ids.shape


def test_a_special_token_of_one_character_cannot_be_cut_and_stays():
    """It was cut for ever, since what is left of it is the token again."""
    assert tokens.spell_apart("a#b", ["#"]) == "a#b"
    assert tokens.spell_apart("a#b<e>", ["#", "<e>"]) == f"a#b<{tokens.APART}e>"


TEMPLATES = {
    "users": "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}",
    "last": "{{ messages[-1]['content'] }}",
    "all": "{% for m in messages %}{{ m['content'].split('</think>')[-1] | trim }} {% endfor %}",
}


@pytest.mark.parametrize(
    ("template", "left_out"),
    [("users", "message 1 of 3, 'Be brief.' of the role system"), ("last", "message 1 of 3"), ("all", "")],
)
def test_a_message_that_a_chat_template_leaves_out_is_no_part_of_a_prompt(template, left_out, policy):
    # ddalcu/mlx-serve#365, raullenchai/Rapid-MLX#1765: a system message was left out without a word.
    policy.tokenizer.chat_template = TEMPLATES[template]
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "<think>why</think> I am."},
        {"role": "user", "content": " What is 1 + 2? "},
    ]
    if left_out:
        with pytest.raises(ModelError, match=f"leaves out {left_out}"):
            encode_prompts(policy, [chat])
    else:
        ids, _ = encode_prompts(policy, [chat])
        assert policy.tokenizer.decode(ids[0]).startswith("Be brief. I am. What is")
