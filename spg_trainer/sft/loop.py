"""The updates of `sft`: the loop, its learning rate, what is validated on the way, and its checkpoints."""

import math
import os
import shlex
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spg_trainer.distributed import begin, on_all, raising_on_all, rank, sum_metrics, world_size
from spg_trainer.errors import TrainingError
from spg_trainer.models import Policy
from spg_trainer.models.shard import unsharded
from spg_trainer.models.states import trainable_parameters
from spg_trainer.rollout.dealing import deal_rows
from spg_trainer.runs import checkpoint
from spg_trainer.runs.console import Console
from spg_trainer.runs.files import COMPLETE
from spg_trainer.runs.folder import RunFolder
from spg_trainer.runs.stop import StopRequest
from spg_trainer.runs.tracking import Trackers
from spg_trainer.seeding import derive, gpus
from spg_trainer.settings.fields import Sampling, SftCommand
from spg_trainer.settings.places import STARTED
from spg_trainer.settings.recorded import task_record, to_yaml
from spg_trainer.sft.demonstrations import denoising_loss, draw_masked
from spg_trainer.sft.fitting import draw_fitting
from spg_trainer.training.optimize import (
    cosine_rate,
    make_optimizer,
    optimizer_step,
    sum_gradients,
    warmup_stable_decay_rate,
)

if TYPE_CHECKING:
    from envs import TextEnv

VALIDATION = 512
"""Validation demonstrations of which the loss is measured, always under the same masks."""
BETTER = 0.01
"""By how much of itself the validation loss must fall to count as falling."""


