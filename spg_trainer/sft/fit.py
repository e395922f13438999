"""A training on demonstrations: a run of the training loop, and what only `sft` knows of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spg_trainer.runs.folder import RunFolder
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.fields import Config, SftCommand
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.results import LossEvalConfig, OutputConfig
from spg_trainer.settings.updates import BatchConfig, OptimizerConfig
from spg_trainer.training.loop import recent_loss
from spg_trainer.training.progress import Progress
from spg_trainer.training.run import Run

if TYPE_CHECKING:
    from envs import TextEnv
    from spg_trainer.models import Policy

ALGORITHM = "sft"
"""What the run of a training on demonstrations is called; its loss is that of `algorithms/mle.py`."""
LAST_RATE = 0.05
"""The learning rate at the end, as a share of the highest."""


@dataclass(frozen=True)
class Fit:
    """A run on demonstrations, whose validations measure a loss, and what else `sft` knows of it."""

    run: Run
    command: SftCommand
    mix: Mapping[str, float]
    """The share of each habit, `right` among them; they sum to 1."""
    skipped: str = ""
    """What to say of problems and texts that are skipped as too long."""

    @property
    def train(self) -> "TextEnv":
        return self.run.splits["train"]

    @property
    def evaluated(self) -> "dict[str, TextEnv]":
        """Split -> the task that the finished model is evaluated on; empty where only texts of a file are learned."""
        return {split: env for split, env in self.run.splits.items() if split != "train"}

    @property
    def sampling(self) -> Sampling:
        """Greedy decoding of the model."""
        return self.run.config.rollout

    @property
    def policy(self) -> "Policy":
        return self.run.policy

    @property
    def folder(self) -> RunFolder:
        return self.run.folder

    @property
    def step(self) -> int:
        """Finished updates."""
        return self.run.state.step

    @property
    def progress(self) -> Progress:
        return self.run.state.progress

    @property
    def last_loss(self) -> float:
        """The mean training loss of the last hundred updates, nats per token."""
        return recent_loss(self.run.state.history)


def training_config(command: SftCommand, sampling: Sampling) -> Config:
    """The settings of the training loop for those of `sft`: a step is one update with a batch of demonstrations."""
    c = command
    return Config(
        env=c.env,
        env_args=c.env_args,
        overlong=c.overlong,
        seed=c.seed,
        algorithm=ALGORITHM,
        max_steps=c.steps,
        timeout_minutes=c.timeout_minutes,
        model=ModelConfig(**vars(c.model)),
        rollout=sampling,
        batch=BatchConfig(
            prompts_per_step=c.batch.batch_size,
            num_generations=1,
            per_device_batch_size=c.batch.per_device_batch_size or c.batch.batch_size,
        ),
        optimizer=OptimizerConfig(
            **vars(c.optimizer),
            lr_schedule="warmup_stable_decay" if c.eval.patience else "cosine",
            lr_floor=LAST_RATE,
        ),
        eval=LossEvalConfig(**vars(c.eval)),
        output=OutputConfig(**{**vars(c.output), "keep": 1, "sample_steps": 0}),
    )
