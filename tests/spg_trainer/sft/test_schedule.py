"""The learning rate of `sft`, and when it ends."""

import pytest

from spg_trainer.settings.fields import SftCommand
from spg_trainer.sft.schedule import Progress, warmup_constant_decay, warmup_cosine


def test_both_rates_warm_up_and_end_at_a_twentieth() -> None:
    assert [warmup_cosine(1.0, 10, 1000, step) for step in (0, 4, 9, 10)] == [0.1, 0.5, 1.0, 1.0]
    assert warmup_cosine(1.0, 10, 1000, 505) == pytest.approx(0.525)
    assert warmup_cosine(1.0, 10, 1000, 999) == pytest.approx(0.05, abs=1e-4)
    assert [warmup_constant_decay(1.0, 10, 80, 100, step) for step in (0, 9, 10, 79)] == [0.1, 1.0, 1.0, 1.0]
    assert warmup_constant_decay(1.0, 10, 80, 100, 89) == pytest.approx(0.525)
    assert warmup_constant_decay(1.0, 10, 80, 100, 99) == pytest.approx(0.05)


def test_it_ends_when_the_validation_loss_no_longer_falls() -> None:
    progress, command = Progress(), SftCommand(steps=1000, eval_steps=10, patience=2, warmup_steps=0)
    for step, loss in ((10, 2.0), (20, 1.0), (30, 0.995), (40, 1.2)):
        assert progress.total(command) == 1000 and progress.decay_start(command) == 800
        progress.step = step
        assert progress.note_validation(loss, command) == (step < 40)
    assert (progress.decay_start(command), progress.total(command)) == (40, 50)
    assert progress.learning_rate(command) == pytest.approx(command.learning_rate * 0.905)
    assert (progress.best_step, progress.best_loss) == (30, 0.995), "any fall makes it the best"
