"""`--model`: what it opens, what it says when it cannot, adapters and embedded models included."""

import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertConfig

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.models import (
    Policy,
    head_weight,
    hidden_states,
    load_model,
    open_policy,
    save_model,
)
from spg_trainer.models.load import new_policy
from spg_trainer.models.lora import multiply_in_16_bits
from spg_trainer.models.shard import reduce_gradients, unsharded
from spg_trainer.runs import files
from spg_trainer.settings import weights
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.recorded import model_environment
from spg_trainer.settings.resolve import defaults
from tests.common import field_reports
from tests.common.field_reports import cases
from tests.common.model_cases import edit, hub_folder, save_small, some_ids


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A model, read only."""
    return save_small(tmp_path_factory.mktemp("stored") / "model")


@pytest.fixture
def folder(tmp_path):
    """A model to break."""
    return save_small(tmp_path / "good", hidden_size=16, layers=1, heads=2, ffn=24)


def logits(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        return hidden_states(policy.model, some_ids(2, 11, vocab=266)) @ head_weight(policy.model).T


def train_a_little(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def refused(name: object, *words: object, **options: object) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(str(name), **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message


# Opening and saving.


def test_a_policy_knows_its_tokens(stored):
    policy = load_model(str(stored))
    assert (policy.mask_id, policy.pad_id, policy.end_token_ids) == (258, 256, (256, 257))
    assert (policy.source, policy.note) == (str(stored), "")
    assert [policy.ending_with(which).end_token_ids for which in ("any", "eos")] == [(256, 257), (256,)]
    assert not policy.model.training
    assert policy.model.dtype == (torch.bfloat16 if torch.cuda.is_available() else torch.float32)
    assert torch.equal(head_weight(policy.model), policy.model.lm_head.weight)


def test_a_tokenizer_that_was_saved_to_split_special_tokens_reads_them_as_such(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(weights.models_folder() / "tiny-gsm8k", folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "split_special_tokens": True}))
    tokenizer = load_model(folder, device="cpu").tokenizer
    assert tokenizer(tokenizer.eos_token)["input_ids"] == [tokenizer.eos_token_id]


def test_saving_and_loading_keeps_every_bit(stored, tmp_path):
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
def test_dtype_is_what_was_asked_for(stored, dtype):
    policy = load_model(str(stored), dtype=dtype, device="cpu")
    assert {p.dtype for p in policy.model.parameters()} == {getattr(torch, dtype)}
    assert policy.model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_all_weights_are_never_trained_in_bfloat16():
    whole = open_policy(ModelConfig(dtype="bfloat16"), env="sudoku", seed=0)
    kept = {name: p.detach().clone() for name, p in whole.model.named_parameters()}
    assert {p.dtype for p in kept.values()} == {torch.float32}
    ids, device = torch.tensor([[1, 2, 3]]), whole.model.device
    sums: dict[str, float] = {}
    with unsharded(whole.model):
        assert {p.dtype for p in whole.model.parameters()} == {torch.bfloat16}
        for _ in range(2):
            whole.model(ids.to(device)).logits.float().logsumexp(-1).sum().backward()
        assert all(p.grad is None for p in whole.model.parameters())  # they are added up beside
        reduce_gradients(whole.model)
        sums = {name: p.grad for name, p in whole.model.named_parameters()}
    for name, p in whole.model.named_parameters():
        assert torch.equal(p, kept[name])
        assert p.grad is sums[name] and p.grad.dtype == torch.float32
        half = (
            (p.grad / 2).bfloat16().float()
        )  # each of the two is a number of 16 bits, and their sum need not be one
        assert torch.equal(half * 2, p.grad), name


def test_a_working_copy_is_dropped_after_an_error():
    whole = open_policy(ModelConfig(dtype="bfloat16"), env="sudoku", seed=0)
    with pytest.raises(ValueError), unsharded(whole.model):
        raise ValueError
    assert {p.dtype for p in whole.model.parameters()} == {torch.float32}


def test_adapters_are_trained_in_float32():
    adapted = open_policy(ModelConfig(dtype="bfloat16", lora_r=2), env="sudoku", seed=0)
    assert {p.dtype for p in adapted.model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in adapted.model.parameters() if not p.requires_grad} == {torch.bfloat16}


# Adapters.


def test_lora_sits_on_all_seven_layers_and_starts_at_no_effect(stored):
    plain, adapted = load_model(str(stored), device="cpu"), load_model(str(stored), device="cpu", lora_r=8)
    assert torch.equal(logits(plain), logits(adapted))
    trained = [name for name, p in adapted.model.named_parameters() if p.requires_grad]
    layers = {name.split(".lora_")[0].rsplit(".", 1)[1] for name in trained}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(trained) == 2 * 7 * 2
    settings = adapted.model.peft_config["default"]
    assert (settings.r, settings.lora_alpha, settings.lora_dropout) == (8, 4, 0.0)


def test_lora_depends_on_its_seed_alone(stored):
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_A.default.weight"
    weights = []
    for global_seed, seed in ((1, 7), (2, 7), (2, 8)):
        before = torch.manual_seed(global_seed).get_state()
        weights.append(load_model(str(stored), device="cpu", lora_r=4, seed=seed).model.get_parameter(name))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert 0 < weights[0].abs().max() <= 32**-0.5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_reopens_to_the_bit(stored, tmp_path, dtype):
    options = {"device": "cpu", "dtype": dtype}
    policy = load_model(str(stored), lora_r=4, lora_alpha=16, **options)
    train_a_little(policy)
    save_model(policy, tmp_path / "model")
    expected = logits(policy)
    assert not torch.equal(expected, logits(load_model(str(stored), **options)))
    again = load_model(str(tmp_path), **options)
    assert torch.equal(logits(again), expected)
    assert (again.source, again.mask_id) == (str(tmp_path / "model"), 258)
    assert sum(p.requires_grad for p in again.model.parameters()) == 28
    base = AutoModel.from_pretrained(stored, dtype=getattr(torch, dtype))
    by_peft = PeftModel.from_pretrained(base, tmp_path / "model").eval()
    multiply_in_16_bits(by_peft)  # in float32 it changes nothing
    assert torch.equal(logits(Policy(by_peft, again.tokenizer, 258, 256, (), "")), expected)
    save_model(again, tmp_path / "again")
    assert torch.equal(logits(load_model(str(tmp_path / "again"), **options)), expected)
    for auto in (AutoModel, AutoModelForMaskedLM):
        opened = auto.from_pretrained(tmp_path / "again", dtype=getattr(torch, dtype)).eval()
        ours = logits(Policy(opened, again.tokenizer, 258, 256, (), ""))
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6 if dtype == "float32" else 0.05)


def test_an_adapter_on_the_hub_names_is_understood(stored, tmp_path):
    """As d1's and SPG's code saves them, around the remote code's modules: four of the seven found."""
    policy = load_model(str(stored), device="cpu", lora_r=4)
    train_a_little(policy)
    save_model(policy, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    found = [f".{k}_proj." for k in ("q", "k", "v", "up")]
    ours = {name: x for name, x in load_file(file).items() if any(kind in name for kind in found)}
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


def test_adapters_that_cannot_work_are_refused(stored, tmp_path):
    save_model(load_model(str(stored), device="cpu", lora_r=4), tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(2, 2)}, file, metadata={"format": "pt"})
    refused(tmp_path, "does not fit")
    save_file({n: x.repeat(1, 2) for n, x in weights.items()}, file, metadata={"format": "pt"})
    refused(tmp_path, "does not fit")
    edit(tmp_path / "adapter_config.json", base_model_name_or_path="/gone/base")
    refused(tmp_path, "/gone/base")
    for nothing in (
        None,
        "",
        " ",
    ):  # as peft writes for a model made from a config; "" would be the present folder
        edit(tmp_path / "adapter_config.json", base_model_name_or_path=nothing)
        refused(tmp_path, "names no base model")
        with pytest.raises(ModelError, match=r"names no base model.*PeftModel\.from_pretrained\(base, "):
            AutoModel.from_pretrained(tmp_path)


