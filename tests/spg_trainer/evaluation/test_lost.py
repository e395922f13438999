"""What a run unlearned is told where it is more than chance, in its last line and in its report's headline."""

from dataclasses import replace

import pytest

from spg_trainer.evaluation.statistics import lost_components
from spg_trainer.settings.configs import Config
from spg_trainer.training.records import closing_lines


def rows(*values, **more):
    """Rows of an evaluation, with these values of `format`."""
    return [{"rewards": {"correct": 0.0, "format": value, **more}} for value in values]


@pytest.mark.parametrize(
    "before, after, lost",
    [
        ([1.0] * 64, [0.0] * 64, {"format": (1.0, 0.0)}),
        ([1.0] * 64, [1.0] * 56 + [0.0] * 8, {"format": (1.0, 0.875)}),
        ([1.0] * 64, [1.0] * 57 + [0.0] * 7, {}),  # 7 of 7: p = 1/128
        ([1.0] * 500, [1.0] * 480 + [0.0] * 20, {}),  # a fall of .04
        ([0.5, 0.75] * 32, [0.4, 0.65] * 32, {"format": (0.625, 0.525)}),
        ([1.0, 0.0] * 32, [0.0, 1.0] * 32, {}),
        ([0.0] * 64, [1.0] * 64, {}),
    ],
)
def test_a_component_is_lost_where_its_fall_is_more_than_chance(before, after, lost):
    found = lost_components(rows(*before, cells=0.5), rows(*after, cells=0.5))
    assert {name: pytest.approx(values) for name, values in found.items()} == lost


def test_components_of_a_mixture_are_those_of_their_own_rows():
    one, other = rows(*[1.0] * 32), [{"rewards": {"correct": 1.0, "length": 3.0}}] * 32
    fallen = [{"rewards": {"correct": 0.0, "format": 0.0}}] * 32
    assert lost_components(one + other, fallen + other) == {"format": (1.0, 0.0)}
    assert lost_components(one + other, one + other) == {}


def test_the_last_line_of_a_run_names_what_it_lost_and_where_help_stands(tmp_path):
    figures = {
        "step": 3, "correct": 0.1, "low": 0.0, "high": 0.2, "n": 8, "follows": {}, "settings": {"split": "test"},
    }  # fmt: skip
    summary = {
        "env": "sudoku", "steps": 3, "max_steps": 3, "seconds": 1.0, "ended_by": "max_steps", "gain": 0.5,
        "eval_before": figures, "eval_after": figures, "validation": None, "solved_sampled": 0.5,
        "model": str(tmp_path / "model"), "lost": {"format": (1.0, 0.25)}, "worse": None, "kept_step": 3,
    }  # fmt: skip
    config = replace(Config(), env="sudoku")
    last = closing_lines(summary, config)[-1]
    assert "format fell from 1.00 to 0.25" in last and last.endswith(
        '; the page "My run learned nothing" says what helps.'
    )
    assert "--reward-weights" not in last  # it may be paid already, or be the only reward
    assert "lost" not in closing_lines(summary | {"lost": {}}, config)[-1]
