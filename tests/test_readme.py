"""What the README and the page on runs show works: Python blocks run, flags and links exist."""

import re
from pathlib import Path

import pytest

from spg_trainer.cli import main

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
        block = block.replace(
            "summary = train(config, quiet=True)", "assert config.rollout.temperature == 1.5"
        )
        exec(compile(block, page.name, "exec"), {"__name__": "readme"})


def test_every_flag_and_link_exists(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text()
    known = {"nproc-per-node"}  # of torchrun
    known |= {"num", "multi", "cpu"}  # accelerate's --num_processes, --multi_gpu, --cpu
    known |= {"logdir", "project"}  # of tensorboard and trackio
    known |= {"tasks", "apply", "batch"}  # lm-eval's --apply_chat_template, --batch_size
    known |= {
        "workers",
        "preset",
        "all",
        "half",
    }  # of python -m verifiers, python -m envs check, the gauntlet
    for command in ([], ["eval"], ["sft"], ["compare"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        known |= set(re.findall(r"--([a-z][a-z-]+)", capsys.readouterr().out))
    assert set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text)) - known == set()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link
