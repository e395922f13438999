"""What the README shows works: its Python blocks run, its commands exist."""

import re
from pathlib import Path

import pytest

from spg_trainer.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


@pytest.fixture
def readme() -> str:
    if not README.is_file():
        pytest.skip("no README beside the tests")
    return README.read_text()


def test_python_blocks_run(readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.S)
    assert len(blocks) >= 3
    for block in blocks:
        block = block.replace(
            "summary = train(config, quiet=True)", "assert config.rollout.temperature == 1.0"
        )
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_every_flag_and_file_it_names_exists(readme: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "@@" not in readme
    known = {"num"}  # accelerate's --num_processes
    known |= {"workers", "all"}  # of python -m verifiers, python -m envs check
    for command in ([], ["eval"], ["sft"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        known |= set(re.findall(r"--([a-z][a-z-]+)", capsys.readouterr().out))
    assert set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", readme)) - known == set()
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link
