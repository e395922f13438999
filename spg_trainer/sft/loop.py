"""The updates of `sft`: how many, at which rate, what is measured on the way, and how an interrupted one goes on.

The rate is constant after the warm-up until the validation loss no longer falls (or the limit is near), and only then
goes down, over a fifth of all updates. The state before that fall is kept, so that training can go on from there as if
it had never ended. (A schedule of this kind: MiniCPM, arXiv 2404.06395, section 4.)
"""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spg_trainer.errors import TrainingError
from spg_trainer.evaluation.evaluate import evaluate
from spg_trainer.models import Policy
from spg_trainer.runs import checkpoint
from spg_trainer.runs.console import Console
from spg_trainer.runs.files import COMPLETE, CONTINUE, write_text
from spg_trainer.seeding import derive, gpus
from spg_trainer.settings.fields import Sampling, SftCommand
from spg_trainer.settings.sources import SFT, task_record, to_yaml
from spg_trainer.sft.demonstrations import denoising_loss, draw_batch
from spg_trainer.sft.habits import look
from spg_trainer.training.muon import Muon
from spg_trainer.training.optimizer import apply_gradients, make_adamw, warmup_cosine, warmup_hold_fall

if TYPE_CHECKING:
    from envs import TextEnv

VALIDATION = 512
"""Validation demonstrations of which the loss is measured, always under the same masks."""
LOOKED_AT = 60
"""Validation problems whose completions' habits are counted on the way."""
BETTER = 0.01
"""By how much of itself the validation loss must fall to count as falling."""


