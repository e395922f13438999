"""What is trained can take steps, and completions end where the algorithm says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spg_trainer import Config, algorithms, defaults, load_model
from spg_trainer.config import ModelConfig, SftCommand
from spg_trainer.errors import ConfigError
from spg_trainer.models import open_policy
from spg_trainer.resolve import ENVIRONMENT_FILE
from spg_trainer.run import start


def test_all_weights_are_never_trained_in_bfloat16() -> None:
    with pytest.raises(ConfigError, match="--lora-r 128"):
        open_policy(ModelConfig(dtype="bfloat16"), env="sudoku", seed=0)
    whole = open_policy(ModelConfig(), env="sudoku", seed=0)
    assert {p.dtype for p in whole.model.parameters()} == {torch.float32}
    adapted = open_policy(ModelConfig(dtype="bfloat16", lora_r=2), env="sudoku", seed=0)
    assert {p.dtype for p in adapted.model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in adapted.model.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_the_reproduction_ends_completions_with_eos_only(tmp_path: Path) -> None:
    policy = load_model("tiny")
    assert len(policy.end_token_ids) == 2
    assert policy.ending_with(algorithms.get("spg").end_tokens).end_token_ids == policy.end_token_ids
    assert policy.ending_with("eos").end_token_ids == (policy.tokenizer.eos_token_id,)
    config = defaults(Config, env="sudoku", algorithm="spg_repro")
    config = replace(
        config,
        algorithm="spg_repro",
        rollout=replace(config.rollout, block_length=10),
        output=replace(config.output, output_dir=str(tmp_path / "run")),
    )
    run = start(config, quiet=True)
    assert run.policy.end_token_ids == (policy.tokenizer.eos_token_id,)
    run.folder.release()
    assert json.loads((tmp_path / "run" / ENVIRONMENT_FILE).read_text())["ends"] == "eos"


def test_sft_of_a_large_model_trains_adapters_at_a_rate_it_can_stand() -> None:
    command = defaults(SftCommand, env="sudoku", model="GSAI-ML/LLaDA-8B-Instruct")
    assert command.model.lora_r == 128 and command.model.model == "GSAI-ML/LLaDA-8B-Instruct"
    assert command.learning_rate <= 1e-4 and 0 < command.per_device_batch_size <= 8
