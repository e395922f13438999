"""AdamW with moments of 32 and of 8 bits, and Muon, in training."""

import shutil
import sys

import pytest
import torch

from spg_trainer.algorithms import build
from spg_trainer.errors import ConfigError
from spg_trainer.estimate.fits import changes_to_try, typed_flags, with_flags
from spg_trainer.estimate.memory import step_memory
from spg_trainer.models import load_model
from spg_trainer.settings.check import check
from spg_trainer.settings.configs import OptimizerConfig
from spg_trainer.training.loop import train
from spg_trainer.training.optimize import make_optimizer, set_rate
from tests.common.trainer_cases import rows, same_weights, save_tiny, small_config, step

EIGHT = OptimizerConfig(adam_moments="8bit")
LARGE = {"hidden_size": 128, "layers": 1, "heads": 2, "ffn": 128}
"""Tensors of fewer than 4,096 numbers, or of no whole blocks of 256, keep their 32 bits."""


def parameters():
    return {"weight": torch.nn.Parameter(torch.zeros(64, 64))}


def test_the_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(
        ConfigError, match=r"--adam-moments 8bit.*pip install torchao.*--adam-moments float32\."
    ):
        make_optimizer(EIGHT, parameters())


def test_blocks_of_numbers_are_not_divided(tmp_path):
    with pytest.raises(ConfigError, match=r"shard with --adam-moments 8bit.*Use --adam-moments float32\."):
        train(small_config(tmp_path / "run", shard="phase", adam_moments="8bit"), quiet=True)


def test_a_rate_is_set_where_it_is_kept():
    optimizer = make_optimizer(OptimizerConfig(), parameters())
    set_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5
    kept = optimizer.param_groups[0]["lr"] = torch.tensor(1.0)
    set_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] is kept and float(kept) == 0.25


def test_without_a_compiler_it_is_refused(monkeypatch):
    pytest.importorskip("torchao")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"C\+\+ compiler.*--adam-moments float32\."):
        make_optimizer(EIGHT, parameters())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_with_moments_of_8_bits_learns_and_resumes_bit_equal(tmp_path):
    pytest.importorskip("torchao")
    model = save_tiny(tmp_path / "model", **LARGE)
    settings = {"model": model, "adam_moments": "8bit", "save_steps": 1, "keep": 9, "learning_rate": 1e-3}
    train(small_config(tmp_path / "whole", **settings), quiet=True)
    train(small_config(tmp_path / "plain", **{**settings, "adam_moments": "float32"}), quiet=True)
    train(small_config(tmp_path / "run", **settings, max_steps=2), quiet=True)
    train(small_config(tmp_path / "run", **settings, resume="auto"), quiet=True)
    assert same_weights(tmp_path / "run" / "model", tmp_path / "whole" / "model")
    assert rows(tmp_path / "run" / "metrics.jsonl") == rows(tmp_path / "whole" / "metrics.jsonl")
    sizes = [step(tmp_path / name, 3).joinpath("training.pt").stat().st_size for name in ("whole", "plain")]
    assert sizes[0] < 0.5 * sizes[1]
    first = [rows(tmp_path / name / "metrics.jsonl") for name in ("whole", "plain")]
    assert first[0][0] == first[1][0] and first[0][1]["loss"] == pytest.approx(first[1][1]["loss"], rel=0.05)


@pytest.mark.slow
def test_muon_keeps_one_number_a_weight_of_a_matrix_and_its_run_goes_on_bit_equal(tmp_path):
    settings = {"optimizer": "muon", "learning_rate": 1e-3, "save_steps": 1, "keep": 9}
    train(small_config(tmp_path / "whole", **settings), quiet=True)
    train(small_config(tmp_path / "run", **settings, max_steps=2), quiet=True)
    train(small_config(tmp_path / "run", **settings, resume="auto"), quiet=True)
    assert same_weights(tmp_path / "run" / "model", tmp_path / "whole" / "model")
    assert rows(tmp_path / "run" / "metrics.jsonl") == rows(tmp_path / "whole" / "metrics.jsonl")
    train(small_config(tmp_path / "adamw", **{**settings, "optimizer": "adamw"}), quiet=True)
    first = [rows(tmp_path / name / "metrics.jsonl") for name in ("whole", "adamw")]
    assert first[0][0] == first[1][0], "the first gradient is that of the start"
    assert first[0][1]["loss"] != first[1][1]["loss"]
    saved = torch.load(step(tmp_path / "whole", 3) / "training.pt", weights_only=True)["optimizer"]["state"]
    kept = [value for entry in saved.values() for value in entry.values() if value.numel() > 1]
    config = small_config(tmp_path / "whole", **settings)
    model = load_model(str(tmp_path / "whole" / "model"), device="cpu").model
    held = step_memory(model.config, config, build("spg", {}), dtype="float32").held
    assert sum(value.numel() for value in kept) * 4 == held["optimizer"]


def test_what_does_not_go_with_muon_is_refused(tmp_path):
    for changes, said in (
        (
            {"optimizer": "muon", "shard": "phase"},
            r"shard: Muon needs whole matrices\. Use --optimizer adamw\.",
        ),
        (
            {"optimizer": "muon", "adam_moments": "8bit"},
            r"8bit with --optimizer muon.*Use --adam-moments float32",
        ),
        ({"lr_decay_share": 0.5}, r"--lr-decay-share 0\.5 says nothing with --lr-schedule constant\."),
    ):
        with pytest.raises(ConfigError, match=said):
            train(small_config(tmp_path / "run", **changes), quiet=True)


def test_a_dry_run_of_muon_proposes_nothing_that_it_refuses(tmp_path):
    config = small_config(tmp_path, optimizer="muon", lora_r=0)
    for flags, processes in changes_to_try(config):
        changed = with_flags(config, flags)
        if processes or "adam_moments" in flags:
            assert changed.optimizer.optimizer == "adamw" and "--optimizer adamw" in typed_flags(
                config, flags
            )
        check(changed)
