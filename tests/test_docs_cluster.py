"""Every command of the page on clusters is one that its launcher and the trainer read."""

import re
import shlex
from pathlib import Path

import pytest

from spg_trainer.cli import main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cluster.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="no pages beside the tests")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), flags=re.S) if PAGE.is_file() else []
LINES = [line for block in BLOCKS for line in block.splitlines() if "--env" in line]


def words(line: str) -> list[str]:
    """The words of a command, its variables a number, from its launcher on."""
    found = shlex.split(re.sub(r"\$\w+", "1", line))
    return found[found[0] == "srun" :]


@pytest.mark.parametrize("line", LINES)
def test_launcher_and_trainer_read_each_command(line: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    launcher, *rest = words(line)
    if launcher == "docker":
        ours = rest[rest.index("spg-trainer") + 1 :]
    else:
        if launcher == "torchrun":
            from torch.distributed.run import get_args_parser

            read = get_args_parser().parse_args(rest)
            module, ours = read.module, read.training_script_args
        else:
            from accelerate.commands.launch import launch_command_parser

            read = launch_command_parser().parse_args(rest[1:])
            module, ours = read.module, read.training_script_args
        assert module and read.training_script == "spg_trainer"
    assert main([*ours, "--dry-run"]) == 0
    assert "env: sudoku" in capsys.readouterr().out
