"""A task with demonstrations and habits, and small settings to train on them; what happens between updates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import envs
from spg_trainer.settings.configs import Config
from spg_trainer.settings.model import ModelConfig
from spg_trainer.training import supervised
from spg_trainer.training.loop import train
from spg_trainer.training.prepare import prepare
from spg_trainer.training.run import Run
from spg_trainer.training.update import Update, plan_updates
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
SMALL = change(
    Config(source="demonstrations", algorithm="mle", env="count"),
    model=ModelConfig(model="new", device="cpu", **SIZES),
    max_steps=3,
    prompts_per_step=4,
    num_generations=1,
    per_device_batch_size=192,
    max_completion_length=8,
    block_length=0,
    diffusion_steps="length/1",
    temperature=1.0,
    learning_rate=1e-2,
    warmup_steps=1,
    weight_decay=0.01,
    max_grad_norm=1.0,
    lr_schedule="warmup_stable_decay",
    lr_floor=0.05,
    eval_steps=100,
    patience=5,
    validation_problems=8,
    eval_problems=8,
    save_steps=4,
    keep=1,
    sample_steps=0,
    report=False,
)
"""What the recipe of `sft` says, of a small model and few steps."""


def sft(config: Config) -> Path:
    """Trains on demonstrations, and returns the run's folder."""
    train(config, quiet=True)
    return Path(config.output.output_dir or config.output.resume)


@contextmanager
def before_step(number: int, act: Callable[[], object]) -> Iterator[None]:
    """Inside, `act` is called before the step that follows so many finished ones."""
    reason_to_end = supervised.reason_to_end

    def acting(run: Run) -> str:
        ended_by = reason_to_end(run)
        if not ended_by and run.state.step == number:
            act()
        return ended_by

    with patch.object(supervised, "reason_to_end", acting):
        yield


def first_update(run: Run, number: int = 0) -> Update:
    """The update of a step with a number, with its masks."""
    source = run.source
    scored = source.held_out() if number == "validation" else source.collect(number)
    _, step = prepare(run, scored)
    (update,) = plan_updates(
        run.policy, run.algorithm, step, run.config.batch, seed=run.config.seed, purpose=("masks", number)
    )
    return update
