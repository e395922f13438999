"""The embedded model: small, in LLaDA's format, weak enough to need RL, strong enough to learn from it."""

import hashlib
import json
import re
from importlib import resources
from pathlib import Path

import pytest

from spg_trainer import evaluate, load_model
from spg_trainer.cli import main

FOLDER = Path(str(resources.files("spg_data").joinpath("models", "tiny-sudoku")))


def test_the_folder_is_small_and_says_what_it_was_made_from() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4_000_000
    card = (FOLDER / "README.md").read_text()
    assert "right=" in card and "careless=" in card and "--seed 0" in card
    assert json.loads((FOLDER / "environment.json").read_text())["preset"] == "tiny"


def test_the_data_page_states_the_checksum_of_the_weights() -> None:
    page = Path(str(resources.files("spg_data").joinpath("README.md"))).read_text()
    assert hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest() in page


def test_greedy_solved_rate_before_training_is_that_of_the_card() -> None:
    found = evaluate(load_model("tiny"), "sudoku")
    assert found.n == 256
    assert 0.03 <= found.correct <= 0.25
    assert found.rewards["format"] >= 0.9
    stated = re.search(r"\| test \| ([0-9.]+) \|", (FOLDER / "README.md").read_text())
    assert stated is not None
    assert found.correct == pytest.approx(
        float(stated[1]), abs=0.012
    )  # another machine may round a tie otherwise


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_main_job_learns(tmp_path: Path) -> None:
    assert main(["--env", "sudoku", "--output-dir", str(tmp_path / "run")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["gain"] >= 0.5
    assert summary["seconds"] <= 600
