"""How far the loss of held-out completions has fallen, and what follows for the learning rate and the end of `sft`.

With --patience N, the learning rate begins to decay after N validations in a row in which the loss did not count as
falling (`BETTER`). The training ends when the decay is over.
"""

from dataclasses import dataclass

from spg_trainer.settings.fields import Config

BETTER = 0.01
"""A validation loss counts as falling if it is more than this share, 1%, below the last one that counted: after 2.00,
one below 1.98."""


@dataclass
class Progress:
    """What the validations have found so far; a checkpoint's state.json holds it.

    With patience, `sft` has the schedule warmup_stable_decay (`sft/fit.py`). The learning rate is then constant after
    its warm-up, until the validation loss no longer falls, or until only `lr_decay_share` of `max_steps` is left, by
    default a fifth. From there it decays, for as many steps as make that share of all steps of the training. The
    checkpoint at which the decay begins is kept, so that a longer training can go on from there as if there had been no
    decay (MiniCPM, arXiv 2404.06395, section 4). Without patience, `sft` has the schedule cosine, over `max_steps`.
    `training/optimize.py: learning_rate` computes the rate.
    """

    stalled: int | None = None
    """The step after which the validation loss was found not to fall any more; None while it falls."""
    best_step: int = 0
    """The step after which it was lowest."""
    best_loss: float | None = None
    """The lowest validation loss so far, in nats per token; any improvement counts, however small."""
    marked_loss: float | None = None
    """The last validation loss that counted as falling; the next must be lower than this by `BETTER`."""
    stale: int = 0
    """Validations in a row that did not count as falling."""
    ended_early: bool = False
    """Whether somebody stopped the training here, with steps left to do. After Ctrl-C its folder holds the model so
    far; after a launcher's signal (`runs/stop.py`) it holds a checkpoint and no model."""

    def decay_start(self, config: Config) -> int:
        """The step from which the rate decays: where the loss stalled, or with `lr_decay_share` of `max_steps` left.

        A schedule other than warmup_stable_decay has no such step, and `max_steps` is returned.
        """
        if self.stalled is not None:
            return self.stalled
        if config.optimizer.lr_schedule != "warmup_stable_decay":
            return config.max_steps
        return config.max_steps - max(1, int(config.optimizer.lr_decay_share * config.max_steps))

    def total(self, config: Config) -> int:
        """How many steps there will be: if the loss has stalled, so many that the decay is `lr_decay_share` of them."""
        if self.stalled is None:
            return config.max_steps
        share = config.optimizer.lr_decay_share
        return self.stalled + max(1, int(share / (1 - share) * self.stalled))

    def saves(self, step: int, config: Config) -> bool:
        """Whether a finished step gets a checkpoint: each that is validated does, and the one where a decay begins."""
        decays_from_here = step == self.decay_start(config) and step < self.total(config)
        return step % config.eval.eval_steps == 0 or decays_from_here

    def kept_steps(self, step: int, config: Config) -> set[int]:
        """The steps whose checkpoints are kept though others are newer: the one where the decay began.

        From there a training can go on with more steps.
        """
        start = self.decay_start(config)
        return {start} if start < step else set()

    def note_validation(self, step: int, loss: float, config: Config) -> bool:
        """Notes the validation loss after a step; returns whether it is the lowest so far."""
        if self.marked_loss is None or loss < (1 - BETTER) * self.marked_loss:
            self.marked_loss = loss
            self.stale = 0
        else:
            self.stale += 1
        patience = config.eval.patience
        is_decaying = step >= self.decay_start(config)
        if patience > 0 and self.stale >= patience and not is_decaying:
            self.stalled = step
        if self.best_loss is not None and loss > self.best_loss:
            return False
        self.best_loss, self.best_step = loss, step
        return True
