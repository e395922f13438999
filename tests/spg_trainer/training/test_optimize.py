"""AdamW with moments of 32 and of 8 bits."""

import shutil
import sys

import pytest
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.settings.fields import OptimizerConfig
from spg_trainer.training.loop import train
from spg_trainer.training.optimize import make_optimizer, set_rate
from tests.common.trainer_cases import rows, same_weights, save_tiny, small_config, step

EIGHT = OptimizerConfig(adam_moments="8bit")
LARGE = {"hidden_size": 128, "layers": 1, "heads": 2, "ffn": 128}
"""Tensors of fewer than 4,096 numbers, or of no whole blocks of 256, keep their 32 bits."""


def parameters():
    return [torch.nn.Parameter(torch.zeros(64, 64))]


def test_the_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(
        ConfigError, match=r"--adam-moments 8bit.*pip install torchao.*--adam-moments float32\."
    ):
        make_optimizer(EIGHT, parameters())


def test_blocks_of_numbers_are_not_divided(tmp_path):
    with pytest.raises(ConfigError, match=r"--shard with --adam-moments 8bit.*Use --adam-moments float32\."):
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
