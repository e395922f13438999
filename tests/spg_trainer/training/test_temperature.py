"""The temperature that `--temperature auto` chooses for the next step."""

import math

import pytest

from spg_trainer.training.temperature import HIGHEST, LOWEST, START, next_temperature


def after(mixed: float, *, temperature: float = 1.0, wrong: float = 0.0, identical: float = 0.0) -> float:
    """The temperature after a step at `temperature` with such shares of groups."""
    row = {"frac_groups_all_wrong": wrong, "frac_groups_wrong_identical": identical}
    row |= {"frac_groups_identical": 0.7, "temperature": temperature}  # of those some are right
    return next_temperature([{"temperature": 9}, {**row, "frac_reward_zero_std": 1 - mixed}])


@pytest.mark.parametrize(
    ("mixed", "others", "factor"),
    [
        (0.1, {}, math.exp(0.3)),
        (0.0, {"wrong": 1.0, "identical": 0.8}, math.exp(0.4)),
        (0.4, {}, 1),
        (0.55, {"wrong": 0.45}, 1),
        (0.9, {}, math.exp(-0.2)),
        (0.1, {"wrong": 0.8, "identical": 0.1}, math.exp(-0.3)),
    ],
    ids=["too few", "all one text", "the lower end", "inside", "too many", "wrong in many ways"],
)
def test_it_moves_by_the_distance_to_the_range(mixed, others, factor):
    assert after(mixed, **others) == pytest.approx(factor)
    assert after(mixed, temperature=2.0, **others) == pytest.approx(2 * factor)


def test_it_starts_at_the_model_as_it_is_and_keeps_to_its_bounds():
    assert next_temperature([]) == START == 1.0
    assert after(0.0, temperature=2.9) == HIGHEST and after(1.0, temperature=0.31) == LOWEST


def test_a_row_of_an_older_run_has_one_figure_for_right_and_wrong_ones():
    row = {"frac_reward_zero_std": 0.9, "frac_groups_all_wrong": 0.8, "temperature": 1.0}
    assert next_temperature([{**row, "frac_groups_identical": 0.1}]) == pytest.approx(math.exp(-0.3))
    assert next_temperature([{**row, "frac_groups_identical": 0.4}]) == pytest.approx(math.exp(0.3))
