"""Help at once and without heavy imports, settings that can be read back, and how a command ends."""

import re
import shlex
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import yaml

from spg_trainer import cli
from spg_trainer.algorithms import build
from spg_trainer.config import Config, EvalCommand, SftCommand, arithmetic
from spg_trainer.settings import defaults

COMMANDS = {"": Config, "eval": EvalCommand, "sft": SftCommand}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, in a single process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return tmp_path


# settings that can be read back


def dry(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The settings and the line of arithmetic that --dry-run prints."""
    assert cli.main(shlex.split(f"{line} --dry-run")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    *settings, numbers = out.rstrip("\n").split("\n")
    assert numbers.startswith("# ")
    return "\n".join(settings), numbers.removeprefix("# ")


LINES = [
    "",
    "--model some/where --seed 7 --lora-r 8 --learning-rate 1e-5",
    "--env-args blanks=4-11 --algorithm-args num_masks=3 negatives=elbo --reward-weights cells=0.25 correct=1",
    "--algorithm spg_repro --max-minutes 2.5 --eval-steps=5 --block-length 10 --output-dir out",
]


@pytest.mark.parametrize("line", LINES)
def test_what_a_dry_run_prints_reads_back_to_the_same_settings(here, capsys, line: str) -> None:
    settings, numbers = dry(line, capsys)
    (here / "again.yaml").write_text(settings)
    config = cli.parse(Config, shlex.split(line), "")
    again = cli.parse(Config, ["--config", "again.yaml"], "")
    assert again == replace(config, config="again.yaml")
    assert numbers == arithmetic(config, build(config.algorithm, config.hyper_parameters).num_masks)
    assert not (here / "out").exists() and not (here / "runs").exists()


def test_the_arithmetic_of_a_step_is_spelled_out(here, capsys) -> None:
    _, numbers = dry(
        "--prompts-per-step 6 --num-generations 4 --max-completion-length 64 --block-length 16 --diffusion-steps 32 "
        "--num-iterations 2 --algorithm-args num_masks=3 --per-device-batch-size 10 --max-steps 9",
        capsys,
    )
    assert numbers == (
        "6 prompts x 4 generations = 24 completions a step; 64 tokens in 4 blocks of 16, 32 denoising steps; "
        "2 updates a step, 3 masks a completion, micro-batches of up to 3 completions; 9 steps."
    )


def test_pairs_merge_over_the_preset_key_by_key(here, capsys) -> None:
    preset = defaults(Config).algorithm_args
    settings = yaml.safe_load(dry("--algorithm-args num_masks=5 --max-steps=9", capsys)[0])
    assert settings["algorithm_args"] == {**preset, "num_masks": 5}
    assert settings["max_steps"] == 9 and settings["dry_run"] is False


# help


def leaves(settings: object) -> list[str]:
    """The name of every setting, however deeply it is nested."""
    found = []
    for f in fields(settings):
        value = getattr(settings, f.name)
        found += leaves(value) if is_dataclass(value) else [f.name]
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_flag_names_are_unique_and_all_in_the_help(capsys, command: str) -> None:
    names = leaves(COMMANDS[command]())
    assert len(names) == len(set(names))
    with pytest.raises(SystemExit) as end:
        cli.main([*command.split(), "--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    shown = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", re.sub(r"`[^`]*`", "", text)))
    assert {name.replace("_", "-") for name in names} <= shown
    assert "default: " in text
    if command == "":
        assert "Other commands: eval" in text and "sft" in text and "model options" in text


HELP = """
import sys
from spg_trainer.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code
heavy = {"torch", "transformers", "numba", "sympy", "datasets", "gymnasium", "accelerate", "peft", "pandas"}
found = sorted(heavy & sys.modules.keys())
sys.exit(f"imported for help: {found}" if found else 0)
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(tmp_path: Path, command: str) -> None:
    line = [sys.executable, "-c", HELP, *command.split(), "--help"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m spg_trainer{command and ' ' + command} [-h]" in done.stdout


def test_a_mistake_typed_in_a_shell_ends_with_status_2(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "spg_trainer", "--num-generation", "1"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: No flag --num-generation.") and done.stderr.count("\n") == 1


def test_a_stop_by_hand_says_how_to_go_on(here, capsys, monkeypatch) -> None:
    def stop(config: Config) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_train", stop)
    assert cli.main([]) == 130
    assert "--resume" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(here, monkeypatch) -> None:
    def fail(config: Config) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(cli, "run_train", fail)
    with pytest.raises(KeyError, match="a bug"):
        cli.main([])
