"""The embedded tokenizer (bytes, tags and marks) and fresh models for it."""

import json
import warnings
from pathlib import Path

import jinja2
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import envs
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.cli import main
from spg_trainer.errors import ModelError
from spg_trainer.models import Policy, load_model, new_tiny, save_model, tiny_tokenizer
from spg_trainer.models.tiny import config_of_new
from spg_trainer.settings import weights
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.weights import Weights, resolve_model
from spg_trainer.training.loop import train
from tests.common.trainer_cases import Letters, rows, save_tiny, small_config

SPECIAL = ["<|endoftext|>", "<|eot_id|>", "<|mdm_mask|>", "<|user|>", "<|assistant|>", "<|system|>"]
TAGS = ["<answer>", "</answer>", "<reasoning>", "</reasoning>"]
TOKENIZER = tiny_tokenizer()
SMALL = {"hidden_size": 16, "layers": 1, "heads": 2, "ffn": 24}


def ids(text: str, tokenizer: PreTrainedTokenizerFast = TOKENIZER) -> list[int]:
    return tokenizer(text)["input_ids"]


def test_ids_are_fixed_for_ever():
    assert len(TOKENIZER) == 266
    assert [TOKENIZER.convert_tokens_to_ids(text) for text in SPECIAL + TAGS] == list(range(256, 266))
    assert TOKENIZER.eos_token_id == TOKENIZER.pad_token_id == 256
    assert TOKENIZER.mask_token_id == 258
    assert TOKENIZER.padding_side == "left"


def test_every_byte_is_its_own_token():
    for character in map(chr, [*range(128), *range(128, 600, 7), 0x20AC, 0x1F600]):
        assert ids(character) == list(character.encode())


@pytest.mark.parametrize("text", SPECIAL + TAGS)
def test_tags_and_marks_are_one_token_wherever_they_stand(text: str):
    number = TOKENIZER.convert_tokens_to_ids(text)
    assert ids(text) == [number]
    assert ids(f" {text}\n1") == [32, number, 10, 49]
    assert TOKENIZER.decode([32, number, 32]) == f" {text} "


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.lists(st.sampled_from([*TAGS, *SPECIAL, " ", "é", "'s"])).map("".join)
)
@example(" leading and trailing \n")
@example("do n't . , ! ?  two  spaces\r\n\ttab")
@example("<answer>1234</answer> <|eot_id|>")
@example("<|eot_id")
def test_any_text_survives_the_round_trip(text: str):
    assert TOKENIZER.decode(ids(text)) == text


def test_skipping_special_tokens_keeps_the_tags_and_their_spaces():
    text = "<reasoning> a </reasoning>\n<answer> 12 </answer><|eot_id|><|endoftext|><|mdm_mask|>"
    expected = "<reasoning> a </reasoning>\n<answer> 12 </answer>"
    assert TOKENIZER.decode(ids(text), skip_special_tokens=True) == expected


def test_nothing_is_added_and_padding_goes_left():
    assert ids("") == []
    batch = TOKENIZER(["ab", "abcd"], padding=True)
    assert batch["input_ids"][0] == [256, 256, 97, 98]
    assert batch["attention_mask"][0] == [0, 0, 1, 1]


def test_the_chat_template_frames_each_message():
    messages = [
        {"role": "system", "content": "Be <brief>.\n"},
        {"role": "user", "content": "1 & 2?"},
        {"role": "assistant", "content": "<answer>3</answer>"},
    ]
    start = "<|system|>Be <brief>.\n<|eot_id|><|user|>1 & 2?<|eot_id|><|assistant|>"
    closed = TOKENIZER.apply_chat_template(messages, tokenize=False)
    assert closed == f"{start}<answer>3</answer><|eot_id|>"
    opened = TOKENIZER.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert opened == start
    numbers = TOKENIZER.apply_chat_template(messages[1:2], add_generation_prompt=True)["input_ids"]
    assert numbers == [259, *b"1 & 2?", 257, 260]
    with pytest.raises(jinja2.TemplateError, match="robot"):
        TOKENIZER.apply_chat_template([{"role": "robot", "content": ""}], tokenize=False)


def test_a_saved_tokenizer_is_the_same_tokenizer(tmp_path: Path):
    TOKENIZER.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = " <answer> é\n</answer> ﬁ \u200b<|eot_id|><|mdm_mask|> 's .\x00"
    assert ids(text, again) == ids(text) and again.decode(ids(text)) == text
    skipped = [tokenizer.decode(ids(text), skip_special_tokens=True) for tokenizer in (again, TOKENIZER)]
    assert skipped[0] == skipped[1]
    assert again.chat_template == TOKENIZER.chat_template
    assert again.get_vocab() == TOKENIZER.get_vocab()
    kept = ("eos_token_id", "pad_token_id", "mask_token_id", "padding_side", "bos_token_id", "unk_token_id")
    assert [getattr(again, name) for name in kept] == [256, 256, 258, "left", None, None]


