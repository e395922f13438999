"""`merge` writes a whole model that is, to rounding, the adapter on its base."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from spg_trainer import cli, load_model
from spg_trainer.models import save_model, tiny_tokenizer
from spg_trainer.settings.sources import model_environment
from tests.common.model_cases import hub_folder, some_ids
from tests.common.trainer_cases import ENV, save_adapter, snapshot, tiny_folder

IDS = some_ids(3, 12)


@pytest.fixture
def adapter(tmp_path):
    """An adapter with an effect, on a base of the Hub's shape."""
    hub_folder(tmp_path / "base", embedding_size=272, vocab_size=272, mask_token_id=258, eos_token_id=256)
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    policy = load_model(str(tmp_path / "base"), device="cpu", lora_r=2, lora_alpha=3)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if ".lora_B." in name:
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    save_model(policy, tmp_path / "run" / "model")
    return tmp_path / "run" / "model"


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_the_merged_model_has_the_logits_of_the_adapter_on_its_base(adapter, tmp_path, capsys):
    assert cli.main(["merge", str(adapter.parent)]) == 0
    merged = adapter.parent / "merged"
    assert capsys.readouterr().out == f"{merged}\n"
    expected = logits(load_model(str(adapter), device="cpu").model)
    plain = logits(load_model(str(tmp_path / "base"), device="cpu").model)
    assert (expected - plain).abs().max() > 0.1
    for model in (AutoModelForMaskedLM.from_pretrained(merged), load_model(str(merged), device="cpu").model):
        torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)


def test_the_merged_tensors_bear_the_names_of_the_base(adapter, tmp_path):
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "whole"), "--dtype", "bfloat16"]) == 0
    base, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "whole"))
    assert base.keys() == whole.keys()
    assert {tensor.dtype for tensor in whole.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["model_type"] == "llada"


def test_the_merged_model_keeps_its_task(tmp_path):
    adapter = save_adapter(tmp_path / "adapter")
    assert cli.main(["merge", str(adapter), "--output", str(tmp_path / "whole")]) == 0
    assert model_environment(str(tmp_path / "whole")) == {"env": ENV, "preset": "tiny", "dtype": "float32"}


def test_whole_weights_and_a_taken_folder_are_refused(adapter, tmp_path, capsys):
    assert cli.main(["merge"]) == 2
    assert "Nothing to merge. Give a run" in capsys.readouterr().err
    assert cli.main(["merge", str(tiny_folder())]) == 2
    assert "holds no adapter: there is nothing to merge" in capsys.readouterr().err
    before = snapshot(tmp_path)
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "base")]) == 2
    assert "base is taken. Choose a folder that is new or empty" in capsys.readouterr().err
    assert snapshot(tmp_path) == before
