"""docs/add_a_task.md works as it is written: its own commands, one after the other, with fewer steps."""

import json
import re
import shlex
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from spg_trainer.sft import command as supervised
from spg_trainer.sft import loop as fitting

DOCS = Path(__file__).resolve().parents[1] / "docs"
FEWER = {"--steps": "4", "--max-steps": "1", "--num-problems": "8"}


def commands(text: str) -> list[list[str]]:
    """The command lines of the bash blocks, as words."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.S | re.M)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.mark.skipif(not DOCS.is_dir(), reason="no docs beside the tests")
def test_its_commands_run_in_order(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for module, name in ((fitting, "VALIDATION"), (supervised, "EVAL_PROBLEMS"), (supervised, "GROUPS")):
        monkeypatch.setattr(module, name, 8)  # what sft measures takes longer than these few steps
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    lines = commands((DOCS / "add_a_task.md").read_text())
    assert {line[2] for line in lines} == {"envs", "spg_trainer"}
    for line in lines:
        assert line[:2] == ["python", "-m"]
        short = [FEWER.get(before, word) for before, word in pairwise(line[2:])]
        if line[2] == "spg_trainer" and line[3].startswith("--"):
            short += ["--eval-problems", "8", "--prompts-per-step", "2"]
        if line[3] == "sft":
            short += ["--batch-size", "8", *([] if "--steps" in line else ["--steps", "2"])]
        assert import_module(f"{line[2]}.__main__").main(short) == 0, line
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary and Path("base/environment.json").is_file()
    assert "mytask" in capsys.readouterr().out
