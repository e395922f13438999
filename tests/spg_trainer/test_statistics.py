"""Intervals and pass@k against published values and counting."""

from itertools import combinations

import pytest

from spg_trainer.errors import ConfigError
from spg_trainer.evaluation import pass_at_k, solved_rate, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_equals_published_values(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_stays_inside_the_unit_interval_and_mirrors():
    assert wilson(0, 7)[0] == 0.0
    assert wilson(7, 7)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(30, 256)
    assert (1 - high, 1 - low) == pytest.approx(wilson(226, 256))
    assert wilson(2.5, 10)[0] < 0.25 < wilson(2.5, 10)[1]


@pytest.mark.parametrize(("successes", "n"), [(-1, 4), (5, 4)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ConfigError, match=f"{successes} successes out of {n}"):
        wilson(successes, n)


def test_solved_rate_counts():
    found = solved_rate([True, False, True, True])
    assert (found["correct"], found["n"]) == (0.75, 4)
    assert (found["low"], found["high"]) == wilson(3, 4)
    assert solved_rate([]) == {"correct": 0.0, "n": 0, "low": 0.0, "high": 1.0}


def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer():
    right = [True, True, False, False, False, False]
    for k in range(1, 7):
        subsets = list(combinations(right, k))
        expected = sum(any(subset) for subset in subsets) / len(subsets)
        assert pass_at_k(2, 6, k) == pytest.approx(expected)
    assert pass_at_k(0, 6, 3) == 0.0


@pytest.mark.parametrize(("num_correct", "n", "k"), [(1, 4, 5), (1, 4, 0), (5, 4, 1)])
def test_pass_at_k_refuses_what_cannot_be_estimated(num_correct, n, k):
    with pytest.raises(ConfigError, match=f"pass@{k}"):
        pass_at_k(num_correct, n, k)
