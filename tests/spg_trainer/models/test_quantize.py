"""--load-4bit: the base in 4 bits is its own dequantised weights, adapters on it have autograd's gradients."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM

from spg_trainer.algorithms import build
from spg_trainer.architecture.shape import shape_of
from spg_trainer.errors import ConfigError
from spg_trainer.estimate.memory import step_memory
from spg_trainer.evaluation import command as eval_command
from spg_trainer.evaluation.command import run_eval
from spg_trainer.export import merge
from spg_trainer.models import load_model
from spg_trainer.models.families import BY_ARCHITECTURE
from spg_trainer.models.load import four_bits, save_model
from spg_trainer.settings.configs import Config, EvalCommand, MergeCommand
from spg_trainer.settings.decoding import EvalRollout
from spg_trainer.settings.model import LoadConfig, ModelConfig
from spg_trainer.training.loop import train
from tests.common.family_cases import UNTRAINED, family_folder
from tests.common.marks import slow_if
from tests.common.model_cases import save_small, some_ids
from tests.common.trainer_cases import rows, small_config

bitsandbytes = pytest.importorskip("bitsandbytes", reason="--load-4bit needs bitsandbytes")
FAMILIES = {
    "illada": None,
    "dream": None,
    "fastdllm_v2": None,
    "llada2": None,
    "lladamoe": None,
    "qwen3_diffusion": 8,
    "sdar": None,
}


def dequantised(policy, folder: Path, **options):
    """The same adapters on a plain model whose linear layers have the values that the 4 bits stand for."""
    plain = load_model(str(folder), lora_r=2, **options).model
    for name, layer in policy.model.named_modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            base = plain.get_submodule(name)
            assert isinstance(base, nn.Linear)
            whole = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            base.weight.data.copy_(whole)
    trained = dict(policy.model.named_parameters())
    for name, weight in plain.named_parameters():
        if ".lora_" in name:
            weight.data.copy_(trained[name].data)
    return plain


def stir(model) -> None:
    """Adapters that are not at no effect."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            weight.data.add_(0.1 * torch.randn(weight.shape, generator=generator))


def assert_equal(policy, plain, vocab: int) -> None:
    ids = some_ids(2, 20, vocab=vocab)
    for model in (policy.model, plain):
        model.zero_grad(set_to_none=True)
        model(ids).logits.log_softmax(-1).square().mean().backward()
    with torch.no_grad():
        ours, theirs = policy.model(ids).logits, plain(ids).logits
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.std()
    grads = {n: p.grad for n, p in policy.model.named_parameters() if p.requires_grad}
    assert grads and all(".lora_" in name for name in grads)
    for name, weight in plain.named_parameters():
        if name in grads:
            assert (grads[name] - weight.grad).norm() <= 1e-4 * weight.grad.norm() + 1e-12, name


def quantised_layers(model) -> int:
    return sum(isinstance(layer, bitsandbytes.nn.Linear4bit) for layer in model.modules())


def test_logits_and_gradients_are_those_of_the_dequantised_weights(tmp_path: Path) -> None:
    folder = save_small(tmp_path / "base")
    policy = load_model(str(folder), lora_r=2, load_4bit=True)
    stir(policy.model)
    assert quantised_layers(policy.model) == 7 * policy.model.config.num_hidden_layers
    assert_equal(policy, dequantised(policy, folder), vocab=60)
    # They are not those of the weights as they were.
    ids = some_ids(2, 20)
    whole = load_model(str(folder)).model
    with torch.no_grad(), policy.model.disable_adapter():
        assert (policy.model(ids).logits - whole(ids).logits).abs().max() > 1e-3 * whole(ids).logits.std()


@pytest.mark.parametrize("name", slow_if(FAMILIES, lambda name: name not in [*FAMILIES][::3]))
def test_every_family_opens_in_4_bits(published, name: str, tmp_path: Path) -> None:
    folder = family_folder(published, name, tmp_path / "hub")
    options = {"attention_block": FAMILIES[name]}
    policy = load_model(str(folder), lora_r=2, load_4bit=True, **options)
    stir(policy.model)
    assert quantised_layers(policy.model) >= 8 and ("experts" in policy.note) == (
        name in ("llada2", "lladamoe")
    )
    assert_equal(policy, dequantised(policy, folder, **options), vocab=150)


