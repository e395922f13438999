"""Tables and curves of finished runs, against numbers computed by hand and by simulation."""

from pathlib import Path

import numpy as np
import pytest

from spg_trainer.evaluation.statistics import mean_over, t_quantile, two_sided_p
from spg_trainer.reporting.compare import markdown
from spg_trainer.reporting.runs import Completions, Recorded
from spg_trainer.settings.configs import Config
from tests.common.marks import slow_if
from verifiers.statistics import wilson_interval


def finished(folder: Path, before: list[int], after: list[int], solved: list[float]) -> Recorded:
    """A finished run with these outcomes."""
    evaluations = []
    for name, correct, step in (("before", before, 0), ("after", after, len(solved))):
        figures = {"correct": np.mean(correct), "low": 0, "high": 1, "mean_length": 9, "rewards": {}}
        rows = [{"index": i, "correct": bool(one)} for i, one in enumerate(correct)]
        evaluations.append(Completions(name, step, "test", rows, figures))
    metrics = [{"step": step, "correct": value} for step, value in enumerate(solved, 1)]
    summary = {"steps": len(solved), "seconds": 600 * len(solved)}
    return Recorded(folder, Config(), {}, metrics, summary, evaluations)


START = [1, 1, 0, 0]


@pytest.fixture
def cells(tmp_path: Path):
    """Three seeds of one setting, one of another, none of a third."""
    afters = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
    runs = [finished(tmp_path / str(i), START, after, [0.0, 1.0]) for i, after in enumerate(afters)]
    one = finished(tmp_path / "one", START, [1, 1, 1, 1], [0.5, 0.5, 0.5])
    return {"a": {"x": runs, "y": [one]}, "b": {"x": []}}


def test_variance_of_three_seeds_on_four_problems_is_that_by_hand() -> None:
    # Mean squares: seeds 4 (1/16 + 1/16) / 2, problems 3 (1/4 + 1/36 + 1/36 + 1/4) / 3, rest 5/6 / 6.
    found = mean_over(np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], float))
    assert found.value == 0.5
    assert found.variance == pytest.approx((1 / 4 + 5 / 9 - 5 / 36) / 12)
    freedom = (2 / 3) ** 2 / ((1 / 4) ** 2 / 2 + (5 / 9) ** 2 / 3 + (5 / 36) ** 2 / 6)
    assert found.quantile == pytest.approx(t_quantile(freedom)) and 3.0 < found.quantile < 3.1


@pytest.mark.parametrize(
    ("freedom", "tabulated"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (255, 1.969)],
)
def test_quantiles_are_those_of_printed_tables(freedom: int, tabulated: float) -> None:
    assert t_quantile(freedom) == pytest.approx(tabulated, rel=3e-4)


@pytest.mark.parametrize(
    ("freedom", "tabulated"), [(1, 12.706), (4, 2.776), (255, 1.969), (np.inf, 1.959964)]
)
def test_p_is_that_of_the_same_t(freedom: float, tabulated: float) -> None:
    assert float(two_sided_p(tabulated, freedom)) == pytest.approx(0.05, rel=2e-3)
    assert float(two_sided_p(0.0, freedom)) == 1.0


def test_two_seeds_that_differ_prove_little_of_other_seeds() -> None:
    """Of 2 x 256 problems, each alike within a seed: a sign test on problems would say p = 2e-77."""
    change = np.stack([np.full(256, 1.0), np.full(256, 0.0)])
    change[:, 0] = 0.5  # or nothing but seeds would vary
    mean = mean_over(change)
    low, high = mean.gain_interval
    assert low < 0 < high and 0.3 < float(mean.p) < 0.7
    assert mean_over(np.ones((2, 8))).p is None


@pytest.mark.parametrize(
    ("of_seeds", "of_problems"), slow_if([(0.1, 0.3), (0.3, 0.0)], lambda seeds, problems: not problems)
)
def test_ninety_five_of_a_hundred_intervals_hold_the_mean(of_seeds: float, of_problems: float) -> None:
    rng, hits, trials = np.random.default_rng(3), 0, 200
    for _ in range(trials):
        noise = rng.normal(0, 0.4, (5, 40))
        values = rng.normal(0, of_seeds, (5, 1)) + rng.normal(0, of_problems, (1, 40)) + noise
        low, high = mean_over(values).gain_interval
        hits += low <= 0 <= high
    assert 0.925 <= hits / trials <= 0.99


def test_the_table_has_the_figures_of_every_cell(cells) -> None:
    lines = markdown(cells, 3).splitlines()
    first, one, none = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:5])
    head = (
        "| task | setting | runs | before | after | gain | after, of each seed | trained | below start | steps | "
        "seconds |"
    )
    assert lines[0] == head
    assert (
        first[:3] == ["a", "x", "3/3"] and first[3].startswith("0.500 [") and first[4].startswith("0.500 [")
    )
    # Gains of the problems: (0, 0, 1, 0), (0, 0, 0, 0), (0, -1, 0, 0).
    squares = np.array(
        [1 / 4, 2 / 9, 5 / 36]
    )  # of seeds, problems and the rest, with 2, 3 and 6 degrees of freedom
    freedom = (1 / 3) ** 2 / (squares**2 / [2, 3, 6]).sum()
    reach = t_quantile(freedom) * (1 / 3 / 12) ** 0.5
    assert first[5:7] == [f"+0.000 [{-reach:+.3f}, {reach:+.3f}]", "0.750 0.500 0.250"]
    assert first[7:] == ["0.500", "1/3", "2", "1200"]
    low, high = wilson_interval(4, 4)
    assert one[2:5] == ["1/3", one[3], f"1.000 [{low:.3f}, {high:.3f}]"]
    reach = 1.959964 * (1 / 3 / 4) ** 0.5  # gains 0, 0, 1, 1
    assert one[5] == f"+0.500 [{0.5 - reach:+.3f}, +1.000]" and reach > 0.5
    assert one[6:9] == ["1.000", "0.500", "0/1"]
    assert none == ["b", "x", "0/3", *["-"] * 8]
