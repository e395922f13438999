"""The README is short, and its table, figures and names are those of the code."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from envs import __version__ as version_of_envs
from spg_trainer import __version__
from spg_trainer.algorithms import ALGORITHMS
from spg_trainer.cli import main
from spg_trainer.training.dry_run import show
from spg_trainer.training.plan import settle
from verifiers import __version__ as version_of_verifiers

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="no README beside the tests")
TEXT = (ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").is_file() else ""


def test_it_has_at_most_120_lines() -> None:
    assert TEXT.count("\n") <= 120


def test_it_names_every_algorithm() -> None:
    named = re.search(r"`--algorithm` takes ([\w, \n]+?) \(", TEXT)[1]
    published = {name for name in ALGORITHMS if not name.endswith("_repro")}
    assert set(re.split(r"[, \n]+|\bor\b", named)) - {""} == published
    assert f"| {len(published)} |" in TEXT  # in the table of neighbours


def test_the_version_is_the_same_everywhere() -> None:
    badge, citation = (ROOT / path for path in ("docs/images/badges.svg", "CITATION.cff"))
    assert version_of_envs == version_of_verifiers == __version__
    assert f">{__version__}</text>" in badge.read_text() and f"version {__version__}]" in TEXT
    assert f"\nversion: {__version__}\n" in citation.read_text()
    assert (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1].startswith(f"{__version__} (")


def test_the_command_for_an_8b_model_prints_what_it_says() -> None:
    line = re.search(r"^python -m spg_trainer (.*LLaDA-8B.*--gpu H100)$", TEXT, flags=re.M)[1]
    printed = show(settle(shlex.split(line)))
    memory = re.search(r"the run fits: it takes ([0-9.]+) GiB", printed)[1]
    hours = re.search(r"at least ([0-9.]+) hours", printed)[1]
    said = re.search(r"\((\d+) of 80 GB, some (\d+) hours\)", TEXT)
    assert round(float(memory)) == int(said[1]) and round(float(hours), -1) == int(said[2])


def test_its_figures_are_those_of_the_pages_that_measured_them() -> None:
    pages = ROOT / "docs" / "experiments"
    ends = re.search(r"seeds 0, 1 and 2 end at ([\d., and]+) of", (pages / "results.md").read_text())
    rates = [float(rate) for rate in re.findall(r"\d\.\d+", ends[1])]
    mean = re.search(r"256 held-out puzzles to (\d\.\d+) \(mean of \[three\s+seeds\]", TEXT)[1]
    assert len(rates) == 3 and mean == f"{sum(rates) / 3:.3f}"
    verdicts = (pages / "verdicts.md").read_text()
    row = re.search(r"^\| `math500` \| [\d,]+ -> [\d,]+ \((\d+)x\)", verdicts, flags=re.M)
    alone = re.search(r"are judged (\d+) to (\d+) times as fast as by math-verify", verdicts)
    said = re.search(r"`math500` is (\d+) times as fast.*?, and (\d+) to (\d+) times", TEXT, flags=re.S)
    assert said.groups() == (row[1], *alone.groups())


@pytest.mark.slow
def test_the_first_command_learns_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = re.search(
        r"^sudoku: .*: ([\d.]+) -> [\d.]+ \[([\d.]+), ([\d.]+)\] at step 40 of 40", TEXT, flags=re.M
    )
    before, low, high = (float(figure) for figure in said.groups())
    assert main("--env sudoku --output-dir run".split()) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert round(summary["eval_before"]["correct"], 3) == before
    assert low <= summary["eval_after"]["correct"] <= high


@pytest.mark.slow
def test_the_table_of_models_is_what_the_dry_run_says() -> None:
    spec = importlib.util.spec_from_file_location("model_table", ROOT / "docs" / "model_table.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert f"<!-- table: models -->\n{script.table()}\n<!-- end -->" in TEXT, (
        "run `python docs/model_table.py`"
    )
