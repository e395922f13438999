"""`compare`: what it plans and refuses, and runs that are killed, continued and tabulated."""

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock

from spg_trainer import cli
from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.statistics import mean_over
from spg_trainer.reporting.compare import (
    against,
    as_csv,
    compare,
    figures_of,
    plan_runs,
    read_word,
    rows_of_runs,
)
from spg_trainer.runs.folder import RunFolder
from spg_trainer.settings.configs import CompareCommand, Config
from spg_trainer.settings.resolve import resolve
from tests.common.trainer_cases import ENV, child_environment, steps_of, tiny_folder

SMALL = shlex.split(
    "--max-completion-length 10 --block-length 5 --diffusion-steps 6 --device cpu --eval-problems 8 "
    "--prompts-per-step 4 --num-generations 4 --save-steps 1 --no-report --lr-schedule constant --max-steps"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, from where child processes find the tests' task."""
    monkeypatch.chdir(tmp_path)
    for name, value in child_environment().items():
        monkeypatch.setenv(name, value)
    return tmp_path


def run_here(jobs: dict[Path, tuple[str, ...]], at_once, console, done) -> list[Path]:
    """`run_jobs` in this process, one after the other: to import torch takes ten times as long as these runs."""
    failed = []
    for folder, words in jobs.items():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "run.log").open("a") as log, redirect_stdout(log), redirect_stderr(log):
            failed += [folder] if cli.main([*words, "--output-dir", str(folder)]) else []
        done()
        assert (folder.parent / "compare.csv").is_file(), "a partial table while it runs"
    return failed


@pytest.mark.parametrize(
    ("word", "name", "arguments"),
    [
        ("spg", "spg", {}),
        ("spg:negatives=elbo,num_masks=4", "spg", {"negatives": "elbo", "num_masks": 4}),
        ("./mine.py:Mine", "./mine.py:Mine", {}),
        ("./mine.py:my/Mine-v0:dull=0,3,size=4", "./mine.py:my/Mine-v0", {"dull": "0,3", "size": 4}),
        ("sudoku:source=C:file=1", "sudoku", {"source": "C:file=1"}),
    ],
)
def test_a_word_is_a_name_and_what_differs_from_it(word: str, name: str, arguments: dict) -> None:
    assert read_word("--env", word) == (name, arguments)


