"""`--model`: what it opens, what it says when it cannot, adapters included."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from spg_trainer.errors import ModelError
from spg_trainer.models import (
    Policy,
    head_weight,
    hidden_states,
    load_model,
    new_tiny,
    save_model,
    tiny_tokenizer,
)
from tests.spg_trainer.test_models_format import some_ids

TARGETS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "model"
    model = new_tiny(hidden_size=32, layers=2, heads=4, ffn=48)
    save_model(Policy(model, tiny_tokenizer(), 258, 256, (256, 257), ""), folder)
    return folder


def edit(file: Path, **changes: object) -> None:
    settings = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


def logits(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        hidden = hidden_states(policy.model, some_ids(2, 11, vocab=266))
        return hidden @ head_weight(policy.model).T


def train_a_little(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_a_policy_knows_its_tokens(stored: Path) -> None:
    policy = load_model(str(stored))
    assert (policy.mask_id, policy.pad_id, policy.end_token_ids) == (258, 256, (256, 257))
    assert (policy.source, policy.note) == (str(stored), "")
    assert not policy.model.training
    assert policy.model.dtype == (torch.bfloat16 if torch.cuda.is_available() else torch.float32)
    assert torch.equal(head_weight(policy.model), policy.model.lm_head.weight)


def test_saving_and_loading_keeps_every_bit(stored: Path, tmp_path: Path) -> None:
    policy = load_model(str(stored), device="cpu")
    train_a_little(policy)
    save_model(policy, tmp_path / "run" / "model")
    again = load_model(str(tmp_path / "run"), device="cpu")
    assert again.source == str(tmp_path / "run" / "model")
    assert torch.equal(logits(again), logits(policy))
    assert torch.equal(AutoModel.from_pretrained(again.source).lm_head.weight, policy.model.lm_head.weight)
    chat = [{"role": "user", "content": "1+1"}]
    template = AutoTokenizer.from_pretrained(again.source).apply_chat_template(chat, tokenize=False)
    assert template == "<|user|>1+1<|eot_id|>"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtype_is_what_was_asked_for(stored: Path, dtype: str) -> None:
    policy = load_model(str(stored), dtype=dtype, device="cpu")
    assert {p.dtype for p in policy.model.parameters()} == {getattr(torch, dtype)}
    assert policy.model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_loading_draws_nothing_from_the_global_generator(stored: Path) -> None:
    before = torch.get_rng_state()
    load_model(str(stored), lora_r=2)
    assert torch.equal(torch.get_rng_state(), before)


# LoRA


def test_lora_sits_on_all_seven_layers_and_starts_at_no_effect(stored: Path) -> None:
    plain, adapted = load_model(str(stored), device="cpu"), load_model(str(stored), device="cpu", lora_r=8)
    assert torch.equal(logits(plain), logits(adapted))
    trained = [name for name, p in adapted.model.named_parameters() if p.requires_grad]
    assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in trained} == TARGETS
    assert len(trained) == 2 * 7 * 2
    settings = adapted.model.peft_config["default"]
    assert (settings.r, settings.lora_alpha, settings.lora_dropout) == (8, 4, 0.0)


def test_lora_depends_on_its_seed_alone(stored: Path) -> None:
    torch.manual_seed(1)
    first = load_model(str(stored), device="cpu", lora_r=4, seed=7)
    torch.manual_seed(2)
    again, other = (load_model(str(stored), device="cpu", lora_r=4, seed=seed) for seed in (7, 8))
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_A.default.weight"
    weights = [policy.model.get_parameter(name) for policy in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert 0 < weights[0].abs().max() <= 32**-0.5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_an_adapter_reopens_to_the_bit(stored: Path, tmp_path: Path, dtype: str) -> None:
    from peft import PeftModel

    policy = load_model(str(stored), device="cpu", lora_r=4, lora_alpha=16, dtype=dtype)
    train_a_little(policy)
    save_model(policy, tmp_path / "model")
    expected = logits(policy)
    assert not torch.equal(expected, logits(load_model(str(stored), device="cpu", dtype=dtype)))
    again = load_model(str(tmp_path), device="cpu", dtype=dtype)
    assert torch.equal(logits(again), expected)
    assert (again.source, again.mask_id) == (str(tmp_path / "model"), 258)
    assert sum(p.requires_grad for p in again.model.parameters()) == 28
    base = AutoModel.from_pretrained(stored, dtype=getattr(torch, dtype))
    by_peft = PeftModel.from_pretrained(base, tmp_path / "model").eval()
    assert torch.equal(logits(Policy(by_peft, again.tokenizer, 258, 256, (), "")), expected)
    save_model(again, tmp_path / "again")
    assert torch.equal(logits(load_model(str(tmp_path / "again"), device="cpu", dtype=dtype)), expected)


def test_gradients_flow_through_a_checkpointed_adapter(stored: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        policy = load_model(str(stored), device="cpu", lora_r=2)
        train_a_little(policy)
        policy.model.train()
        if checkpointing:
            policy.model.get_base_model().gradient_checkpointing_enable()
        hidden_states(policy.model, some_ids(2, 5)).sin().sum().backward()
        gradients.append([p.grad for p in policy.model.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) and a.abs().max() > 0 for a, b in zip(*gradients, strict=True))


def test_an_adapter_on_the_hub_names_is_understood(stored: Path, tmp_path: Path) -> None:
    """As d1's and SPG's code saves them, around the remote code's modules: four of the seven found."""
    policy = load_model(str(stored), device="cpu", lora_r=4)
    train_a_little(policy)
    save_model(policy, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    ours = {
        n: x for n, x in load_file(file).items() if any(f".{k}_proj." in n for k in ("q", "k", "v", "up"))
    }
    renamed = {}
    for name, weight in ours.items():
        name = name.replace(".model.layers.", ".model.transformer.blocks.")
        renamed[name.replace(".self_attn.", ".").replace(".mlp.", ".")] = weight
    save_file(renamed, file, metadata={"format": "pt"})
    theirs = load_model(str(tmp_path), device="cpu").model.state_dict()
    for name, weight in ours.items():
        assert torch.equal(theirs[name.replace(".weight", ".default.weight")], weight)
    left_out = [weight for name, weight in theirs.items() if "o_proj.lora_B" in name]
    assert left_out and all(not weight.any() for weight in left_out)


def test_adapters_that_cannot_work_are_refused(stored: Path, tmp_path: Path) -> None:
    policy = load_model(str(stored), device="cpu", lora_r=4)
    save_model(policy, tmp_path)
    with pytest.raises(ModelError, match="already is an adapter"):
        load_model(str(tmp_path), lora_r=4)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(2, 2)}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="does not fit"):
        load_model(str(tmp_path))
    save_file({n: x.repeat(1, 2) for n, x in weights.items()}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="cannot be put on its base"):
        load_model(str(tmp_path))
    edit(tmp_path / "adapter_config.json", base_model_name_or_path="/gone/base")
    with pytest.raises(ModelError, match="/gone/base"):
        load_model(str(tmp_path))
    for change in ({"lora_alpha": 0}, {"lora_dropout": 1.0}, {"lora_r": -1}):
        with pytest.raises(ModelError, match="lora_r"):
            load_model(str(stored), **({"lora_r": 2} | change))
