"""Runs of a small DiffusionGemma by two processes, killed and resumed, are those of one process that was left alone."""

import os
import signal
import subprocess
import sys
import time
from functools import cache

import pytest
import torch
from transformers import DynamicCache

from spg_trainer import Config, defaults
from spg_trainer.algorithms import build
from spg_trainer.architecture.shape import shape_of
from spg_trainer.estimate.memory import step_memory, step_sizes
from spg_trainer.models import save_model
from spg_trainer.models.diffusion_gemma import stock
from spg_trainer.models.policy import Policy
from spg_trainer.models.tiny import new_config, new_tiny, tiny_tokenizer
from spg_trainer.rollout.cache import bytes_per_column
from spg_trainer.settings.recorded import to_yaml
from tests.common.canvases import open_fixture
from tests.common.process_cases import run_processes
from tests.common.trainer_cases import ENV, child_environment, rows, weights
from tests.spg_trainer.training.test_shard import all_weights

ALGORITHMS = ["espo", "tracerl", "spg"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a new model that writes canvases of 8."""
    folder = tmp_path_factory.mktemp("gemma")
    network = new_tiny("gemma", hidden_size=16, layers=2, heads=2, ffn=32)
    ends = tuple(network.generation_config.eos_token_id)
    tokenizer = tiny_tokenizer()
    save_model(Policy(network, tokenizer, None, ends[0], ends, "gemma"), folder)
    return folder


RUNS = {
    "adapters": {"algorithm": "espo", "lora_r": 4, "gradient_checkpointing": True},
    "sft": {
        "env": "sudoku",
        "env_args": {"prompt_style": "plain"},
        "algorithm": "mle",
        "source": "demonstrations",
        "num_generations": 1,
        "num_iterations": 1,
        "max_completion_length": 24,
        "diffusion_steps": 24,
    },
}
"""{name: settings} of runs besides those of `ALGORITHMS`."""


def settings(file, model, run, **more):
    """Writes the settings of three steps, in which some completions are rewarded."""
    own = RUNS.get(run, {"algorithm": run})
    config = defaults(
        Config,
        **{
            "env": ENV,
            "model": str(model),
            "dtype": "float64",
            "device": "cpu",
            "max_steps": 3,
            "prompts_per_step": 4,
            "num_generations": 4,
            "num_iterations": 2,
            "num_minibatches": 1,
            "learning_rate": 1e-3,
            "per_device_batch_size": 8,
            "save_steps": 1,
            "eval_steps": 0,
            "eval_problems": 4,
            "report": False,
            "force": True,
            "max_completion_length": 16,
            "diffusion_steps": 16,
            "block_length": 8,
            **own,
            **more,
        },
    )
    file.write_text(to_yaml(config))
    return ("--config", str(file), "--resume", "auto", "--output-dir")


DIVIDED = {
    "none": {},
    "phase": {"shard": "phase"},
    "layer": {"shard": "layer"},
    "experts": {"shard": "layer", "expert_parallel": 2},
}


@pytest.fixture(scope="module")
def alone(model, tmp_path_factory):
    """The folder of the run that one process makes with an algorithm."""

    @cache
    def run_of(name):
        folder = tmp_path_factory.mktemp(name)
        arguments = settings(folder / "settings.yaml", model, name)
        run_processes("spg_trainer", *arguments, str(folder / "run"), count=1)
        return folder / "run"

    return run_of


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("run", "divided"),
    [
        *(("espo", divided) for divided in DIVIDED),
        *(("tracerl", divided) for divided in ("none", "layer")),
        *(("spg", divided) for divided in ("none", "phase")),
        *(("adapters", divided) for divided in ("phase", "layer", "experts")),
        *(("sft", divided) for divided in ("phase", "layer", "experts")),
    ],
)
def test_two_processes_make_the_run_of_one(tmp_path, model, alone, run, divided):
    arguments = settings(tmp_path / "settings.yaml", model, run, **DIVIDED[divided])
    run_processes("spg_trainer", *arguments, str(tmp_path / "two"), count=2)
    folders = tmp_path / "two", alone(run)
    found, expected = (rows(folder / "metrics.jsonl") for folder in folders)
    assert any(row.get("loss") for row in expected)
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-9, abs=1e-9)
    together, one = (all_weights(folder / "model") for folder in folders)
    assert together.keys() == one.keys()
    for name, value in one.items():
        assert float((together[name] - value).abs().max()) <= 1e-9, name


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, model, algorithm):
    arguments = settings(tmp_path / "settings.yaml", model, algorithm)
    command = [sys.executable, "-m", "spg_trainer", *arguments]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=child_environment())
    victim = subprocess.Popen([*command, str(tmp_path / "killed")], env=child_environment())
    metrics, end = tmp_path / "killed" / "metrics.jsonl", time.monotonic() + 200
    while not metrics.exists() or not metrics.read_bytes().count(b"\n"):
        assert victim.poll() is None and time.monotonic() < end
        time.sleep(0.001)
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "summary.json").exists()
    subprocess.run([*command, str(tmp_path / "killed")], check=True, env=child_environment())
    assert rows(metrics) == rows(tmp_path / "whole" / "metrics.jsonl")
    again, alone = (weights(tmp_path / name / "model") for name in ("killed", "whole"))
    assert all(torch.equal(again[name], value) for name, value in alone.items())


@pytest.mark.parametrize("sizes", [(128, 4, 4, 344), (64, 3, 4, 128), None], ids=str)
def test_weights_and_cache_take_the_memory_that_the_stock_class_takes(sizes):
    config = open_fixture().model.config if sizes is None else new_config("gemma", *sizes)
    network = stock.DiffusionGemmaForBlockDiffusion(stock.DiffusionGemmaConfig.from_dict(config.to_dict()))
    held = sum(weight.nbytes for name, weight in network.named_parameters() if "vision" not in name)
    assert 4 * shape_of(config).whole == pytest.approx(held, rel=0.05)
    # Without its configuration, the cache keeps the columns before a sliding window, as ours.
    cache = network.model.encoder(input_ids=torch.arange(10)[None], past_key_values=DynamicCache())
    layers = cache.past_key_values.layers
    of_column = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers) / 10
    assert bytes_per_column(config, 4) == pytest.approx(of_column, rel=0.05)
    command, algorithm = defaults(Config, env="sudoku", model="new:gemma"), build("espo", {"masking": "flat"})
    counted = step_sizes(config, command, algorithm, dtype="float32")
    assert counted.column_bytes == bytes_per_column(config, 4)
    memory = step_memory(config, command, algorithm, dtype="float32")
    assert memory.rollout["cache"] == counted.rows_at_once * counted.columns * counted.column_bytes
