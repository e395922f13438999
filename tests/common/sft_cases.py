"""A task with demonstrations and habits, and small settings for `sft`; what happens between its updates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar
from unittest.mock import patch

import pytest

import envs
from spg_trainer.settings.fields import SftCommand
from spg_trainer.settings.model import TrainedModelConfig
from spg_trainer.sft import prepare, publish
from spg_trainer.training import loop
from spg_trainer.training.credit import credit
from spg_trainer.training.micro_batches import Update
from spg_trainer.training.run import Run
from spg_trainer.training.update import plan_updates
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
    SftCommand(env="count", **SIZES, model=TrainedModelConfig(model="new", device="cpu")),
    report=False,
    **STEPS,
)


def measure_few(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """What `sft` measures by default takes longer than the few updates of a test."""
    for module, name in ((prepare, "VALIDATION"), (publish, "EVAL_PROBLEMS"), (publish, "GROUPS")):
        monkeypatch.setattr(module, name, count)


@contextmanager
def before_step(number: int, act: Callable[[], object]) -> Iterator[None]:
    """Inside, `act` is called before the step that follows so many finished ones."""
    train_step = loop.train_step

    def acting(run: Run) -> None:
        if run.state.step == number:
            act()
        train_step(run)

    with patch.object(loop, "train_step", acting):
        yield


def first_update(run: Run, number: int = 0) -> Update:
    """The update of a step with a number, with its masks."""
    scored = run.source.collect(number)
    _, step = credit(run, scored, *scored.of_groups(scored.rewards))
    (update,) = plan_updates(
        run.policy, run.algorithm, step, run.config.batch, seed=run.config.seed, number=number
    )
    return update
