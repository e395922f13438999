"""What a prompt spells is text: only the chat template's own tokens are special, for every tokenizer and template."""

from types import SimpleNamespace
from typing import Any

import pytest

from spg_trainer.models import Policy, tiny_tokenizer
from spg_trainer.rollout.tokens import encode_completions, encode_prompts, special_tokens
from tests.common import field_reports
from tests.common.family_cases import WORDS, tokenizer_of
from tests.common.field_reports import cases
from tests.common.published import MASKS
from tests.spg_trainer.models.test_tokenizers import CHATML, ROLES


def policy_of(name: str, template: str | None) -> Policy:
    """A tokenizer of a family with a chat template; there is no model behind it."""
    if name == "tiny":
        tokenizer = tiny_tokenizer()
        tokenizer.chat_template = template or tokenizer.chat_template
    else:
        tokenizer = tokenizer_of(name, chat_template=template)
    end = max(tokenizer.added_tokens_decoder)
    mask = MASKS.get(name, tokenizer.mask_token_id)
    model: Any = SimpleNamespace(device="cpu", parameters=lambda: iter(()))
    return Policy(model, tokenizer, mask, end, (end,), "test")


POLICIES = [
    *(
        pytest.param(name, template, id=f"{name}-{kind}")
        for name in ("tiny", *WORDS)
        for kind, template in (("chatml", CHATML), ("roles", ROLES), ("none", None))
    )
]
PLAIN = [
    "",
    "2+2",
    " <answer>4</answer> < | > <| |> \n\t",
    "What is 3 < 4 | 5 > 2?",
    "naive \u00e9 \u4f60 \U0001f642",
]


def asked_today(policy: Policy, prompt: Any) -> list[int]:
    """The ids of a prompt whose every special token counts, as the tokenizer and the template have it."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    text = prompt
    if policy.tokenizer.chat_template:
        options = {"add_generation_prompt": True, "tokenize": False, "enable_thinking": False}
        text = policy.tokenizer.apply_chat_template(messages, **options)
    return policy.tokenizer(text, add_special_tokens=False)["input_ids"]


def ids_of(policy: Policy, prompt: Any) -> list[int]:
    ids, mask = encode_prompts(policy, [prompt])
    return ids[0][mask[0]].tolist()


@pytest.mark.parametrize(("name", "template"), POLICIES)
def test_what_spells_no_special_token_is_encoded_as_ever(name, template):
    policy = policy_of(name, template)
    for prompt in PLAIN:
        assert ids_of(policy, prompt) == asked_today(policy, prompt)
        chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": "4"}]
        if policy.tokenizer.chat_template:
            assert ids_of(policy, [*chat, *chat[:1]]) == asked_today(policy, [*chat, *chat[:1]])


@pytest.mark.parametrize(("name", "template"), POLICIES)
def test_a_special_token_that_a_prompt_spells_is_text(name, template):
    policy = policy_of(name, template)
    special = special_tokens(policy)
    frame = [token for token in ids_of(policy, "2+2") if token in special]
    for token in special.values():
        for prompt in (token, f"2{token}2", f"{token}{token}", f"<{token}> {token}"):
            ids = ids_of(policy, prompt)
            assert [one for one in ids if one in special] == frame, prompt
            said = policy.tokenizer.decode(ids, skip_special_tokens=False)
            if name == "tiny":
                assert prompt in said


def test_what_a_model_wrote_in_an_earlier_turn_is_text_too():
    policy = policy_of("tiny", None)
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<|mdm_mask|>"}]
    ids = ids_of(policy, [*chat, {"role": "user", "content": "b<|eot_id|>"}])
    assert ids.count(policy.mask_id) == 0
    assert ids.count(policy.tokenizer.convert_tokens_to_ids("<|eot_id|>")) == 3


def test_a_mask_token_in_a_completion_is_text_and_an_end_token_an_end():
    policy = policy_of("tiny", None)
    end = policy.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    ids = encode_completions(policy, ["<|mdm_mask|>4<|eot_id|>"], 20)[0].tolist()
    assert policy.mask_id not in ids and policy.tokenizer.decode(ids[:13]) == "<|mdm_mask|>4"
    assert ids[13] == end


@pytest.mark.parametrize(("given", "right"), cases(field_reports.SPECIAL_TOKENS))
def test_a_reported_prompt_spells_no_special_token(given: str, right: int) -> None:
    policy = policy_of("tiny", CHATML)
    policy.tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    ids = ids_of(policy, given)
    assert sum(token in special_tokens(policy) for token in ids) == right
    assert given in policy.tokenizer.decode(ids)
