"""A run: its settings, the objects that it works with, and how far it has come."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator

from spg_trainer.algorithms import Algorithm
from spg_trainer.distributed import gather
from spg_trainer.models import Policy
from spg_trainer.models.forward import trainable_parameters
from spg_trainer.rollout.collect import Source
from spg_trainer.rollout.player import Player
from spg_trainer.runs.folder import RunFolder
from spg_trainer.runs.progress import Console
from spg_trainer.runs.stop import StopRequest
from spg_trainer.runs.tracking import Trackers
from spg_trainer.settings.configs import Config
from spg_trainer.settings.packages import envs
from spg_trainer.training import schedule
from spg_trainer.training.criteria import Criterion

OnStep = Callable[[dict[str, Any], list[dict[str, Any]]], dict[str, float] | str | None]
"""A user's function `on_step(metrics, rows)`; see `training.loop.train`."""


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
    started: float = field(default_factory=time.monotonic)
    """When this run was begun or resumed, on the monotonic clock, in seconds."""
    saved: float = field(default_factory=time.monotonic)
    """When the last checkpoint was written; before the first one, when this run was begun or resumed."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The rows of metrics.jsonl, one for each finished step, oldest first."""
    judged_since: int = 0
    """0 = the present code of the task has judged the completions of all steps. In a run that went on with changed code
    (--accept-changed-code): the last step that other code has judged."""
    validations: dict[int, Any] = field(default_factory=dict)
    """Step -> whether each validation problem was solved, or the loss of held-out completions (`Config.validates`);
    empty if --eval-steps is 0."""
    consistent: bool = True
    """Whether a checkpoint may be saved: the weights are those of the last finished step, and its row is written."""

    told_to_stop: bool = False
    """Whether `on_step` has returned "stop" for the last step."""

    @property
    def elapsed_seconds(self) -> float:
        """Time spent on this run, over all resumes."""
        return self.seconds + time.monotonic() - self.started

    @property
    def comparable(self) -> list[dict[str, Any]]:
        """The rows of `history` that the present code of the task has judged."""
        return [row for row in self.history if row["step"] > self.judged_since]

    def count_step(self) -> None:
        """Counts a step whose updates are made. No checkpoint may be saved until `record_step` has written its row."""
        self.step += 1
        self.consistent = False

    def will_change(self) -> None:
        """Notes that a finite update is about to change the weights."""
        self.consistent = False
        self.skipped = 0


@dataclass(frozen=True)
class Run:
    """The settings, the services and the state of a training run.

    How far the run has come is noted in `state`, and a request to stop in `stop`.
    """

    config: Config
    state: TrainingState
    player: Player
    """Writes the run's completions, and those of its evaluations."""
    algorithm: Algorithm
    optimizer: torch.optim.Optimizer
    source: Source
    splits: "Mapping[str, envs.TextEnv]"
    """{split: the environment in this split}, for `train` and each split that is evaluated."""
    folder: RunFolder
    console: Console
    trackers: Trackers
    accelerator: Accelerator
    criterion: Criterion
    """How this run's validations are judged, of `criteria.CRITERIA`."""
    stop: StopRequest = field(default_factory=StopRequest)
    on_step: OnStep | None = None
    """The user's function, which `train` takes."""

    @property
    def policy(self) -> Policy:
        """The model that is trained."""
        return self.player.policy

    @property
    def moves_reference(self) -> bool:
        """Whether the reference is moved towards the present weights after every `ref_model_sync_steps` updates."""
        # A reference that is a copy of all weights is in `frozen`. The reference of adapters is never moved.
        is_copy_of_weights = self.policy.frozen is not None
        return self.algorithm.ref_model_sync_steps > 0 and is_copy_of_weights

    @property
    def parameters(self) -> list[torch.Tensor]:
        """The trainable parameters, in the model's order."""
        return list(trainable_parameters(self.policy.model).values())

    @property
    def steps_and_decay_start(self) -> tuple[int, int]:
        """How many steps the run will have, and the step from which its learning rate falls.

        Both are `max_steps`, unless the schedule is warmup_stable_decay: then the rate falls earlier. With --patience,
        both numbers become smaller there once validations bring no improvement any more.
        """
        stalled = self.criterion.stalled_at(self.state.validations, self.config.eval.patience)
        optimizer = self.config.optimizer
        return schedule.steps_and_decay_start(
            self.config.max_steps, optimizer.lr_schedule, optimizer.lr_decay_share, stalled
        )

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        total, decay_start = self.steps_and_decay_start
        state, batch = self.state, self.config.batch
        return schedule.learning_rate(
            self.config.optimizer,
            updates=state.updates,
            step=state.step,
            total=total,
            decay_start=decay_start,
            per_step=batch.num_iterations * batch.num_minibatches,
        )

    def due(self, every: int) -> bool:
        """Whether something that is done after every `every` steps, and after the last step, is to be done now.

        every: 0 = never, not even after the last step.
        """
        total, _ = self.steps_and_decay_start
        is_last = self.state.step == total
        return every > 0 and (self.state.step % every == 0 or is_last)

    @property
    def saves(self) -> bool:
        """Whether a checkpoint of the finished step is due: by --save-steps, by --save-minutes, or because the rate
        begins to fall. Processes agree on the time, so all of them have to ask."""
        total, decay_start = self.steps_and_decay_start
        falls_late = decay_start < total  # only with warmup_stable_decay; else the two are equal
        begins_to_fall = falls_late and self.state.step == decay_start
        minutes = self.config.output.save_minutes
        is_time = minutes > 0 and any(gather([time.monotonic() - self.state.saved >= 60 * minutes]))
        return is_time or begins_to_fall or self.due(self.config.output.save_steps)
