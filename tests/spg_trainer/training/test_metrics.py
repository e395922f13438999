"""Metrics that show early that a policy goes wrong."""

import json

import numpy as np
import pytest

from spg_trainer import train
from spg_trainer.training.metrics import correlation_of, repeated_share
from tests.common.trainer_cases import small_config


@pytest.mark.parametrize(
    ("ids", "share"),
    [
        ([], 0.0),
        ([1, 2, 3], 0.0),
        ([1, 2, 3, 4, 5], 0.0),
        ([7] * 8, 4 / 5),  # five runs of 4, all the same
        ([1, 2, 3, 4, 1, 2, 3, 4], 1 / 5),
    ],
)
def test_the_share_of_runs_of_four_tokens_that_came_before(ids, share):
    assert repeated_share(ids) == pytest.approx(share)


def test_reward_and_length_are_correlated_where_both_differ():
    lengths = np.array([3.0, 5.0, 9.0])
    assert correlation_of(2 * lengths + 1, lengths) == pytest.approx(1)
    assert correlation_of(-lengths, lengths) == pytest.approx(-1)
    assert correlation_of(np.full(3, 0.1), lengths) is None and correlation_of(lengths, np.ones(3)) is None


def test_both_are_recorded_of_each_step(tmp_path):
    train(small_config(tmp_path / "run", max_steps=1), quiet=True)
    (row,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert 0 <= row["completions/repeated_4grams"] < 1
    assert -1 <= row["completions/reward_length_correlation"] <= 1