# What cannot be opened.


def test_a_model_keeps_the_variables_of_its_chat_template_and_is_found_from_another_folder(
    stored, tmp_path, monkeypatch
):
    shutil.copytree(stored, tmp_path / "model")
    thinking = "{% if enable_thinking %}<think>{% endif %}{{ messages[0].content }}"
    edit(tmp_path / "model" / "tokenizer_config.json", chat_template=thinking)
    (tmp_path / "model" / "chat_template.jinja").write_text(thinking)
    (tmp_path / "model" / "environment.json").write_text('{"env": "sudoku", "preset": "llada"}')
    monkeypatch.chdir(tmp_path)
    policy = load_model("model", device="cpu", chat_template_args={"enable_thinking": True})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    save_model(policy, "saved")
    assert json.loads(Path("saved/environment.json").read_text())["env"] == "sudoku"
    assert load_model("saved", device="cpu").chat_template_args == {"enable_thinking": True}
    other = load_model("saved", device="cpu", chat_template_args={"enable_thinking": False})
    assert other.chat_template_args == {"enable_thinking": False}
    Path("../model/environment.json").unlink()  # as a model of the hub, which has no record
    save_model(load_model("../model", device="cpu", chat_template_args={"enable_thinking": True}), "hub")
    assert load_model("hub", device="cpu").chat_template_args == {"enable_thinking": True}
    save_model(load_model("../model", device="cpu"), "hub")
    assert not Path("hub/environment.json").exists()