def test_runs_are_all_pairs_seed_by_seed_with_their_settings() -> None:
    command = CompareCommand(
        env=("sudoku", "countdown:level=2"),
        algorithms=("spg", "spg:negatives=elbo,temperature=2,gradient_checkpointing=true"),
        model=("tiny", str(tiny_folder())),
        seeds=(2,),
        output_dir="out",
    )
    runs = plan_runs(command, ["--max-steps", "7", "--temperature", "1.2"])
    assert [run.folder.name for run in runs[:4]] == [
        "sudoku-spg-s0",
        "sudoku-spg_negatives=elbo,temperature=2,gradient_checkpointing=True-s0",
        "countdown_level=2-spg-s0",
        "countdown_level=2-spg_negatives=elbo,temperature=2,gradient_checkpointing=True-s0",
    ]
    assert [run.config.seed for run in runs] == [0] * 4 + [1] * 4
    assert [run.config.model.model for run in runs[:4:2]] == ["tiny", str(tiny_folder())]
    last = runs[-1].config
    assert (last.env, last.env_args["level"], last.max_steps) == ("countdown", 2, 7)
    assert (last.algorithm_args["negatives"], last.rollout.temperature) == ("elbo", 2.0), (
        "a row's own value counts"
    )
    assert runs[0].config.rollout.temperature == 1.2
    assert last.model.gradient_checkpointing and not runs[0].config.model.gradient_checkpointing
    for run in runs[:2]:  # what is typed means what was planned
        assert resolve(Config, run.words).config == run.config


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--env sudoku:blank=3", ['no argument "blank"', "blanks"]),
        ("--algorithms spg:negatives=elbow", ["sudoku with spg:negatives=elbow: ", "Did you mean 'elbo'?"]),
        ("--algorithms spg:seed=1", ["--seed: "]),
        ("--algorithms raft:temprature=2", ["raft:temprature=2: No flag", "Did you mean --temperature?"]),
        ("--algorithms raft:psi=2", ["raft:psi=2: ", "psi is a hyper-parameter of wd1, wd1_repro"]),
        ("--env countdown:level=2 -- --env-args level=3", ["level=2 gives a key twice"]),
        ("--algorithms spg:a=1,a=2", ["--algorithms spg:a=1,a=2", "twice"]),
        ("--algorithms spg spg", ["--algorithms", "none twice"]),
        ("--seeds 0", ["--seeds 0: should be a number of seeds, at least 1"]),
        ("--seeds 3 3", ["--seeds 3 3: should be", "different seeds"]),
        ("--seed 2", ["No flag --seed.", "Did you mean --seeds?"]),
        ("--model tiny tiny", ["--model: 2 for 1 tasks"]),
        ("--algorithms", ["--algorithms", "at least one argument"]),
        ("-- --seed=3", ["--seed: "]),
        ("--max-steps 5", ["No flag --max-steps.", "behind ` -- `"]),
        ("-- --max-step 3", ["No flag --max-step.", "--max-steps"]),
    ],
)
def test_a_mistake_is_refused_before_anything_is_trained(capsys, here, line: str, words: list[str]) -> None:
    assert cli.main(["compare", *shlex.split(line)]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert not (here / "runs").exists()


def test_finished_runs_are_tabulated_and_not_run_again(here: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("spg_trainer.reporting.compare.run_jobs", run_here)

    def table(steps: int = 2, seeds: int = 1) -> str:
        settings = ("spg", "spg:num_masks=1,negatives=elbo")
        command = CompareCommand((ENV,), settings, (str(tiny_folder()),), (seeds,), 0, "out")
        returned = [as_csv([row]).splitlines()[1] for row in compare(command, [*SMALL, str(steps)])]
        assert returned == (here / "out" / "compare.csv").read_text().splitlines()[1:] and len(returned) == 2
        return capsys.readouterr().out

    first, logs = table(), [log.read_bytes() for log in sorted(here.glob("out/*/run.log"))]
    assert (here / "out" / "compare.md").read_text() == first and (here / "out" / "curves.svg").is_file()
    assert [line.split(" | ")[:3] for line in first.splitlines()[2:4]] == [
        ["| Letters-v0", "spg", "1/1"],
        ["| Letters-v0", "spg:num_masks=1,negatives=elbo", "1/1"],
    ]
    assert "spg:num_masks=1,negatives=elbo - spg | " in first
    head, *runs = (here / "out" / "compare.csv").read_text().splitlines()
    assert head == "task,setting,seed,before,after,gain,trained,steps,seconds,folder" and len(runs) == 2
    assert runs[0].startswith("Letters-v0,spg,0,") and runs[0].endswith(",Letters-v0-spg-s0")
    assert table() == first
    assert logs == [log.read_bytes() for log in sorted(here.glob("out/*/run.log"))] and len(logs) == 2
    with pytest.raises(ConfigError, match=r"max_steps was 2, now 3.* another --output-dir"):
        table(steps=3)


def test_a_comparison_does_not_refuse_a_run_of_its_own_that_has_begun(
    here: Path, capsys, monkeypatch
) -> None:
    """However soon a run begins, and locks its folder, the comparison takes it for no other's run."""
    begun = []

    def begin(folder: Path, *_: object) -> subprocess.Popen:
        begun.append(RunFolder(folder))
        begun[-1].create(config_yaml="", environment={})
        return subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)

    monkeypatch.setattr("spg_trainer.reporting.jobs.start_process", begin)
    command = CompareCommand((ENV,), ("raft", "spg"), (str(tiny_folder()),), (1,), jobs=2, output_dir="out")
    try:
        assert compare(command, [*SMALL, "1"]) == [], "these runs begin and end, and train nothing"
    finally:
        for run in begun:
            run.release()
    assert [run.path.name for run in begun] == ["Letters-v0-raft-s0", "Letters-v0-spg-s0"]


def test_a_run_that_another_process_trains_is_refused_and_nothing_is_started(here: Path, monkeypatch) -> None:
    started = []
    monkeypatch.setattr("spg_trainer.reporting.jobs.start_process", lambda *words: started.append(words))
    run = RunFolder(Path("out/Letters-v0-spg-s0"))
    run.create(config_yaml="", environment={})
    command = CompareCommand((ENV,), ("raft", "spg"), (str(tiny_folder()),), (1,), jobs=2, output_dir="out")
    try:
        with pytest.raises(
            ConfigError, match=r"Letters-v0 with spg: out.Letters-v0-spg-s0 is being written by"
        ):
            compare(command, [*SMALL, "1"])
    finally:
        run.release()
    assert not started


def test_a_setting_is_compared_with_the_first_by_seed_and_problem() -> None:
    def runs(*solved: str) -> list:
        evaluations = [SimpleNamespace(correct=np.array([*map(float, one)])) for one in solved]
        return [SimpleNamespace(config=Config(seed=i), before_after=[e]) for i, e in enumerate(evaluations)]

    base = runs("00011111", "00001111")
    difference, of_seeds, p = against(base, runs("11101111", "11111011", "00000000"))
    assert difference.startswith("+0.312 ["), "0.25 and 0.375; the third seed has no partner"
    mean = mean_over(np.array([[1, 1, 1, -1, 0, 0, 0, 0], [1, 1, 1, 1, 0, -1, 0, 0]], float))
    low, high = mean.gain_interval
    assert difference.endswith(f"[{low:+.3f}, {high:+.3f}]") and low < 0
    assert of_seeds == "+0.250 +0.375" and p == f"{float(mean.p):.2g}" and float(p) > 0.05
    assert against(base, base) == ["+0.000", "+0.000 +0.000", "-"], "no interval where no problem differs"
    assert against(base, []) == against(base, runs("1")) == ["-"] * 3
    assert against(base, runs("11111111"))[1:] == ["+0.375", "-"], "one seed says nothing of others"


def test_a_run_whose_start_other_code_has_judged_has_no_gain() -> None:
    def run(*solved: list[float]) -> SimpleNamespace:
        evaluations = [SimpleNamespace(correct=np.array(one)) for one in solved]
        summary = {"steps": 4, "seconds": 2.0}
        return SimpleNamespace(
            before_after=evaluations, metrics=[], summary=summary, config=Config(), path=Path("r")
        )

    whole, later = run([0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]), run([1.0, 1.0, 1.0, 0.0])
    assert figures_of([whole])[0].startswith("0.250 [") and figures_of([whole])[5] == "0/1"
    before, after, gain, of_seeds, _, below, *_ = figures_of([whole, later])
    assert (before, gain, below) == ("-", "-", "-")
    same = run([1.0, 0.0], [1.0, 0.0])
    assert figures_of([same, same])[2] == "+0.000", "no interval where no problem differs"
    assert after.startswith("0.750 [") and of_seeds == "0.750 0.750"
    lines = as_csv(rows_of_runs({"task": {"spg": [whole, later]}})).splitlines()
    assert ",0.25,0.75,0.5,," in lines[1] and ",,0.75,,," in lines[2]


def test_several_numbers_are_the_seeds_themselves() -> None:
    for seeds, expected in (((2,), [0, 1]), ((7, 3, 4), [7, 3, 4])):
        runs = plan_runs(CompareCommand(env=("sudoku",), algorithms=("spg",), seeds=seeds, output_dir="out"))
        assert [run.config.seed for run in runs] == expected


BROKEN = """
from dataclasses import dataclass
from spg_trainer.algorithms.spg import SPG

@dataclass(frozen=True)
class Broken(SPG):
    def loss(self, logps, masks, batch):
        if "masks_at_once" in batch:  # and not on the rows on which a run tries a loss before it opens its model
            raise RuntimeError("no loss today")
        return super().loss(logps, masks, batch)
"""


def test_a_failed_run_is_told_and_does_not_stop_the_others(here: Path, capfd, monkeypatch) -> None:
    ends = BROKEN.replace("RuntimeError", "TrainingError")  # a command, and not this process
    (here / "broken.py").write_text(f"from spg_trainer.errors import TrainingError\n{ends}")
    monkeypatch.setattr("spg_trainer.reporting.compare.run_jobs", run_here)
    words = ["compare", "--env", ENV, "--model", str(tiny_folder()), "--seeds", "1", "--output-dir", "out"]
    assert cli.main([*words, "--algorithms", "./broken.py:Broken", "spg", "--", *SMALL, "1"]) == 1
    out, err = capfd.readouterr()
    assert "1 of 2 runs failed" in err
    assert "| Letters-v0 | Broken | 0/1 | - |" in out and "| Letters-v0 | spg | 1/1 |" in out


@pytest.mark.slow
def test_a_killed_comparison_goes_on_and_a_failed_run_does_not_stop_the_others(
    here: Path, capfd, monkeypatch
) -> None:
    """kill -9 on the parent ends its children; what they did is continued, a failure is told and sets the status."""
    (here / "broken.py").write_text(BROKEN)
    words = ["compare", "--env", ENV, "--model", str(tiny_folder()), "--seeds", "1", "--output-dir", "out"]
    words += ["--algorithms", "./broken.py:Broken", "spg", "--jobs", "1", "--", *SMALL, "30"]
    process = subprocess.Popen([sys.executable, "-m", "spg_trainer", *words], start_new_session=True)
    folder = Path("out/Letters-v0-spg-s0")
    metrics, end = folder / "metrics.jsonl", time.monotonic() + 200
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None and time.monotonic() < end, capfd.readouterr().err
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    FileLock(folder / ".lock", timeout=120).acquire().lock.release()  # the run has ended too
    err = capfd.readouterr().err
    assert "Letters-v0-Broken-s0 failed (1)" in err and "RuntimeError: no loss today" in err
    monkeypatch.setattr(
        "spg_trainer.reporting.compare.run_jobs",
        lambda jobs, *others, **named: [*list(jobs)[:1], *run_here({folder: jobs[folder]}, *others, **named)],
    )
    assert cli.main(words) == 1
    out, err = capfd.readouterr()
    assert "1 of 2 runs failed" in err
    assert "| Letters-v0 | Broken | 0/1 | - |" in out and "| Letters-v0 | spg | 1/1 |" in out
    assert steps_of(folder) == list(range(1, 31))
    assert "Continuing" in (folder / "run.log").read_text()
    assert cli.main(["eval", "--model", str(folder), "--num-problems", "4", "--device", "cpu"]) == 0


def test_settings_that_differ_between_columns_are_shown_before_and_after(here: Path, capsys) -> None:
    (here / "mine.py").write_text("from spg_trainer.algorithms.spg import SPG\nclass Mine(SPG):\n    pass\n")
    words = "compare --env sudoku --algorithms spg ./mine.py:Mine raft:temperature=0.7 --seeds 1 --dry-run".split()
    assert cli.main(words) == 0
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()
    ]
    assert lines[0] == ["sudoku: settings that differ", "spg", "Mine", "raft:temperature=0.7"]
    found = {row[0]: row[1:] for row in lines[2:]}
    assert found["rollout.temperature"][2] == "0.7" != found["rollout.temperature"][0]
    assert all(spg == mine for spg, mine, _ in found.values())
    assert not {"algorithm", "seed"} & found.keys() and not (here / "runs").exists()


def test_a_block_length_that_a_run_has_yet_to_choose_is_shown_as_open(here: Path, capsys) -> None:
    words = "compare --env sudoku --algorithms mle mle:block_length=4 --seeds 1 --dry-run -- --source demonstrations"
    assert cli.main(words.split()) == 0
    found = {
        line.split("|")[1].strip(): line.split("|")[2:-1] for line in capsys.readouterr().out.splitlines()
    }
    assert [cell.strip() for cell in found["algorithm_args.block_length"]] == ["0", "4"]
    assert [cell.strip() for cell in found["rollout.block_length"]] == ["0", "4"]
