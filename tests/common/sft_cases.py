"""A task with demonstrations and habits, and small settings for `sft`."""

from typing import ClassVar

import envs
from spg_trainer.settings.fields import ModelConfig, SftCommand
from tests.common.trainer_cases import change


class Count(envs.TextEnv):
    """Write the number of the problem, three times over."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}

    def __init__(self, split: str = "train", offset: int = 0) -> None:
        self.split, self.offset = split, offset

    def __len__(self) -> int:
        return 9 if self.split == "train" else 2

    def problem(self, index: int) -> envs.Problem:
        return envs.Problem(f"count {index + self.offset}", {"number": index + self.offset})

    def score(self, problem: envs.Problem, completion: str) -> envs.Score:
        right = completion == self.demonstration(problem)
        return envs.Score({"correct": float(right), "format": float(completion.isdigit())})

    def demonstration(self, problem: envs.Problem) -> str:
        return str(problem.reference["number"]) * 3

    def habits(self, problem: envs.Problem) -> dict[str, str]:
        return {"short": str(problem.reference["number"]), "wordy": "a" * 7}


envs.register("test/Count-v0", Count)

SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 24}
STEPS = {"steps": 3, "batch_size": 4, "max_completion_length": 8, "warmup_steps": 1, "learning_rate": 1e-2}
SMALL = change(
    SftCommand(env="count", **SIZES, model=ModelConfig(model="new", device="cpu")), report=False, **STEPS
)
