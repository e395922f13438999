"""How the learning rate rises and falls, when it begins to fall, and how many steps a run then makes."""

from pathlib import Path

import pytest

from spg_trainer.errors import ConfigError
from spg_trainer.settings.configs import Config
from spg_trainer.settings.resolve import defaults
from spg_trainer.training.criteria import LOSS
from spg_trainer.training.loop import train
from spg_trainer.training.plan import settle
from spg_trainer.training.schedule import learning_rate, steps_and_decay_start
from tests.common.trainer_cases import change, rows, small_config


def scheduled(lr_schedule: str, **changes: object) -> Config:
    """1,000 steps at a rate of 1 after 10 steps of warm-up, down to a twentieth."""
    rate = {"learning_rate": 1.0, "warmup_steps": 10, "lr_floor": 0.05, "lr_schedule": lr_schedule}
    return change(Config(max_steps=1000), **{**rate, **changes})


def planned(config: Config, stalled: int | None = None) -> tuple[int, int]:
    """How many steps the run makes, and the step from which its rate falls."""
    rates = config.optimizer
    return steps_and_decay_start(config.max_steps, rates.lr_schedule, rates.lr_decay_share, stalled)


def rate(config: Config, step: int, stalled: int | None = None) -> float:
    """The rate of the update after so many, of which each is a step."""
    total, start = planned(config, stalled)
    return learning_rate(config.optimizer, updates=step, step=step, total=total, decay_start=start)


def rates(config: Config, *steps: int) -> list[float]:
    return [rate(config, step) for step in steps]


def test_rates_warm_up_and_end_at_their_floor() -> None:
    cosine = scheduled("cosine")
    assert rates(cosine, 0, 4, 9, 10) == [0.1, 0.5, 1.0, 1.0]
    assert rates(cosine, 505, 999) == pytest.approx([0.525, 0.05], abs=1e-4)
    late = scheduled("warmup_stable_decay")
    assert rates(late, 0, 9, 10, 799) == [0.1, 1.0, 1.0, 1.0]
    assert rates(late, 899, 999) == pytest.approx([0.525, 0.05])
    linear = scheduled("linear", warmup_steps=0)
    assert rates(linear, 0, 500, 999) == pytest.approx([1.0, 0.525, 0.05095])
    assert rates(scheduled("constant"), 4, 9, 999) == [0.5, 1.0, 1.0]


def test_a_warm_up_counts_updates_and_a_fall_counts_steps() -> None:
    cosine = scheduled("cosine").optimizer
    assert learning_rate(cosine, updates=4, step=1, total=100, decay_start=100) == 0.5
    assert learning_rate(cosine, updates=20, step=5, total=100, decay_start=100) == 1.0
    assert learning_rate(cosine, updates=220, step=55, total=100, decay_start=100) == pytest.approx(0.525)


def test_the_last_bit_of_a_rate_is_that_with_which_the_embedded_models_were_trained() -> None:
    cosine, late = (
        scheduled(name, warmup_steps=50, learning_rate=2e-3) for name in ("cosine", "warmup_stable_decay")
    )
    assert rates(cosine, *range(50)) == [2e-3 * n / 50 for n in range(1, 51)]
    assert rates(late, *range(50)) == [2e-3 * (n / 50) for n in range(1, 51)]
    assert rates(late, *range(800, 1000)) == [2e-3 * (1 - 0.95 * n / 200) for n in range(1, 201)]


def test_where_validations_bring_nothing_more_the_rate_falls_first() -> None:
    config = scheduled("warmup_stable_decay", warmup_steps=0)
    assert planned(config) == (1000, 800)
    assert planned(config, 40) == (50, 40), "the fall is a fifth of all steps"
    assert rate(config, 40, stalled=40) == pytest.approx(0.905)
    assert planned(config, 900) == (1000, 800), "it was falling already"
    assert planned(config, 1) == (2, 1), "at least one step"
    other = scheduled("constant")
    assert planned(other, 40) == (1000, 1000)


def test_a_loss_has_stalled_after_as_many_validations_as_patience_has_that_fell_by_less_than_1_percent() -> (
    None
):
    losses = {10: 2.0, 20: 1.0, 30: 0.995, 40: 1.2}
    falls = list(LOSS.improvements(losses))
    assert falls == [(10, True), (20, True), (30, False), (40, False)]
    assert LOSS.stalled_at(losses, 2) == 40 and LOSS.stalled_at(losses, 3) is None
    assert LOSS.stalled_at(losses, 0) is None and LOSS.stale(losses) == 2
    assert LOSS.best_step(losses) == 30
    assert LOSS.best_step({10: 1.0, 20: 1.009, 30: 1.011}) == 20, "the latest within 1% of the lowest"


def test_a_loss_has_risen_if_the_newest_is_more_than_1_percent_above_the_lowest() -> None:
    assert LOSS.has_risen({0: 5.0, 10: 1.0, 20: 1.02})
    assert not LOSS.has_risen({0: 5.0, 10: 1.0, 20: 1.009})
    assert not LOSS.has_risen({0: 1.0}) and not LOSS.has_risen({})


def test_a_run_whose_loss_is_above_that_of_its_start_is_told_once() -> None:
    warning = LOSS.warning
    assert "worse than its start: validation loss 2.1000 at step 10, 2.0000 at step 0" in warning(
        {0: 2.0, 10: 2.1}
    )
    assert (
        not warning({0: 2.0, 10: 2.1, 20: 2.2}) and not warning({0: 2.0, 10: 1.9}) and not warning({0: 2.0})
    )
    assert warning({0: 2.0, 10: 1.9, 20: 2.2}) and not warning({10: 2.0, 20: 3.0})


SCHEDULE = """
def restart(update, total):
    return 1 - (2 * update % total) / total

def negative(update, total):
    return -1

def text(update, total):
    return "0.5"

def fails(update, total):
    return 1 / update
"""


def test_a_function_of_ones_own_says_the_share_of_the_rate(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SCHEDULE)
    settings = {
        "max_steps": 2,
        "num_iterations": 2,
        "eval_problems": 1,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
    }
    config = small_config(tmp_path / "run", lr_schedule=f"{file}:restart", **settings)
    train(config, quiet=True)
    # Updates 0 and 1, then 2 and 3, of four: the rate falls twice, and each step records its mean.
    found = [row["learning_rate"] for row in rows(tmp_path / "run/metrics.jsonl")]
    assert found == pytest.approx([0.75e-3, 0.75e-3])
    file.unlink()  # a run that goes on has a copy
    assert train(defaults(Config, resume=str(tmp_path / "run"), max_steps=3), quiet=True)["steps"] == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("negative", "it returned -1.*0 or more"),
        ("text", "it returned '0.5'"),
        ("fails", "for update 0 of 3 it raised ZeroDivisionError"),
        ("restrat", "has no function restrat. Did you mean 'restart'"),
    ],
)
def test_a_schedule_that_says_no_share_is_refused(name: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SCHEDULE)
    with pytest.raises(ConfigError, match=words):
        settle(small_config(tmp_path / "run", lr_schedule=f"{file}:{name}"))