@dataclass
class Progress:
    """How far the updates are, and their learning rate; what a checkpoint's state.json holds.

    With patience the rate is constant after its warm-up until the validation loss no longer falls (or `steps` are
    near), and decays over the last fifth of the updates. The state before the decay is kept, so that training can go on
    from there as if it had never ended (MiniCPM, arXiv 2404.06395, section 4). Without patience it follows a cosine.
    """

    step: int = 0
    """Finished updates."""
    stalled: int | None = None
    """Finished updates when the validation loss was found not to fall any more; None = not yet."""
    best_step: int = 0
    best_loss: float | None = None
    """Lowest validation loss so far, nats per token."""
    marked_loss: float | None = None
    """The validation loss that the next must undercut by `BETTER`."""
    stale: int = 0
    """Evaluations in a row that did not."""
    losses: list[float] = field(default_factory=list)
    """Training losses of the last hundred updates, nats per token."""
    seconds: float = 0.0
    ended_early: bool = False
    """Whether the user ended it here: the folder then holds a whole model, and there is still something to do."""

    def decay_start(self, command: SftCommand) -> int:
        """The update from which the rate decays after it was constant; under a cosine, the end."""
        if self.stalled is not None:
            return self.stalled
        return command.steps - max(1, command.steps // 5) if command.eval.patience else command.steps

    def total(self, command: SftCommand) -> int:
        """How many updates there will be."""
        return command.steps if self.stalled is None else self.stalled + max(1, self.stalled // 4)

    def learning_rate(self, command: SftCommand) -> float:
        """The learning rate of the next update: a linear warm-up, and at last 5% of the peak."""
        o, total = command.optimizer, self.total(command)
        peak, warmup = o.learning_rate, o.warmup_steps
        if not command.eval.patience:
            return cosine_rate(peak, self.step, warmup=warmup, total=total)
        start = self.decay_start(command)
        return warmup_stable_decay_rate(peak, self.step, warmup=warmup, decay_start=start, total=total)

    def note_validation(self, loss: float, command: SftCommand) -> bool:
        """Notes a validation loss; returns whether it is the lowest so far."""
        if self.marked_loss is None or loss < (1 - BETTER) * self.marked_loss:
            self.marked_loss, self.stale = loss, 0
        else:
            self.stale += 1
        if 0 < command.eval.patience <= self.stale and self.step < self.decay_start(command):
            self.stalled = self.step
        if self.best_loss is not None and loss > self.best_loss:
            return False
        self.best_loss, self.best_step = loss, self.step
        return True


@dataclass
class Fit:
    """What the updates need and change; `best` holds the trainable weights of the lowest validation loss."""

    policy: Policy
    train: "TextEnv"
    validation: "TextEnv"
    mix: Mapping[str, float]
    command: SftCommand
    sampling: Sampling
    """Greedy decoding of the model."""
    folder: RunFolder
    evaluated: "Mapping[str, TextEnv]" = field(default_factory=dict)
    """Split -> the task that the finished model is evaluated on; empty where only texts of a file are learned."""
    skipped: str = ""
    """What to say of problems and texts that are skipped as too long."""
    data: Mapping[str, str] = field(default_factory=dict)
    """The hashes of the files that are read."""
    begun: SftCommand | None = None
    """The settings with the paths as the run began with them, in `started_in`; None = `command`."""
    started_in: str = field(default_factory=os.getcwd)
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)
    stop: StopRequest = field(default_factory=StopRequest)
    trackers: Trackers = field(default_factory=Trackers)

    def __post_init__(self) -> None:
        self.trainable = trainable_parameters(self.policy.model)
        self.optimizer = make_optimizer(self.command.optimizer, self.trainable)

    @property
    def settings(self) -> str:
        """What `SFT` holds: the settings, without where it went on from."""
        begun = self.begun or self.command
        return to_yaml(replace(begun, output=replace(begun.output, resume=None), config=None))

    @property
    def record(self) -> dict[str, Any]:
        """What environment.json of the model holds."""
        read = {"data": dict(self.data), "origin": dict(self.train.origin)}
        more = {name: what for name, what in read.items() if what}
        record = {**task_record(self.command, self.sampling, **more), STARTED: self.started_in}
        if self.begun and "env" in record:
            record |= {"env": self.begun.env, "env_args": dict(self.begun.env_args)}
        return record

    def restore(self, path: Path) -> None:
        """Puts a checkpoint back."""
        state = checkpoint.load(path, self.policy, self.optimizer)
        self.best = torch.load(path / "training.pt", map_location="cpu", weights_only=True)["best"]
        self.progress = Progress(**state)

    def save(self) -> None:
        """Writes a checkpoint of the finished updates; a finished model that it goes on from is finished no longer."""
        begin(f"the checkpoint of update {self.progress.step}")
        checkpoint.save(
            self.folder.path,
            self.progress.step,
            self.policy,
            self.optimizer.state_dict(),
            keep=1,
            state=asdict(self.progress),
            environment=self.record,
            best=self.best,
        )
        # Only now: a kill before leaves the finished model, and the settings that say how long it was trained.
        with raising_on_all():
            if rank() == 0:
                (self.folder.path / COMPLETE).unlink(missing_ok=True)
            self.folder.config(self.settings)

    def run(self, console: Console) -> None:
        """All updates that are left; afterwards the model has the best weights, after a cosine the last ones.

        Raises TrainingError if a gradient or the validation loss is not finite.
        """
        p, c = self.progress, self.command
        with console.progress(p.total(c), "sft", first=p.step) as advance:
            while p.step < p.total(c):
                started = time.monotonic()
                row = {"step": p.step + 1, **self.update()}
                updated = time.monotonic()
                p.losses = [*p.losses[-99:], row["loss"]]
                p.step += 1
                if p.step % c.eval.eval_steps == 0 or p.step == p.total(c):
                    row["validation/loss"] = self.validate(console)
                p.seconds += time.monotonic() - started
                self.record_update(row, {"step": p.step, "update": updated - started})
                # What comes after the start of the decay is soon done again; from before it training can also go on.
                start = p.decay_start(c)
                if p.step == start < p.total(c) or (p.step % c.eval.eval_steps == 0 and p.step < start):
                    self.save()
                validation = "" if p.best_loss is None else f"  validation {p.best_loss:.3f}"
                advance(p.step, f"loss {sum(p.losses) / len(p.losses):.3f}{validation}", p.total(c))
                if self.stop.asked:
                    self.end_early(console, decays=p.step > start)
                    break
        if c.eval.patience:
            self.policy.model.load_state_dict(self.best, strict=False)

    def record_update(self, metrics: dict[str, float], timings: dict[str, float]) -> None:
        """Writes a finished update's rows, of which `step` is the number."""
        with raising_on_all():
            self.folder.metrics(metrics)
            self.folder.timings(timings)
        self.trackers.log({**timings, **metrics}, self.progress.step)

    def end_early(self, console: Console, decays: bool) -> None:
        """Keeps what was learned so far: the best weights, and unless the rate `decays` a checkpoint to go on from."""
        self.progress.ended_early = True
        if not decays:  # before the validation, which one that was never stopped does not have
            self.save()
        if self.progress.step % self.command.eval.eval_steps and self.stop.by != signal.SIGTERM:
            self.validate(console)
        again = f"python -m spg_trainer sft --resume {shlex.quote(str(self.folder.path))}"
        console.say(f"Stopped after update {self.progress.step}; go on with: {again}")

    def update(self) -> dict[str, float]:
        """One optimizer step; returns its loss in nats per token, its learning rate and the norm of its gradient."""
        p, c, model = self.progress, self.command, self.policy.model
        dropout = c.model.lora_dropout or 0.0
        total = 0.0
        begin(f"update {p.step + 1}")
        # Dropout knows the global stream only.
        with torch.random.fork_rng(gpus(self.policy.device), enabled=dropout > 0):
            if dropout:
                torch.manual_seed(derive(c.seed, "sft-dropout", p.step, *([rank()] if rank() else [])))
            model.train()
            with unsharded(model):
                with raising_on_all():
                    for part in self.draw(self.train, c.batch.batch_size, p.step):
                        loss = denoising_loss(self.policy, part[:2], *part[2:]) / c.batch.batch_size
                        loss.backward()
                        total += float(loss.detach())
                sum_gradients(model)
            model.eval()
        sums = sum_metrics({"loss": total, "stop": float(self.stop.asked)})  # all processes end alike
        total, self.stop.asked = sums["loss"], sums["stop"] > 0
        rate = p.learning_rate(c)
        stepped = optimizer_step(
            self.optimizer,
            list(self.trainable.values()),
            loss=total,
            learning_rate=rate,
            max_grad_norm=c.optimizer.max_grad_norm,
        )
        if not stepped.applied:
            text = f"The gradient of sft step {p.step} is not finite"
            raise on_all(TrainingError(f"{text}. Lower --learning-rate {c.optimizer.learning_rate}."))
        return {"loss": total, "grad_norm": stepped.norm, "learning_rate": rate}

    def validate(self, console: Console) -> float:
        """Measures and returns the validation loss; keeps the weights if they are the best so far."""
        p, c = self.progress, self.command
        begin(f"the validation after update {p.step}")
        with unsharded(self.policy.model), raising_on_all(), torch.no_grad():
            losses = [
                float(denoising_loss(self.policy, part[:2], *part[2:]))
                for part in self.draw(self.validation, VALIDATION, "validation")
            ]
        loss = sum_metrics({"loss": sum(losses)})["loss"] / VALIDATION
        if not math.isfinite(loss):
            text = f"The validation loss after sft step {p.step} is {loss}"
            raise on_all(TrainingError(f"{text}. Lower --learning-rate {c.optimizer.learning_rate}."))
        if p.note_validation(loss, c) and c.eval.patience:  # a cosine keeps its last weights
            self.best = {name: w.detach().cpu().clone() for name, w in self.trainable.items()}
        best = "" if p.best_step == p.step else f" (best {p.best_loss:.4f} at {p.best_step})"
        console.say(f"sft {p.step}: validation loss {loss:.4f}{best}")
        return loss

    def draw(self, env: "TextEnv", count: int, step: int | str) -> list[list[Tensor]]:
        """What `denoising_loss` takes, of `count` demonstrations, in parts that fit in memory; pure in seed and step.

        Several processes share them, evenly by the length of the prompts. A part holds prompts of similar length, and
        is as long as its longest: what an update learns is the same, with less padding. Of each part: prompt_ids
        (B, L), prompt_mask (B, L), completion_ids (B, T), masked (B, T), weight (B,).
        """
        c, policy, length = self.command, self.policy, self.command.rollout.max_completion_length
        prompt, completion_ids = draw_fitting(policy, env, self.mix, c, step, count)
        batch: tuple[Tensor, ...] = (*prompt, completion_ids, *draw_masked(count, length, c.seed, step))
        lengths = prompt[1].sum(-1).cpu()
        own = torch.arange(count)
        if world_size() > 1:
            own = torch.tensor(deal_rows(lengths.tolist()), dtype=torch.long)
        size = c.batch.per_device_batch_size or c.batch.batch_size
        if len(own) > size:
            own = own[lengths[own].argsort(stable=True)]
        parts = []
        for rows in own.split(size) if len(own) else ():
            longest = int(lengths[rows].max())
            columns = [column[rows] for column in batch]
            columns[:2] = [column[:, column.shape[1] - longest :] for column in columns[:2]]
            parts.append([column.to(policy.device) for column in columns])
        return parts
