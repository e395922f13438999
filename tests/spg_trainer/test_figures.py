"""`python -m spg_trainer.figures` draws what a run folder holds."""

import json

import envs
from spg_trainer.figures import main


def test_curve_and_board_are_drawn_from_the_run_folder(tmp_path):
    env = envs.make("sudoku", split="test")
    right, low = env.demonstration(env.problem(0)), {"correct": 0.5, "low": 0.4, "high": 0.6}
    files = {
        "summary.json": {"env": "sudoku", "algorithm": "spg", "seed": 7},
        "environment.json": {"env": "sudoku", "env_args": {}},
        "metrics.jsonl": {"step": 1, "correct": 0.5},
        "eval/before.json": low,
        "eval/after.json": low,
        "eval/before.jsonl": {"index": 0, "correct": False, "completion": "<answer>1111</answer>"},
        "eval/after.jsonl": {"index": 0, "correct": True, "completion": right},
    }
    (tmp_path / "eval").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content) + "\n")
    for what in ("curve", "board"):
        main([what, str(tmp_path), "-o", str(tmp_path / f"{what}.svg")])
    assert "<svg" in (tmp_path / "curve.svg").read_text()
    board = (tmp_path / "board.svg").read_text().replace("&#160;", " ")
    assert all(word in board for word in ("before", "after", "right")) and "font-face" not in board
