"""Weights or logits that are not finite are named as such: when a model is opened, and when it writes."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from spg_trainer import Sampling, cli, generate, load_model
from spg_trainer.errors import ModelError
from spg_trainer.models.load import save_model
from tests.common import field_reports
from tests.common.field_reports import cases
from tests.common.model_cases import save_small


@pytest.mark.parametrize(("given", "right"), cases(field_reports.NOT_FINITE))
def test_one_number_in_the_weights_is_named_by_its_tensor(tmp_path, given, right):
    folder = save_small(tmp_path / "model")
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = "model.transformer.blocks.1.ff_proj.weight"
    weights[name][3, 5] = given
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"layers\.1\.mlp\.gate_proj\.weight of its .* tensors {right}"):
        load_model(str(folder), device="cpu")


def test_an_adapter_is_looked_at_as_well(tmp_path):
    policy = load_model(str(save_small(tmp_path / "model")), device="cpu", lora_r=2)
    with torch.no_grad():
        next(p for name, p in policy.model.named_parameters() if "lora_A" in name)[0, 0] = float("nan")
    save_model(policy, tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"lora_A.* hold NaN or infinity"):
        load_model(str(tmp_path / "adapter"), device="cpu")


@pytest.mark.parametrize("cache", ["none", "dual"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_become_so_are_named_by_who_asks_for_text(tmp_path, cache, temperature):
    policy = load_model(str(save_small(tmp_path / "model")), device="cpu")
    sampling = Sampling(16, 8, 8, temperature, cache=cache)
    assert len(generate(policy, ["a"], sampling)) == 1
    with torch.no_grad():
        policy.model.model.norm.weight.mul_(1e30)
        policy.model.lm_head.weight.mul_(1e30)
    with pytest.raises(ModelError, match=r"logits are not finite .* in \d+ denoising steps.*dtype"):
        generate(policy, ["a"], sampling)


def test_eval_and_training_say_so_in_one_line(tmp_path, capsys):
    folder = save_small(tmp_path / "model")
    file = folder / "model.safetensors"
    weights = load_file(file)
    for name in ("model.transformer.ff_out.weight", "model.transformer.ln_f.weight"):
        weights[name] *= 1e30
    save_file(weights, file, metadata={"format": "pt"})
    more = ["--env", "sudoku", "--model", str(folder), "--device", "cpu", "--max-completion-length", "8"]
    more += ["--env-args", "prompt_style=plain", "--block-length", "8", "--num-problems", "4"]
    assert cli.main(["eval", *more]) == 2
    said = capsys.readouterr().err
    assert "logits are not finite" in said and said.count("\n") == 1