def test_a_variable_that_no_chat_template_reads_is_refused(folder):
    with pytest.raises(ConfigError, match="--chat-template-args enable_thinking: the chat template does not"):
        load_model(str(folder), device="cpu", chat_template_args={"enable_thinking": True})


def test_unknown_paths_name_the_nearest_folder_and_the_newest_checkpoint(folder, monkeypatch):
    refused(folder.parent / "goood", f"Did you mean '{folder}'?")
    refused("tyni", "Did you mean 'tiny'?")
    refused(folder / "config.json", folder / "config.json", "model takes")
    refused(folder.parent, folder.parent, "no config.json", "It holds", "good")
    for step in (500, 1000):
        (folder.parent.parent / "results" / f"checkpoint-{step}").mkdir(parents=True)
        (folder.parent.parent / "results" / f"checkpoint-{step}" / "adapter_config.json").touch()
    results = folder.parent.parent / "results"
    refused(results, f"--model {results}/checkpoint-1000", "It holds 2: checkpoint-500, checkpoint-1000.")
    for step in (3, 20):
        checkpoint = folder.parent / "checkpoints" / f"step-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "COMPLETE").touch()
    refused(folder.parent, f"--model {checkpoint}; or, unless it is still being trained, finish it:")
    monkeypatch.chdir(folder.parent.parent)  # below an existing folder, a name is never taken for a Hub id
    refused(f"{folder.parent.name}/god", "Did you mean", "good")


def test_a_hub_id_without_a_network_answers_at_once(monkeypatch):
    asked = []

    def no_network(host: object, *args: object, **kwargs: object) -> None:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    refused("nobody-here/llada-none", "nobody-here/llada-none", "does not answer", "--model PATH")
    assert len(asked) <= 2