@dataclass
class Progress:
    """How far the updates are; what a checkpoint's state.json holds."""

    step: int = 0
    """Finished updates."""
    fall: int | None = None
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

    def fall_at(self, command: SftCommand) -> int:
        """The update from which the rate falls."""
        limit = command.steps - max(1, command.steps // 5) if command.patience else command.steps
        return limit if self.fall is None else self.fall

    def last(self, command: SftCommand) -> int:
        """How many updates there will be."""
        return command.steps if self.fall is None else self.fall + max(1, self.fall // 4)

    def rate(self, command: SftCommand) -> float:
        """The learning rate of the next update."""
        peak, warmup = command.learning_rate, command.warmup_steps
        if not command.patience:
            return warmup_cosine(peak, warmup, command.steps, self.step)
        return warmup_hold_fall(peak, warmup, self.fall_at(command), self.last(command), self.step)

    def measured(self, loss: float, command: SftCommand) -> bool:
        """Notes a validation loss; returns whether it is the lowest so far."""
        if self.marked_loss is None or loss < (1 - BETTER) * self.marked_loss:
            self.marked_loss, self.stale = loss, 0
        else:
            self.stale += 1
        if 0 < command.patience <= self.stale and self.step < self.fall_at(command):
            self.fall = self.step
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
    folder: Path
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        c = self.command
        if c.optimizer == "adamw":
            self.optimizer = make_adamw(list(self.trainable.values()), c.learning_rate, c.weight_decay)
        else:
            self.optimizer = Muon(self.trainable, c.learning_rate, c.weight_decay)

    @property
    def trainable(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.policy.model.named_parameters() if p.requires_grad}

    @property
    def settings(self) -> str:
        """What `SFT` holds: the settings, without where it went on from."""
        return to_yaml(replace(self.command, resume=None, config=None))

    def restore(self, path: Path) -> None:
        """Puts a checkpoint back."""
        state = checkpoint.load(path, self.policy, self.optimizer)
        self.best = torch.load(path / "training.pt", map_location="cpu", weights_only=True)["best"]
        self.progress = Progress(**state)

    def save(self) -> None:
        """Writes a checkpoint of the finished updates; a model that was there before is no longer the last word.

        Until it is there, a finished model keeps the settings that say how long it was trained.
        """
        if not (self.folder / SFT).is_file():
            write_text(self.folder / SFT, self.settings, CONTINUE)
        state = {name: value for name, value in asdict(self.progress).items() if name != "step"}
        environment, optimizer = task_record(self.command, self.sampling), self.optimizer.state_dict()
        more = {"state": state, "environment": environment, "keep": 1, "best": self.best}
        checkpoint.save(self.folder, self.progress.step, self.policy, optimizer, **more)
        (self.folder / COMPLETE).unlink(missing_ok=True)
        write_text(self.folder / SFT, self.settings, CONTINUE)

    def run(self, console: Console) -> None:
        """All updates that are left; afterwards the model has the best weights, after a cosine the last ones.

        Raises TrainingError if a gradient or the validation loss is not finite.
        """
        p, c = self.progress, self.command
        with console.progress(p.last(c), "sft", first=p.step) as advance:
            while p.step < p.last(c):
                started = time.monotonic()
                p.losses = [*p.losses[-99:], self.update()]
                p.step += 1
                if p.step % c.eval_steps == 0 or p.step == p.last(c):
                    self.measure(console)
                p.seconds += time.monotonic() - started
                # What comes after the fall is soon done again; from before it training can also go on.
                if p.step == p.fall_at(c) < p.last(c) or (
                    p.step % c.eval_steps == 0 and p.step < p.fall_at(c)
                ):
                    self.save()
                text = f"loss {sum(p.losses) / len(p.losses):.3f}"
                text += f"  validation {p.best_loss:.3f}" if p.best_loss is not None else ""
                advance(1, text, p.last(c))
        if c.patience:
            self.policy.model.load_state_dict(self.best, strict=False)

    def update(self) -> float:
        """One optimizer step; returns the loss in nats per token."""
        p, c, model = self.progress, self.command, self.policy.model
        batch = self.draw(self.train, c.batch_size, p.step)
        dropout = c.model.lora_dropout or 0.0
        total = 0.0
        # Dropout knows the global stream only.
        with torch.random.fork_rng(gpus(self.policy.device), enabled=dropout > 0):
            if dropout:
                torch.manual_seed(derive(c.seed, "sft-dropout", p.step))
            model.train()
            for part in self.split(batch):
                loss = denoising_loss(self.policy, part[:2], *part[2:]) / c.batch_size
                loss.backward()
                total += float(loss.detach())
            model.eval()
        norm = torch.nn.utils.clip_grad_norm_(self.trainable.values(), c.max_grad_norm)
        if not torch.isfinite(norm):
            raise TrainingError(
                f"The gradient of sft step {p.step} is not finite. Lower --learning-rate {c.learning_rate}."
            )
        apply_gradients(self.optimizer, p.rate(c))
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def measure(self, console: Console) -> None:
        """The validation loss and the habits of some completions; keeps the weights if they are the best so far."""
        p, c = self.progress, self.command
        batch = self.draw(self.validation, VALIDATION, "validation")
        with torch.no_grad():
            losses = [float(denoising_loss(self.policy, part[:2], *part[2:])) for part in self.split(batch)]
        loss = sum(losses) / VALIDATION
        if not math.isfinite(loss):
            raise TrainingError(
                f"The validation loss after sft step {p.step} is {loss}. Lower --learning-rate {c.learning_rate}."
            )
        if p.measured(loss, c):
            self.best = {name: w.detach().cpu().clone() for name, w in self.trainable.items()}
        found = look(self.validation, self.sample(LOOKED_AT, 1))
        text = "" if p.best_step == p.step else f" (best {p.best_loss:.4f} at {p.best_step})"
        console.say(
            f"sft {p.step}: validation loss {loss:.4f}{text}; at temperature {c.temperature:g}: {found.shares}"
        )

    def sample(self, problems: int, generations: int) -> list[dict]:
        """Validation completions at the temperature of RL, as rows of an evaluation."""
        env, count = self.validation, min(problems, len(self.validation))
        sampling = replace(self.sampling, temperature=self.command.temperature)
        more = {"num_generations": generations, "num_problems": count, "seed": self.command.seed}
        return evaluate(self.policy, env, sampling, split="validation", **more).rows

    def draw(self, env: "TextEnv", count: int, step: int | str) -> list[Tensor]:
        length, seed = self.command.max_completion_length, self.command.seed
        return draw_batch(self.policy, env, self.mix, count=count, length=length, seed=seed, step=step)

    def split(self, batch: list[Tensor]) -> list[list[Tensor]]:
        """The rows in parts that fit in memory, on the model's device."""
        size = self.command.per_device_batch_size or self.command.batch_size
        parts = zip(*(column.to(self.policy.device).split(size) for column in batch), strict=True)
        return [list(part) for part in parts]
