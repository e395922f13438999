"""What the README and the page on runs show works: Python blocks run, flags exist."""

import re
from pathlib import Path

import pytest

from spg_trainer.cli import main
from spg_trainer.models.resolve import models_folder

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/runs.md")


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> Path:
    path = ROOT / request.param
    if not path.is_file():
        pytest.skip("no pages beside the tests")
    return path


def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S)
    assert blocks
    for block in blocks:
        block = block.replace("summary = train(config, quiet=True)", "assert config.algorithm == 'spg'")
        block = block.replace("runs/NAME/model", str(models_folder() / "tiny-sudoku"))
        exec(compile(block, page.name, "exec"), {"__name__": "readme"})


def test_every_flag_exists(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text()
    # Of torchrun, accelerate, tensorboard, trackio, lm-eval, `verifiers`, `envs check` and the gauntlet.
    others = "nproc-per-node num multi cpu logdir project tasks apply batch workers preset all half"
    flags = set(others.split())
    for command in ([], ["eval"], ["sft"], ["compare"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        flags |= set(re.findall(r"--([a-z][a-z-]+)", capsys.readouterr().out))
    assert set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text)) - flags == set()
