"""`python -m spg_trainer.reporting.figures` draws what a run folder holds."""

import json

import numpy as np
import pytest
from matplotlib.axes import Axes

from spg_trainer.reporting.figures import main
from tests.common.report_cases import write_run


@pytest.mark.parametrize("noted", [True, False])
def test_the_curve_marks_the_evaluation_of_the_model_at_its_step(tmp_path, monkeypatch, noted):
    run, drawn = write_run(tmp_path / "run", steps=4), []
    after = run / "eval" / "after.json"
    figures = json.loads(after.read_text()) | {"step": 2}
    after.write_text(
        json.dumps({k: v for k, v in figures.items() if noted or k != "step"})
    )  # older runs do not say
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axes, *a, **k: drawn.append(a[:2]) or plot(axes, *a, **k))
    main(["curve", str(run), "-o", str(tmp_path / "curve.svg")])
    assert "sudoku, spg, seed 0" in (tmp_path / "curve.svg").read_text()
    assert [x for x, y in drawn if np.ndim(y) == 0 and y == figures["correct"]] == [2]


def test_runs_of_one_seed_are_told_apart(tmp_path):
    runs = [str(write_run(tmp_path / name)) for name in ("a", "b")]
    main(["curve", *runs, "-o", str(tmp_path / "curve.svg")])
    drawn = (tmp_path / "curve.svg").read_text()
    assert "sudoku, spg, seed 0, a" in drawn and "sudoku, spg, seed 0, b" in drawn


def test_the_board_is_that_of_before_and_after(tmp_path):
    main(["board", str(write_run(tmp_path / "run")), "-o", str(tmp_path / "board.svg")])
    board = (tmp_path / "board.svg").read_text().replace("&#160;", " ")
    assert all(word in board for word in ("before", "after", "right")) and "font-face" not in board
