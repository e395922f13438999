"""How long `sft` trains, and its learning rate.

With patience the rate is constant after its warm-up until the validation loss no longer falls (or `steps` are near),
and decays over the last fifth of the updates. The state before the decay is kept, so that training can go on from there
as if it had never ended (MiniCPM, arXiv 2404.06395, section 4). Without patience the rate follows a cosine.
"""

import math
from dataclasses import dataclass, field

from spg_trainer.settings.fields import SftCommand

BETTER = 0.01
"""By how much of itself the validation loss must fall to count as falling."""


@dataclass
class Progress:
    """How far the updates are; what a checkpoint's state.json holds."""

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

    def decay_start(self, command: SftCommand) -> int:
        """The update from which the rate decays after it was constant; under a cosine, the end."""
        if self.stalled is not None:
            return self.stalled
        return command.steps - max(1, command.steps // 5) if command.patience else command.steps

    def total(self, command: SftCommand) -> int:
        """How many updates there will be."""
        return command.steps if self.stalled is None else self.stalled + max(1, self.stalled // 4)

    def learning_rate(self, command: SftCommand) -> float:
        """The learning rate of the next update: a linear warm-up, and at last 5% of the peak."""
        peak, warmup, step = command.learning_rate, command.warmup_steps, self.step
        if not command.patience:
            if step < warmup:
                return peak * (step + 1) / warmup
            done = (step - warmup) / max(1, command.steps - warmup)
            return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))
        start = self.decay_start(command)
        if step < start:
            return peak * min(1.0, (step + 1) / max(1, warmup))
        return peak * (1 - 0.95 * (step + 1 - start) / (self.total(command) - start))

    def note_validation(self, loss: float, command: SftCommand) -> bool:
        """Notes a validation loss; returns whether it is the lowest so far."""
        if self.marked_loss is None or loss < (1 - BETTER) * self.marked_loss:
            self.marked_loss, self.stale = loss, 0
        else:
            self.stale += 1
        if 0 < command.patience <= self.stale and self.step < self.decay_start(command):
            self.stalled = self.step
        if self.best_loss is not None and loss > self.best_loss:
            return False
        self.best_loss, self.best_step = loss, self.step
        return True