def test_broken_weights_and_configs_are_reported_with_their_folder(folder, tmp_path):
    file = folder / "model.safetensors"
    whole, stored, lost = file.read_bytes(), load_file(file), "model.transformer.blocks.0.up_proj.weight"
    save_file({n: x for n, x in stored.items() if n != lost}, file)
    refused(folder, "missing_keys", "up_proj")
    save_file(stored | {"model.transformer.wpe.weight": torch.zeros(2)}, file)
    refused(folder, "unexpected_keys", "wpe")
    edit(folder / "config.json", mlp_hidden_size=32)
    refused(folder, folder)
    edit(folder / "config.json", alibi=True)
    refused(folder, folder, "alibi")
    edit(folder / "config.json", alibi=False, mlp_hidden_size=24)
    file.write_bytes(whole[: len(whole) // 2])
    refused(folder, folder)
    (folder / "config.json").write_text("{")
    refused(folder, folder)
    hub_folder(tmp_path / "hub")
    refused(tmp_path / "hub", "tokenizer", tmp_path / "hub")


def test_a_file_of_a_whole_folder_whose_bytes_have_changed_is_named(tmp_path):
    """As a failing disk leaves it: the sizes are right. A text that the user has edited opens."""
    target = tmp_path / "model"
    files.write_folder(
        target, lambda folder: save_model(new_policy(hidden_size=16, layers=1, heads=2), folder)
    )
    files_of_model = {path.name: path.read_bytes() for path in target.iterdir()}
    weights = bytearray(files_of_model["model.safetensors"])
    weights[-2] ^= 1
    config = b" " * len(files_of_model["config.json"])
    for name, content in {"model.safetensors": bytes(weights), "config.json": config}.items():
        (target / name).write_bytes(content)
        with pytest.raises(ModelError, match=rf"model has a damaged file {name} .*remove .*COMPLETE\.$"):
            load_model(target)
        (target / name).write_bytes(files_of_model[name])
    template = target / "chat_template.jinja"
    template.write_bytes(files_of_model[template.name].replace(b"user", b"User"))
    policy = load_model(target)
    save_model(policy, target)
    assert not (target / "COMPLETE").exists() and load_model(target)


def test_other_kinds_of_models_are_refused_by_their_type(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    refused(tmp_path, "model_type 'bert'", "llada")
    edit(tmp_path / "config.json", model_type="dream_unknown")
    refused(tmp_path, "dream_unknown")
    edit(tmp_path / "config.json", auto_map={"AutoConfig": "code.Config"})
    (tmp_path / "code.py").write_text("raise SystemExit('remote code was run')")
    refused(tmp_path, tmp_path)


def rename(folder: Path, word: str) -> None:
    """Gives a word of the vocabulary a name that says nothing."""
    for file in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace(word, f"<|other {word.strip('<|>')}|>"))


def test_the_mask_token_is_looked_for_in_config_and_tokenizer(folder):
    edit(folder / "config.json", mask_token_id=None)
    assert load_model(str(folder)).mask_id == 258
    edit(folder / "tokenizer_config.json", mask_token=None)
    assert load_model(str(folder)).mask_id == 258  # by its name
    rename(folder, "<|mdm_mask|>")
    refused(folder, "no mask token", "mask_token_id")
    edit(folder / "config.json", mask_token_id=100)
    assert load_model(str(folder)).mask_id == 100
    edit(folder / "config.json", mask_token_id=266)
    refused(folder, "266 embeddings", "mask_token_id is 266", "266 tokens")
    edit(folder / "config.json", mask_token_id=256)
    refused(folder, "(256, 257)", "mask 256", "eos_token_id")


@pytest.mark.parametrize(("given", "right"), cases(field_reports.TWO_MASKS))
def test_a_reported_pair_of_mask_tokens_is_refused_where_they_differ(folder, given, right):
    edit(folder / "config.json", mask_token_id=258 + given)
    if right:
        refused(folder, f"token {258 + given} ", "258 ('<|mdm_mask|>')")
    else:
        assert load_model(str(folder)).mask_id == 258


def test_two_masks_are_refused_until_a_flag_says_which(folder, tmp_path):
    edit(folder / "config.json", mask_token_id=260)
    refused(
        folder,
        "token 260 ('<|assistant|>')",
        "258 ('<|mdm_mask|>')",
        "--mask-token-id 260 or --mask-token-id 258",
    )
    for mask in (258, 260):
        policy = load_model(str(folder), mask_token_id=mask)
        assert policy.mask_id == policy.tokenizer.mask_token_id == mask
        save_model(policy, tmp_path / str(mask))
        assert load_model(str(tmp_path / str(mask))).mask_id == mask, "what was saved says it in both places"


def test_end_tokens_are_every_end_of_config_and_tokenizer(folder):
    edit(folder / "config.json", eos_token_id=[10, 256])
    assert load_model(str(folder)).end_token_ids == (10, 256, 257)
    edit(folder / "config.json", eos_token_id=None)
    edit(folder / "tokenizer_config.json", eos_token=None)
    assert load_model(str(folder)).end_token_ids == (256, 257)  # by their names
    rename(folder, "<|endoftext|>")
    assert load_model(str(folder)).end_token_ids == (257,)  # that of the turn is enough
    rename(folder, "<|eot_id|>")
    refused(folder, folder, "()", "eos_token_id")


def test_unknown_devices_and_dtypes_list_the_known(stored):
    refused(stored, "bf16", "bfloat16", dtype="bf16")
    refused(stored, "gpu0", "cuda", device="gpu0")
    refused(stored, "cuda:99", "use auto, cpu", device="cuda:99")


def test_a_head_that_is_no_plain_linear_is_refused(stored):
    model = load_model(str(stored), device="cpu").model
    with pytest.raises(ModelError, match="lm_head"):
        head_weight(get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"])))
    model = load_model(str(stored), device="cpu").model
    model.lm_head = torch.nn.Linear(32, 266, bias=True)
    with pytest.raises(ModelError, match="bias"):
        head_weight(model)


# The embedded models.


def test_tiny_is_the_model_of_the_environment_or_says_what_to_do(folder, monkeypatch):
    models = folder.parent / "data" / "models"
    for task in ("sudoku", "countdown"):
        shutil.copytree(folder, models / f"tiny-{task}")
    monkeypatch.setattr(weights, "models_folder", lambda: models)
    for env in ("countdown", "spg/Countdown-v0", "envs:spg/Countdown-v0", "envs.countdown:Countdown"):
        policy = load_model("tiny", env=env)
        assert (Path(policy.source).name, policy.note) == ("tiny-countdown", "")
    assert Path(load_model("tiny").source).name == "tiny-sudoku"
    same_name = ("reasoning_gym:countdown", "./my_task.py:my/Countdown-v0", "my/Countdown-v0")
    for env in (*same_name, "./maze.py:my/Maze-v0"):  # but other tasks
        found = weights.resolve_model("tiny", env)
        assert Path(found.base).name == "tiny-sudoku"
        assert "knows nothing of this task" in found.note and "\n" not in found.note
        assert "with sft" in found.note
    # An adapter trained on an embedded model of another machine finds the one of this machine.
    adapter = folder.parent / "adapter"
    save_model(load_model("tiny", lora_r=1), adapter)
    edit(adapter / "adapter_config.json", base_model_name_or_path="/elsewhere/data/models/tiny-sudoku")
    assert load_model(str(adapter)).source == str(adapter)


@pytest.mark.parametrize("lora_r", [0, 2])
def test_a_model_is_saved_with_the_record_of_how_it_was_taught(tmp_path, lora_r):
    """Else the same weights would be asked and decoded as those of an unknown model."""
    policy = load_model("tiny:countdown", lora_r=lora_r, device="cpu", dtype="bfloat16")
    save_model(policy, tmp_path / "once")
    again = load_model(tmp_path / "once", device="cpu")
    save_model(again, tmp_path / "twice")
    for name in ("once", "twice"):
        for task in ("countdown", "sudoku"):
            assert defaults(Sampling, task, model=str(tmp_path / name)) == defaults(
                Sampling, task, model=policy.source
            )
        assert model_environment(str(tmp_path / name))["env"] == "countdown"
    types = [model_environment(str(tmp_path / name))["dtype"] for name in ("once", "twice")]
    assert types == ["bfloat16", "float32"]


@pytest.mark.parametrize("source", ["", "new", "tiny", "mine"])
def test_a_model_object_of_the_users_is_saved_without_a_record(stored, tmp_path, monkeypatch, source):
    """Also where a run lies in the folder in which Python runs, or in one that is called as the policy is."""
    monkeypatch.chdir(tmp_path)
    for folder in (Path(), Path("new"), Path("tiny")):
        folder.mkdir(exist_ok=True)
        (folder / "environment.json").write_text('{"env": "sudoku"}')
    opened = load_model(str(stored), device="cpu")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "environment.json").write_text(
        '{"env": "countdown"}'
    )  # of a model saved there before
    save_model(Policy(opened.model, opened.tokenizer, 258, 256, (256,), source), tmp_path / "saved")
    assert not (tmp_path / "saved" / "environment.json").exists()


def test_what_cannot_be_saved_is_refused_in_words(stored, tmp_path):
    policy = load_model(str(stored), device="cpu")
    with pytest.raises(ConfigError, match="save_model takes a policy, not 'x'"):
        save_model("x", policy)
    with pytest.raises(ConfigError, match="save_model takes a policy, not a LLaDAModelLM"):
        save_model(policy.model, tmp_path)
    with pytest.raises(ConfigError, match="save_model writes into a folder, not None"):
        save_model(policy, None)
