"""A run: its settings, the objects that it works with, and how far it has come."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from spg_trainer.algorithms import Algorithm
from spg_trainer.models import Policy
from spg_trainer.models.states import trainable_parameters
from spg_trainer.rollout.scored import Source
from spg_trainer.runs.console import Console
from spg_trainer.runs.folder import RunFolder
from spg_trainer.runs.stop import StopRequest
from spg_trainer.runs.tracking import Trackers
from spg_trainer.settings.fields import Config
from spg_trainer.training.progress import Progress

if TYPE_CHECKING:
    from envs import TextEnv


@dataclass
class TrainingState:
    """How far a run has come; when it continues, this is read from its checkpoint and the files of its folder."""

    step: int = 0
    """Finished steps."""
    updates: int = 0
    """Updates that have changed the weights."""
    skipped: int = 0
    """Updates in a row, up to the last one, that were skipped because they were not finite."""
    resumed_at: int = 0
    """The step of the checkpoint from which the run continues; 0 = it began anew."""
    seconds: float = 0.0
    """Seconds that the run took up to the checkpoint from which it continues."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The rows of metrics.jsonl."""
    validations: dict[int, list[bool]] = field(default_factory=dict)
    """Step -> whether each validation problem was solved; empty where --eval-steps is 0."""
    progress: Progress = field(default_factory=Progress)
    """How the loss of `Run.held_out` has fallen so far; unused where problems are validated."""
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    """The trained weights at the lowest of these losses, by name, on the CPU; empty without --patience."""
    consistent: bool = True
    """Whether a checkpoint may be saved: the weights are those of the last finished step, and its row is written."""

    def will_change(self) -> None:
        """Notes that a finite update is about to change the weights."""
        self.consistent, self.skipped = False, 0


@dataclass(frozen=True)
class Run:
    """The settings, the services and the state of a training run; only `state` and `stop` change."""

    config: Config
    state: TrainingState
    policy: Policy
    algorithm: Algorithm
    optimizer: torch.optim.Optimizer
    source: Source
    splits: "Mapping[str, TextEnv]"
    """The environment in `train`, and in each split that is evaluated."""
    folder: RunFolder
    console: Console
    trackers: Trackers
    accelerator: Accelerator
    rows_per_forward: int | None
    """Completions decoded at once; None = as many as is fastest."""
    held_out: Source | None = None
    """The completions whose loss a validation measures; None where problems are validated (`config.eval.criterion`).
    With --patience, this loss decides when the learning rate decays and the training ends (`training/progress.py`)."""
    record: Mapping[str, Any] | None = None
    """What `sft` writes to environment.json of the model. None = the run is RL, and `environment_record` makes it."""
    settings: str = ""
    """What `sft` writes to sft.yaml; "" = the run is RL. The folder of a finished model that is trained further keeps
    its old settings until a checkpoint of the further training is written: they say how long the model was trained."""
    stop: StopRequest = field(default_factory=StopRequest)
    started: float = field(default_factory=time.monotonic)
    """When this run was begun or resumed, on the monotonic clock, in seconds."""

    @property
    def elapsed_seconds(self) -> float:
        """Time spent on this run, over all resumes."""
        return self.state.seconds + time.monotonic() - self.started

    @property
    def moves_reference(self) -> bool:
        """Whether the reference is moved towards the present weights every now and then."""
        return self.algorithm.ref_model_sync_steps > 0 and self.policy.frozen is not None

    @property
    def parameters(self) -> list[torch.Tensor]:
        """The trainable parameters, in the model's order."""
        return list(trainable_parameters(self.policy.model).values())

    @property
    def total_steps(self) -> int:
        """How many steps the run will have, as far as is known: a loss that falls no more may end `sft` earlier."""
        by_loss = self.config.eval.criterion == "loss"
        return self.state.progress.total(self.config) if by_loss else self.config.max_steps

    def due(self, every: int) -> bool:
        """Whether something that is done after every `every` steps, and after the last step, is due now.

        every: 0 = it is never due, not even after the last step.
        """
        return every > 0 and (self.state.step % every == 0 or self.state.step == self.total_steps)

    @property
    def saves(self) -> bool:
        """Whether a checkpoint of the finished step is due."""
        if self.config.eval.criterion == "solved":
            return self.due(self.config.output.save_steps)
        return self.state.progress.saves(self.state.step, self.config)