def test_a_saved_adapter_opens_on_4_bits_and_merges_into_the_whole_base(tmp_path: Path) -> None:
    folder, ids = save_small(tmp_path / "base"), some_ids(2, 20)
    policy = load_model(str(folder), lora_r=2, load_4bit=True)
    stir(policy.model)
    save_model(policy, tmp_path / "adapter")
    with torch.no_grad():
        again = load_model(str(tmp_path / "adapter"), load_4bit=True).model
        assert torch.equal(again(ids).logits, policy.model(ids).logits)
        merge(MergeCommand(source=str(tmp_path / "adapter"), output=str(tmp_path / "merged")))
        whole = load_model(str(tmp_path / "adapter")).model(ids).logits
        merged = load_model(str(tmp_path / "merged")).model(ids).logits
        assert (merged - whole).abs().max() <= 1e-4 * whole.std()


def test_an_evaluation_measures_the_4_bits(tmp_path: Path, monkeypatch) -> None:
    asked, evaluate_checked = [], eval_command.evaluate_checked

    def evaluating(player, *arguments, **options):
        asked.append(player.policy)
        return evaluate_checked(player, *arguments, **options)

    monkeypatch.setattr(eval_command, "evaluate_checked", evaluating)
    base = LoadConfig(model=str(save_small(tmp_path / "base")), load_4bit=True)
    rollout = EvalRollout(max_completion_length=(4,), block_length=4)
    command = EvalCommand(env="countdown", num_problems=1, rollout=rollout, model=base)
    run_eval(command, quiet=True)
    assert quantised_layers(asked[0].model) == 7 * asked[0].model.config.num_hidden_layers


@pytest.mark.slow
def test_training_learns_resumes_and_repeats_bit_for_bit(tmp_path: Path) -> None:
    base = save_small(tmp_path / "base")
    changes = {"model": base, "lora_r": 2, "load_4bit": True, "save_steps": 1}
    whole = small_config(tmp_path / "whole", max_steps=2, **changes)
    train(whole, quiet=True)
    train(small_config(tmp_path / "parts", max_steps=1, **changes), quiet=True)
    train(
        small_config(tmp_path / "parts", max_steps=2, resume=str(tmp_path / "parts"), **changes), quiet=True
    )
    first, second = (rows(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    assert first[1]["grad_norm"] > 0
    assert copy.copy(first[1]) == second[1]


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    base = save_small(tmp_path / "base")
    with pytest.raises(ConfigError, match="Set --lora-r"):
        train(small_config(tmp_path / "run", model=base, load_4bit=True, lora_r=0), quiet=True)


WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "vocab_size": 200}
WIDE |= {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    "name",
    slow_if(["dream", "illada", "lladamoe", "llada2", "sdar"], lambda name: name not in ("illada", "llada2")),
)
def test_the_dry_run_counts_the_bytes_that_a_model_in_4_bits_holds(name: str, tmp_path: Path) -> None:
    architecture, more = UNTRAINED[name]
    config = BY_ARCHITECTURE[architecture](**WIDE | more)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    options = {"quantization_config": four_bits(torch.float32)}
    model = AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=torch.float32, **options)
    real, linear = 0, 0
    for weight in model.parameters():
        real += weight.untyped_storage().nbytes()
        if isinstance(weight, bitsandbytes.nn.Params4bit):
            state, linear = weight.quant_state, linear + weight.quant_state.shape.numel()
            real += state.absmax.nbytes + state.state2.absmax.nbytes
    assert linear == shape_of(config).linear
    m = ModelConfig(lora_r=2, load_4bit=True)
    held = step_memory(config, Config(model=m), build("spg", {}), dtype="float32").held
    assert held["weights"] - held["gradients"] == pytest.approx(real, rel=0.01)