def test_a_new_model_depends_on_its_seed_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = new_tiny(hidden_size=16, layers=1, heads=2, ffn=24, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    again, other = (new_tiny(hidden_size=16, layers=1, heads=2, ffn=24, seed=seed) for seed in (3, 4))
    assert torch.equal(first.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert not first.training


# Kinds beside LLaDA's.

KINDS = {"block": ("sdar", Pattern(8), 0), "shift": ("Dream", Pattern(), 1)}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_a_kind_is_written_under_its_family_and_opens_to_the_bit(kind, tmp_path):
    model, (family, pattern, shift) = new_tiny(kind, **SMALL), KINDS[kind]
    save_model(Policy(model, TOKENIZER, 258, 256, (256, 257), "new"), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == family
    policy = load_model(str(tmp_path), device="cpu")
    assert (policy.model.pattern, policy.model.shift) == (pattern, shift)
    assert (policy.mask_id, policy.end_token_ids) == (258, (256, 257))
    found, wanted = policy.model.state_dict(), model.state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@each_kind
def test_a_kind_depends_on_its_seed_and_differs_from_llada(kind):
    state = torch.get_rng_state()
    first, again, other = (new_tiny(kind, **SMALL, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert type(first) is not type(new_tiny(**SMALL))


@pytest.mark.parametrize("kind", ["", *KINDS])
def test_what_a_dry_run_reads_of_a_new_model_is_the_configuration_that_it_has(kind):
    sizes = {"num_layers": 1, "num_heads": 2, "intermediate_size": 24}
    settings = ModelConfig(model=f"new:{kind}" if kind else "new", hidden_size=16, **sizes)
    model = new_tiny(kind, hidden_size=16, layers=1, heads=2, ffn=24)
    assert config_of_new(settings).to_diff_dict() == model.config.to_diff_dict()


@each_kind
def test_a_kind_has_a_name_for_every_task_and_says_what_it_has_not_seen(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "models_folder", lambda: tmp_path)
    folder = tmp_path / f"tiny-sudoku-{kind}"
    folder.mkdir()
    for name in (None, "sudoku", "spg/Sudoku-v0"):
        assert resolve_model(f"tiny:{kind}", name) == Weights(str(folder))
    other = resolve_model(f"tiny:{kind}", "countdown")
    assert other.base == str(folder) and "only seen sudoku" in other.note


@pytest.mark.parametrize("name, nearest", [("tiny:blok", "tiny:block"), ("tiny:shfit", "tiny:shift")])
def test_a_kind_that_is_misspelt_is_told_the_nearest(name, nearest):
    with pytest.raises(ModelError, match=f"Did you mean '{nearest}'") as caught:
        resolve_model(name)
    assert f"'{name}'" in str(caught.value)


@each_kind
def test_a_kind_trains_from_its_folder(kind, tmp_path):
    folder = save_tiny(tmp_path / "model", kind=kind)
    small = {"block_length": 5, "diffusion_steps": 10, "max_steps": 1, "eval_steps": 0}
    if kind == "block":  # of 8 tokens
        small |= {"max_completion_length": 8, "block_length": 4, "diffusion_steps": 8, "cache": "blocks"}
    train(small_config(tmp_path / "run", model=folder, **small), quiet=True)
    (row,) = rows(tmp_path / "run" / "metrics.jsonl")
    assert row["grad_norm"] > 0
    trained = load_model(str(tmp_path / "run"), device="cpu").model
    assert (trained.pattern, trained.shift) == KINDS[kind][1:]
    assert not torch.equal(trained.lm_head.weight, load_model(str(folder), device="cpu").model.lm_head.weight)


def test_a_task_without_a_small_model_is_told_which_one_is_opened():
    class NeverTaught(Letters):
        pass

    envs.register("test/NeverTaught-v0", NeverTaught)
    sudoku = r"opens tiny-sudoku: the small model .* has only seen sudoku and knows nothing of this task"
    for env in ("test/NeverTaught-v0", NeverTaught):
        with pytest.warns(UserWarning, match=sudoku) as warned:
            policy = load_model("tiny", env=env, device="cpu")
        assert Path(policy.source).name == "tiny-sudoku" and warned[0].filename == __file__
    with pytest.warns(UserWarning, match="opens tiny-countdown: .*; teach it .* as --model"):
        assert load_model("tiny", env=["countdown", NeverTaught], device="cpu").source.endswith(
            "tiny-countdown"
        )
    with warnings.catch_warnings(action="error"):
        assert load_model("tiny", env=envs.Countdown, device="cpu").source.endswith("tiny-countdown")
        load_model("tiny:countdown", env=NeverTaught, device="cpu")


def test_the_model_of_a_task_is_named_on_any_other_task(monkeypatch, tmp_path, capsys):
    """From an installed wheel as well, where nobody knows in which folder the models are."""
    monkeypatch.chdir(tmp_path)
    folder = weights.models_folder() / "tiny-countdown"
    for task in (None, "countdown", "arithmetic"):
        assert resolve_model("tiny:countdown", task) == Weights(str(folder))
    assert not weights.knows_nothing("tiny:countdown", "arithmetic") and not weights.unseen(
        "tiny:countdown", "arithmetic"
    )
    shown = []
    for name in ("tiny:countdown", str(folder)):
        assert main(["--env", "arithmetic", "--model", name, "--dry-run"]) == 0
        shown.append(capsys.readouterr().out.replace(name, "MODEL").splitlines()[:80])
    assert shown[0] == shown[1]
    for name in ("tiny:countdwn", "tiny:sudoku-block", "tiny:"):
        with pytest.raises(ModelError, match=r"model takes tiny, tiny:block, tiny:code, tiny:countdown, "):
            resolve_model(name)
