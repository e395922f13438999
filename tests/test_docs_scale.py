"""The page on scale and its files for clusters: launcher and trainer read each command, and the files are YAML."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from spg_trainer.cli import main
from tests.common.trainer_cases import child_environment, rows

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="no pages beside the tests")
FILES = PAGE.parent / "launch"  # of what the page shows and links, one file for each launcher of a cluster
TEXT = PAGE.read_text() if PAGE.is_file() else ""
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.S)
BLOCKS += [file.read_text() for file in sorted(FILES.glob("*"))]
LINES = [line.strip() for block in BLOCKS for line in block.splitlines() if "--env" in line]


def words(line: str) -> list[str]:
    """The words of a command, its variables a number, from its launcher on."""
    found = shlex.split(re.sub(r"\$\w+", "1", line))
    if found[0] == "srun":
        found = found[next(i for i, word in enumerate(found) if i and not word.startswith("--")) :]
    return found


@pytest.mark.parametrize("line", LINES)
def test_launcher_and_trainer_read_each_command(line: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    launcher, *rest = words(line)
    if launcher == "python":
        assert rest[0] == "ray_train.py" and int(rest[1])
        ours = rest[2:]
    elif launcher == "docker":
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


def test_files_say_what_their_engines_need() -> None:
    """Appends in a bucket, a Python of ours, the cores of a task, names of starting pods, scripts that bash reads."""
    service, _ = yaml.safe_load_all((FILES / "kubernetes.yaml").read_text())
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
    task, slurm = yaml.safe_load((FILES / "skypilot.yaml").read_text()), (FILES / "slurm.sh").read_text()
    assert task["file_mounts"]["/runs"]["mode"] == "MOUNT_CACHED"
    assert "--python 3.12" in task["setup"] and "activate" in task["setup"] and "activate" in task["run"]
    assert 'srun --cpus-per-task="$SLURM_CPUS_PER_TASK"' in slurm and "source .venv/bin/activate" in slurm
    assert not re.search("^export HF_HUB_OFFLINE", slurm, flags=re.M), "nothing has downloaded the model yet"
    for script in (slurm, task["setup"], task["run"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert TEXT.count("hf download") == 2


@pytest.mark.slow
def test_ray_starts_the_processes_of_a_run(tmp_path) -> None:
    """Two workers on a CPU make the run that one process makes."""
    pytest.importorskip("ray.train")
    flags = "--env sudoku --device cpu --max-steps 2 --eval-problems 8 --prompts-per-step 4 --eval-steps 0"
    settings = child_environment(RAY_STORAGE=str(tmp_path / "store"))
    for name, start in {"ray": [str(FILES / "ray_train.py"), "2"], "one": ["-m", "spg_trainer"]}.items():
        line = [sys.executable, *start, *flags.split(), "--output-dir", str(tmp_path / name)]
        subprocess.run(line, env=settings, check=True, cwd=tmp_path, capture_output=True, timeout=200)
    assert json.loads((tmp_path / "ray/summary.json").read_text())["steps"] == 2
    for found, row in zip(*(rows(tmp_path / name / "metrics.jsonl") for name in ("ray", "one")), strict=True):
        assert found == pytest.approx(row, rel=1e-4, abs=1e-5)


MODELS = [
    ("LLaDA-8B, all weights", "GSAI-ML/LLaDA-8B-Instruct", ""),
    ("LLaDA-8B, adapters", "GSAI-ML/LLaDA-8B-Instruct", "--lora-r 64"),
    ("LLaDA2.0-mini (16 B), all weights", "inclusionAI/LLaDA2.0-mini", ""),
    ("SDAR-30B-A3B, all weights", "JetLM/SDAR-30B-A3B-Chat", "--attention-block 4"),
    ("SDAR-30B-A3B, adapters", "JetLM/SDAR-30B-A3B-Chat", "--attention-block 4 --lora-r 64"),
    ("LLaDA2.0-flash (103 B), adapters", "inclusionAI/LLaDA2.0-flash", "--lora-r 64"),
]


def what_it_takes(capsys, model: str, flags: str, processes: int, shard: str) -> tuple[float, bool]:
    """GiB of a process in a step with six completions for each process, and whether it fits an H100."""
    words = f"--env countdown --model {model} --lora-r 0 {flags} --gradient-checkpointing --per-device-batch-size 2 "
    words += "--max-completion-length 256 --diffusion-steps 128 --cache none --num-generations 6 "
    words += f"--prompts-per-step {processes} --shard {shard} --dry-run --gpu H100 --processes {processes}"
    assert main(shlex.split(words)) == 0
    said = capsys.readouterr().out
    return float(re.findall(r"it takes ([\d.]+) GiB", said)[0]), "the run fits" in said


def test_the_table_says_which_mode_a_dry_run_would_choose(capsys, at_length) -> None:
    """The mode that sends least over the links of those that fit, with its memory; by default of every other model."""
    for name, model, flags in MODELS if at_length else MODELS[::2]:
        cells = [name]
        for processes in (1, 8, 16, 64):
            cell = "-"
            for shard in ("none", *(("phase", "layer") if processes > 1 else ())):
                taken, fits = what_it_takes(capsys, model, flags, processes, shard)
                if fits:
                    cell = f"`{shard}`: {taken:.0f}"
                    break
            cells.append(cell)
        assert f"| {' | '.join(cells)} |" in TEXT, cells


def test_every_launcher_has_a_command_and_its_files_are_yaml() -> None:
    assert len(LINES) == 8
    service, job = yaml.safe_load_all((FILES / "kubernetes.yaml").read_text())
    task = yaml.safe_load((FILES / "skypilot.yaml").read_text())
    assert service["metadata"] == job["metadata"] and task["run"].count("torchrun") == 1
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == task["num_nodes"] == 2
