"""What the pages show works: Python blocks run, flags exist, commands are read, every option has its line."""

import json
import re
import shlex
from dataclasses import fields
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from spg_trainer.algorithms import ALGORITHMS, get
from spg_trainer.cli import main
from spg_trainer.models.resolve import models_folder
from spg_trainer.sft import command as supervised
from spg_trainer.sft import loop as fitting

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no pages beside the tests")
FEWER = {"--steps": "4", "--max-steps": "1", "--num-problems": "8"}
shown_code = pytest.mark.parametrize("page", ["README.md", "docs/runs.md"])


def commands(page: str) -> list[str]:
    """The lines of a page's bash blocks."""
    text = (DOCS / page).read_text() if DOCS.is_dir() else ""
    return [
        line
        for block in re.findall(r"^```bash\n(.*?)^```", text, flags=re.S | re.M)
        for line in block.splitlines()
    ]


@shown_code
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S)
    assert blocks
    for block in blocks:
        block = block.replace("summary = train(config, quiet=True)", "assert config.algorithm == 'spg'")
        block = block.replace("runs/NAME/model", str(models_folder() / "tiny-sudoku"))
        exec(compile(block, page, "exec"), {"__name__": "readme"})


@shown_code
def test_every_flag_exists(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / page).read_text()
    # Of torchrun, accelerate, tensorboard, trackio, lm-eval, `verifiers`, `envs check` and the gauntlet.
    others = "nproc-per-node num multi cpu logdir project tasks apply batch workers preset all half"
    flags = set(others.split())
    for command in ([], ["eval"], ["sft"], ["compare"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        flags |= set(re.findall(r"--([a-z][a-z-]+)", capsys.readouterr().out))
    assert set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text)) - flags == set()


def test_the_commands_that_add_a_task_run_in_order(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for module, name in ((fitting, "VALIDATION"), (supervised, "EVAL_PROBLEMS"), (supervised, "GROUPS")):
        monkeypatch.setattr(module, name, 8)  # what sft measures takes longer than these few steps
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    lines = [*map(shlex.split, commands("add_a_task.md"))]
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


@pytest.mark.parametrize("line", [line for line in commands("cluster.md") if "--env" in line])
def test_launcher_and_trainer_read_each_command_for_clusters(
    line: str, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    found = shlex.split(re.sub(r"\$\w+", "1", line))  # variables are a number
    launcher, *rest = found[found[0] == "srun" :]
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


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if not name.endswith("_repro")])
def test_every_algorithm_has_a_page_with_all_its_options(name: str) -> None:
    text = (DOCS / "algorithms" / f"{name}.md").read_text()
    assert f"`--algorithm {name}`" in text
    assert {field.name for field in fields(get(name))} <= set(re.findall(r"`(\w+)", text))
