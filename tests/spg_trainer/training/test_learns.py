"""The whole loop teaches: an untrained model learns to copy by reward alone."""

from typing import ClassVar

import pytest
import torch

import envs
from spg_trainer.training.loop import train
from tests.common.trainer_cases import save_tiny, small_config

LETTERS = "abcd"


class Copy(envs.TextEnv):
    """Write the last letter of the prompt and end."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "first": 0.5}

    def __init__(self, split: str = "train") -> None:
        self.split = split

    def __len__(self) -> int:
        return 64

    def problem(self, index: int) -> envs.Problem:
        return envs.Problem(f"{index // 4 % 4 + 1} {LETTERS[index % 4]}", {"letter": LETTERS[index % 4]})

    def score(self, problem: envs.Problem, completion: str) -> dict[str, float]:
        letter = problem.reference["letter"]
        return {"correct": float(completion == letter), "first": float(completion[:1] == letter)}


envs.register("test/Copy-v0", Copy)


@pytest.mark.slow
def test_an_untrained_model_learns_to_copy(tmp_path):
    """From nothing to more than nine in ten; about fifteen seconds on one core."""
    sizes = {"hidden_size": 32, "layers": 2, "heads": 4, "ffn": 64}
    bound = {"masking": "random", "p_mask_prompt": 0.0, "eubo_beta": 1.0}
    lengths = {"max_completion_length": 2, "block_length": 2, "diffusion_steps": 2}
    batch = {"prompts_per_step": 16, "num_generations": 8, "per_device_batch_size": 256}
    steps = {"max_steps": 240, "learning_rate": 1e-3, "warmup_steps": 5}
    quiet = {"eval_problems": 0, "save_steps": 0, "sample_steps": 0}
    config = small_config(
        tmp_path / "run",
        env=f"{__name__}:test/Copy-v0",
        model=save_tiny(tmp_path / "model", end=4.0, letters=LETTERS, letter=4.0, **sizes),
        algorithm_args={**bound, "normalizer": "length"},
        **{**lengths, **batch, **steps, **quiet},
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        summary = train(config, quiet=True)
    finally:
        torch.set_num_threads(threads)
    assert summary["eval_before"]["correct"] < 0.2 and summary["eval_after"]["correct"] > 0.9
