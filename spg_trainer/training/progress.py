"""How far the loss of held-out completions has fallen, and what follows for the learning rate and the end of a run."""

import math
from dataclasses import dataclass

from spg_trainer.settings.fields import Config

LAST_RATE = 0.05
"""The learning rate at the end, as a share of the peak."""
BETTER = 0.01
"""Share of a validation loss by which a later one must be lower to count as falling: from 2.00 to below 1.98."""


@dataclass
class Progress:
    """What has come of the validations of a loss; a checkpoint's state.json holds it.

    With patience the rate is constant after its warm-up until the validation loss no longer falls (or `max_steps` are
    near), and decays over the last fifth of the steps. The state before the decay is kept, so that training can go on
    from there as if it had never ended (MiniCPM, arXiv 2404.06395, section 4). Without patience it follows a cosine.
    """

    stalled: int | None = None
    """The step after which the validation loss was found not to fall any more; None while it falls."""
    best_step: int = 0
    best_loss: float | None = None
    """Lowest validation loss so far, nats per token, by however little."""
    marked_loss: float | None = None
    """The last validation loss that counted as falling; the next must be lower than this by `BETTER`."""
    stale: int = 0
    """Validations in a row that did not count as falling."""
    ended_early: bool = False
    """Whether the user ended it here: the folder then holds a whole model, and there is still something to do."""

    def decay_start(self, config: Config) -> int:
        """The step from which the rate decays after it was constant: where the loss stalled, else after four fifths.

        Without patience nothing is constant, and it is the end.
        """
        if self.stalled is not None:
            return self.stalled
        steps = config.max_steps
        return steps - max(1, steps // 5) if config.eval.patience else steps

    def total(self, config: Config) -> int:
        """How many steps there will be: where the loss has stalled, so many that the decay is a fifth of them."""
        return config.max_steps if self.stalled is None else self.stalled + max(1, self.stalled // 4)

    def learning_rate(self, step: int, config: Config) -> float:
        """The learning rate after so many finished steps: a linear warm-up, and at last `LAST_RATE` of the peak."""
        peak, warmup, total = (
            config.optimizer.learning_rate,
            config.optimizer.warmup_steps,
            self.total(config),
        )
        if not config.eval.patience:
            return cosine_rate(peak, step, warmup=warmup, total=total)
        start = self.decay_start(config)
        return warmup_stable_decay_rate(peak, step, warmup=warmup, decay_start=start, total=total)

    def saves(self, step: int, config: Config) -> bool:
        """Whether a checkpoint is due: at validations, and where the decay begins."""
        decays_from_here = step == self.decay_start(config) and step < self.total(config)
        return step % config.eval.eval_steps == 0 or decays_from_here

    def kept_steps(self, step: int, config: Config) -> set[int]:
        """The steps whose checkpoints stay though others are newer: from where the decay began, `--steps` can grow."""
        start = self.decay_start(config)
        return {start} if start < step else set()

    def note_validation(self, step: int, loss: float, config: Config) -> bool:
        """Notes the validation loss after a step; returns whether it is the lowest so far."""
        if self.marked_loss is None or loss < (1 - BETTER) * self.marked_loss:
            self.marked_loss, self.stale = loss, 0
        else:
            self.stale += 1
        patience, decays = config.eval.patience, step >= self.decay_start(config)
        if patience > 0 and self.stale >= patience and not decays:
            self.stalled = step
        if self.best_loss is not None and loss > self.best_loss:
            return False
        self.best_loss, self.best_step = loss, step
        return True


def cosine_rate(peak: float, step: int, *, warmup: int, total: int) -> float:
    """A linear warm-up, then half a cosine down to `LAST_RATE` of the peak. step: finished updates of `total`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return peak * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))


def warmup_stable_decay_rate(peak: float, step: int, *, warmup: int, decay_start: int, total: int) -> float:
    """A linear warm-up, then constant, and from update `decay_start` a straight line to `LAST_RATE` of the peak.

    Source: MiniCPM (arXiv 2404.06395), section 4.
    """
    if step < decay_start:
        return peak * min(1.0, (step + 1) / max(1, warmup))
    return peak * (1 - (1 - LAST_RATE) * (step + 1 - decay_start) / (total - decay_start))
