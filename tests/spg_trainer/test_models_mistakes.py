"""Models that cannot be used: one line that says what is wrong and what to do."""

import importlib.resources
import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig

from spg_trainer.errors import ModelError
from spg_trainer.models import Policy, head_weight, load_model, new_tiny, save_model, tiny_tokenizer
from tests.spg_trainer.test_models_format import hub_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "good"
    model = new_tiny(hidden_size=16, layers=1, heads=2, ffn=24)
    save_model(Policy(model, tiny_tokenizer(), 258, 256, (256, 257), ""), target)
    return target


def edit(file: Path, **changes: object) -> None:
    settings = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


def refused(name: object, *words: str, **options: object) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(str(name), **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


# paths


def test_unknown_paths_name_the_nearest_folder(folder: Path) -> None:
    refused(folder.parent / "goood", "no such folder", f"did you mean {folder}?")
    refused(folder.parent / "goood" / "model", "no such folder", f"did you mean {folder}?")
    refused("./zzqx", "no such folder", "tiny")
    refused("tyni", "did you mean tiny?")
    refused("", "empty")
    refused(folder / "config.json", "is a file", f"--model {folder}")


def test_a_path_below_an_existing_folder_is_never_taken_for_a_hub_id(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent.parent)
    refused(f"{folder.parent.name}/god", "did you mean", "good")


def test_folders_that_hold_no_model_say_what_they_hold(folder: Path) -> None:
    refused(folder.parent, "no config.json", "good")
    checkpoint = folder.parent / "checkpoints" / "step-20"
    for step in (3, 20):
        done = folder.parent / "checkpoints" / f"step-{step}"
        done.mkdir(parents=True)
        (done / "COMPLETE").touch()
    refused(folder.parent, "newest checkpoint", str(checkpoint))


def test_a_hub_id_without_a_network_answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def no_network(host: object, *args: object, **kwargs: object) -> None:
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    refused("nobody-here/llada-none", "nobody-here/llada-none", "does not answer", "download", "--model PATH")
    assert len(asked) <= 2


def test_broken_weights_and_configs_are_reported_with_their_folder(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(folder, str(folder), "cannot be opened")
    (folder / "model.safetensors").unlink()
    refused(folder, str(folder), "cannot be opened", "model.safetensors")
    (folder / "config.json").write_text("{")
    refused(folder, str(folder), "cannot be opened")


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    edit(folder / "config.json", mlp_hidden_size=32)
    refused(folder, str(folder), "cannot be opened")


# what the model is


def test_other_kinds_of_models_are_refused_by_their_type(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    refused(tmp_path, "model_type 'bert'", "llada")
    edit(tmp_path / "config.json", model_type="dream_unknown")
    refused(tmp_path, "dream_unknown")
    edit(tmp_path / "config.json", auto_map={"AutoConfig": "code.Config"})
    (tmp_path / "code.py").write_text("raise SystemExit('remote code was run')")
    refused(tmp_path, str(tmp_path))


def test_a_setting_of_another_architecture_names_the_model(folder: Path) -> None:
    edit(folder / "config.json", alibi=True)
    refused(folder, str(folder), "alibi")


def test_a_model_without_tokenizer_says_so(tmp_path: Path) -> None:
    hub_folder(tmp_path)
    refused(tmp_path, "tokenizer", str(tmp_path))


def test_the_mask_token_is_looked_for_in_config_and_tokenizer(folder: Path) -> None:
    edit(folder / "config.json", mask_token_id=None)
    assert load_model(str(folder)).mask_id == 258
    edit(folder / "tokenizer_config.json", mask_token=None)
    refused(folder, "no mask token", "mask_token_id", "config.json", "mask_token", "tokenizer_config.json")
    edit(folder / "config.json", mask_token_id=100)
    assert load_model(str(folder)).mask_id == 100
    edit(folder / "config.json", mask_token_id=266)
    refused(folder, "266 embeddings", "mask_token_id is 266")
    edit(folder / "config.json", mask_token_id=256)
    refused(folder, "both mask and end token")


def test_a_tokenizer_larger_than_the_model_is_refused(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    cut = {
        n: x[:260].clone() if "wte" in n or (n.count(".") == 3 and "ff_out" in n) else x
        for n, x in stored.items()
    }
    save_file(cut, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", vocab_size=260, embedding_size=260)
    refused(folder, "260 embeddings", "266 tokens")


def test_end_tokens_are_every_end_of_config_and_tokenizer(folder: Path) -> None:
    edit(folder / "config.json", eos_token_id=[10, 256])
    assert load_model(str(folder)).end_token_ids == (10, 256, 257)


def test_a_model_without_any_end_token_is_refused(folder: Path) -> None:
    edit(folder / "config.json", eos_token_id=None)
    edit(folder / "tokenizer_config.json", eos_token=None)
    assert load_model(str(folder)).end_token_ids == (257,)  # that of the turn is enough
    for file in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace("<|eot_id|>", "<|other|>"))
    refused(folder, str(folder), "no end token", "eos_token_id", "config.json", "tokenizer_config.json")


# options


def test_unknown_devices_and_dtypes_list_the_known(folder: Path) -> None:
    refused(folder, "bf16", "bfloat16", dtype="bf16")
    refused(folder, "gpu0", "cuda", device="gpu0")
    refused(folder, "cuda:99", "CUDA devices", device="cuda:99")


def test_a_head_that_is_no_plain_linear_is_refused(folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = load_model(str(folder), device="cpu").model
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"]))
    with pytest.raises(ModelError, match="lm_head"):
        head_weight(adapted)
    model = load_model(str(folder), device="cpu").model
    model.lm_head = torch.nn.Linear(16, 266, bias=True)
    with pytest.raises(ModelError, match="without bias"):
        head_weight(model)


def test_saving_into_a_file_is_refused(folder: Path) -> None:
    policy = load_model(str(folder))
    with pytest.raises(ModelError, match="is a file"):
        save_model(policy, folder / "config.json")


# the embedded models


def test_the_embedded_model_opens_like_any_other() -> None:
    policy = load_model("tiny", env="spg/Sudoku-v0", device="cpu")
    assert (Path(policy.source).name, policy.note) == ("tiny-sudoku", "")
    assert len(policy.tokenizer) == policy.model.config.vocab_size == 266
    assert sum(file.stat().st_size for file in Path(policy.source).iterdir()) <= 4_000_000


def test_tiny_is_the_model_of_the_environment_or_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = folder.parent / "data" / "models"
    shutil.copytree(folder, models / "tiny-sudoku")
    shutil.copytree(folder, models / "tiny-countdown")
    plain = importlib.resources.files
    monkeypatch.setattr(
        importlib.resources, "files", lambda name: models.parent if name == "spg_data" else plain(name)
    )
    for env in ("countdown", "spg/Countdown-v0", "envs:spg/Countdown-v3", "envs.countdown:Countdown"):
        policy = load_model("tiny", env=env)
        assert (Path(policy.source).name, policy.note) == ("tiny-countdown", "")
    assert Path(load_model("tiny").source).name == "tiny-sudoku"
    for env in ("reasoning_gym:countdown", "./my_task.py:my/Countdown-v0", "my/Countdown-v0"):
        assert "knows nothing of this task" in load_model("tiny", env=env).note, (
            "of the same name, but another task"
        )
    policy = load_model("tiny", env="./maze.py:my/Maze-v0")
    assert Path(policy.source).name == "tiny-sudoku"
    assert "knows nothing of this task" in policy.note and "\n" not in policy.note
    assert "python -m spg_trainer sft --env ./maze.py:my/Maze-v0" in policy.note
    # An adapter trained on an embedded model of another machine finds the one of this machine.
    adapter = folder.parent / "adapter"
    save_model(load_model("tiny", lora_r=1), adapter)
    edit(adapter / "adapter_config.json", base_model_name_or_path="/elsewhere/spg_data/models/tiny-sudoku")
    assert load_model(str(adapter)).source == str(adapter)
    shutil.rmtree(models / "tiny-sudoku")
    refused("tiny", "tiny-sudoku", "--model PATH")


def test_without_the_package_data_the_error_says_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib.resources, "files", missing)
    refused("tiny", "spg_data", "pip install", "--model PATH")
