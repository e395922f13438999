"""What is trained can take steps, and completions end where the algorithm says."""

import json
from dataclasses import replace
from pathlib import Path

from spg_trainer import Config, algorithms, defaults
from spg_trainer.config import SftCommand
from spg_trainer.run import start
from spg_trainer.settings import ENVIRONMENT


def test_the_reproduction_ends_completions_with_eos_only(tmp_path: Path) -> None:
    assert algorithms.get("spg").end_tokens == "any"
    config = defaults(Config, env="sudoku", algorithm="spg_repro")
    config = replace(
        config,
        algorithm="spg_repro",
        rollout=replace(config.rollout, block_length=10),
        output=replace(config.output, output_dir=str(tmp_path / "run")),
    )
    run = start(config, quiet=True)
    assert run.policy.end_token_ids == (run.policy.tokenizer.eos_token_id,)
    run.folder.release()
    assert json.loads((tmp_path / "run" / ENVIRONMENT).read_text())["ends"] == "eos"


def test_sft_of_a_large_model_trains_adapters_at_a_rate_it_can_stand() -> None:
    command = defaults(SftCommand, env="sudoku", model="GSAI-ML/LLaDA-8B-Instruct")
    assert command.model.lora_r == 128 and command.model.model == "GSAI-ML/LLaDA-8B-Instruct"
    assert command.learning_rate <= 1e-4 and 0 < command.per_device_batch_size <= 8
