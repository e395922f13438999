"""The page on scale: its commands are those that launcher and trainer read, its tables those that are computed."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from spg_trainer.algorithms import build
from spg_trainer.cli import main
from spg_trainer.models import LLaDAConfig
from spg_trainer.settings.fields import Config
from spg_trainer.settings.resolve import defaults
from spg_trainer.training.roofline import Estimate, estimate

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="no pages beside the tests")
TEXT = PAGE.read_text() if PAGE.is_file() else ""
BLOCKS = re.findall(r"```(?:bash|yaml)\n(.*?)```", TEXT, flags=re.S)
LINES = [line.strip() for block in BLOCKS for line in block.splitlines() if "--env" in line]
FITS = [  # trained, GPUs, flags
    ("LoRA", 1, ""),
    ("LoRA", 1, "--gradient-checkpointing"),
    ("LoRA", 1, "--cache dual"),
    ("LoRA", 8, ""),
    ("LoRA", 8, "--shard"),
    ("all", 1, "--gradient-checkpointing"),
    ("all", 2, "--shard --gradient-checkpointing"),
    ("all", 8, "--shard --gradient-checkpointing"),
    ("all", 8, "--shard --per-device-batch-size 2"),
]
SCALES = [("LoRA", ""), ("LoRA", "--cache dual"), ("all", "--shard --gradient-checkpointing --cache dual")]


def of_8b(trained: str, gpus: int, flags: str, prompts: int = 16) -> Estimate:
    """LLaDA-8B with the recipe and a row's flags."""
    base = defaults(Config, env="countdown", model="GSAI-ML/LLaDA-8B-Instruct")
    given = flags.split()
    size = int(given[given.index("--per-device-batch-size") + 1]) if "--per-device-batch-size" in given else 6
    config = replace(
        base,
        model=replace(
            base.model,
            lora_r=128 if trained == "LoRA" else 0,
            gradient_checkpointing="--gradient-checkpointing" in given,
        ),
        rollout=replace(base.rollout, cache="dual" if "--cache" in given else "none"),
        batch=replace(base.batch, prompts_per_step=prompts, per_device_batch_size=size),
    )
    shard = "--shard" in given
    dtype = "bfloat16" if shard or trained == "LoRA" else "float32"
    algorithm = build("spg", config.hyper_parameters)
    return estimate(LLaDAConfig(), config, algorithm, processes=gpus, shard=shard, dtype=dtype)


def fits(trained: str, gpus: int, flags: str) -> str:
    """A row of the table of memory."""
    e = of_8b(trained, gpus, flags)
    peak = max(e.update_peak, e.rollout_peak)
    room = ["yes" if peak + 2 * 2**30 <= size * 1e9 else "no" for size in (80, 141)]
    gib = [f"{bytes / 2**30:.1f}" for bytes in (e.update_peak, e.rollout_peak)]
    shown = " ".join([f"`{flags}`"] if flags else ["the recipe's"])
    return " | ".join([f"| {trained}", str(gpus), shown, *gib, *room]) + " |"


def scales(trained: str, flags: str) -> list[str]:
    """The rows of the table of seconds."""
    rows, first = [], 0.0
    for gpus in (1, 8, 64):
        if gpus == 1 and "--shard" in flags:
            continue
        seconds = of_8b(trained, gpus, flags, prompts=64).seconds
        whole = sum(seconds.values())
        first = first or gpus * whole
        parts = [f"{seconds[name]:.1f}" for name in ("rollout", "update", "links")]
        shown = f"`{flags}`" if flags else "the recipe's"
        rows.append(f"| {trained} | {shown} | {gpus} | {' | '.join(parts)} | {first / whole / gpus:.2f} |")
    return rows


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


def test_every_launcher_has_a_command_and_its_files_are_yaml() -> None:
    assert len(LINES) == 7
    files = [list(yaml.safe_load_all(block)) for block in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.S)]
    (service, job), (task,) = files
    assert service["metadata"] == job["metadata"] and task["run"].count("torchrun") == 1
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == task["num_nodes"] == 2


@pytest.mark.parametrize("row", FITS)
def test_what_fits_where_is_what_is_computed(row: tuple[str, int, str]) -> None:
    assert fits(*row) in TEXT.splitlines()


@pytest.mark.parametrize("rows", SCALES)
def test_the_seconds_of_many_gpus_are_those_that_are_computed(rows: tuple[str, str]) -> None:
    assert set(scales(*rows)) <= set(TEXT.splitlines())
