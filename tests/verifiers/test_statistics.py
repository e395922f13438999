"""The Wilson interval against published values, and what it refuses."""

import pytest

from verifiers import ArgumentError
from verifiers.statistics import wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(5, 10, 0.2366, 0.7634), (1, 4, 0.0456, 0.6994), (0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662)],
)
def test_it_equals_published_values(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_it_stays_inside_the_unit_interval_and_mirrors():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 7)[0] == 0.0 and wilson_interval(7, 7)[1] == 1.0
    low, high = wilson_interval(30, 256)
    assert (1 - high, 1 - low) == pytest.approx(wilson_interval(226, 256))
    assert wilson_interval(2.5, 10)[0] < 0.25 < wilson_interval(2.5, 10)[1]


@pytest.mark.parametrize(("successes", "n"), [(-1, 4), (5, 4)])
def test_it_refuses_impossible_counts(successes, n):
    with pytest.raises(ArgumentError, match=f"{successes} successes out of {n}"):
        wilson_interval(successes, n)
