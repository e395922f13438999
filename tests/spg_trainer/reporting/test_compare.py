"""`compare`: what it plans and refuses, and runs that are killed, continued and tabulated."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from spg_trainer import cli
from spg_trainer.errors import ConfigError
from spg_trainer.reporting.compare import CHOOSING, compare, plan, read_word
from spg_trainer.reporting.jobs import Job
from spg_trainer.settings.fields import CompareCommand, Config
from spg_trainer.settings.sources import to_yaml
from tests.common.trainer_cases import ENV, child_environment, rows, steps_of, tiny_folder

SMALL = shlex.split(
    "--max-completion-length 10 --block-length 5 --diffusion-steps 6 --device cpu --eval-problems 8 "
    "--prompts-per-step 4 --num-generations 4 --save-steps 1 --lr-schedule constant"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, from where child processes find the tests' task."""
    monkeypatch.chdir(tmp_path)
    for name, value in child_environment().items():
        monkeypatch.setenv(name, value)
    return tmp_path


def run_here(jobs: list[Job], *_, **__) -> list[Job]:
    """`run_jobs` in this process, one after the other: to import torch takes ten times as long as these runs."""
    failed = []
    for job in jobs:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("a") as log, redirect_stdout(log), redirect_stderr(log):
            failed += [job] if cli.main([*job.words]) else []
    return failed


@pytest.fixture
def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spg_trainer.reporting.compare.run_jobs", run_here)


def letters(**changes) -> CompareCommand:
    """SPG on the tests' task, in one run."""
    settings = {"env": (ENV,), "model": (str(tiny_folder()),), "seeds": 1, "output_dir": "out"}
    return CompareCommand(**{**settings, **changes})


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
        seeds=2,
        output_dir="out",
    )
    runs = plan(command, ["--max-steps", "7"])
    assert [run.folder.name for run in runs[:4]] == [
        "sudoku-spg-s0",
        "sudoku-spg_negatives=elbo,temperature=2,gradient_checkpointing=True-s0",
        "countdown_level=2-spg-s0",
        "countdown_level=2-spg_negatives=elbo,temperature=2,gradient_checkpointing=True-s0",
    ]
    assert [run.config.seed for run in runs] == [0] * 4 + [1] * 4
    last = runs[-1].config
    assert (last.env, last.env_args["level"], last.max_steps) == ("countdown", 2, 7)
    assert (last.algorithm_args["negatives"], last.rollout.temperature) == ("elbo", 2.0)
    assert last.model.gradient_checkpointing and not runs[0].config.model.gradient_checkpointing
    for run in runs[:2]:  # what is typed means what was planned
        assert cli.refuse_early(cli.parse(Config, run.words, "")) == run.config


def test_each_task_may_have_a_model_of_its_own() -> None:
    runs = plan(CompareCommand(env=("sudoku", ENV), model=("tiny", str(tiny_folder())), seeds=1), SMALL)
    assert [run.config.model.model for run in runs] == ["tiny", str(tiny_folder())]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--env sudko", ['No environment "sudko"', "sudoku"]),
        ("--env sudoku:blank=3", ['no argument "blank"', "blanks"]),
        ("--algorithms spgg", ["Did you mean 'spg'?"]),
        ("--algorithms spg:negatives=elbow", ["sudoku with spg:negatives=elbow: ", "Did you mean 'elbo'?"]),
        ("--algorithms spg:seed=1", ["--seed cannot differ between the rows"]),
        ("--algorithms spg:a=1,a=2", ["'a' is given twice", "NAME:KEY=VALUE,KEY=VALUE"]),
        ("--algorithms spg spg", ["sudoku with spg is asked for twice"]),
        ("--seeds 0", ["--seeds 0: should be at least 1"]),
        ("--seed 2", ["No flag --seed.", "Did you mean --seeds?"]),
        ("--model tiny tiny", ["2 models for 1 tasks"]),
        ("--algorithms", ["--algorithms names none", "spg wd1"]),
        ("-- --seed 3", ["--seed behind `--`"]),
        ("-- --max-step 3", ["No flag --max-step.", "--max-steps"]),
    ],
)
def test_a_mistake_is_refused_before_anything_is_trained(capsys, here, line: str, words: list[str]) -> None:
    assert cli.main(["compare", *shlex.split(line)]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert not (here / "runs").exists()


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of two runs of two steps."""
    folder = tmp_path_factory.mktemp("compared") / "out"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in child_environment().items():
            patch.setenv(name, value)
        patch.setattr("spg_trainer.reporting.compare.run_jobs", run_here)
        command = letters(algorithms=("spg", "spg:num_masks=1,negatives=elbo"), output_dir=str(folder))
        assert compare(command, [*SMALL, "--max-steps", "2"], quiet=True) == 0
    return folder


def test_finished_runs_are_tabulated_and_not_run_again(compared: Path, capsys) -> None:
    command = letters(algorithms=("spg", "spg:num_masks=1,negatives=elbo"), output_dir=str(compared))
    logs = [log.read_bytes() for log in sorted(compared.glob("*/run.log"))]
    assert compare(command, [*SMALL, "--max-steps", "2"], quiet=True) == 0
    table = capsys.readouterr().out
    assert (compared / "compare.md").read_text() == table and (compared / "curves.svg").is_file()
    assert [line.split(" | ")[:3] for line in table.splitlines()[2:4]] == [
        ["| Letters-v0", "spg", "1/1"],
        ["| Letters-v0", "spg:num_masks=1,negatives=elbo", "1/1"],
    ]
    assert logs == [log.read_bytes() for log in sorted(compared.glob("*/run.log"))] and len(logs) == 2


def test_a_table_alone_counts_what_is_missing(compared: Path, capsys) -> None:
    command = letters(seeds=2, output_dir=str(compared), table_only=True)
    assert compare(command, [*SMALL, "--max-steps", "2"], quiet=True) == 0
    assert "| Letters-v0 | spg | 1/2 |" in capsys.readouterr().out


def test_a_folder_with_other_or_longer_runs_is_refused(compared: Path) -> None:
    command = letters(output_dir=str(compared))
    with pytest.raises(ConfigError, match=r"eval\.eval_steps was 10, now 1"):
        compare(command, [*SMALL, "--max-steps", "2", "--eval-steps", "1"], quiet=True)
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.0002, now 0\.1"):
        compare(command, [*SMALL, "--max-steps", "2", "--learning-rate", "0.1"], quiet=True)
    with pytest.raises(ConfigError, match="--max-steps 2, longer than 1"):
        compare(command, [*SMALL, "--max-steps", "1"], quiet=True)


@pytest.fixture
def carried(compared: Path, here: Path) -> Path:
    """The record of the finished comparison alone, as on another machine."""
    (here / "out").mkdir()
    return Path(shutil.copy(compared / "compare.json", here / "out"))


def test_a_record_alone_makes_the_same_table_and_trains_nothing(
    compared: Path, carried: Path, capsys
) -> None:
    settings = ("spg", "spg:num_masks=1,negatives=elbo")
    more = [*SMALL, "--max-steps", "2"]
    assert (
        compare(letters(algorithms=settings, output_dir=str(compared), table_only=True), more, quiet=True)
        == 0
    )
    table, text = capsys.readouterr().out, carried.read_text()
    assert compare(letters(algorithms=settings), more, quiet=True) == 0
    assert capsys.readouterr().out == table and table.count("| 1/1 |") == 2
    assert compare(letters(table_only=True), more, quiet=True) == 0  # of a part: the rest stays
    assert carried.read_text() == text and len(text) < 2 * 3000
    assert sorted(path.name for path in carried.parent.iterdir()) == [
        "compare.json",
        "compare.md",
        "curves.svg",
    ]


def test_a_recorded_run_of_other_settings_is_refused_by_name(carried: Path) -> None:
    for words, message in (
        (
            ["--max-steps", "2", "--learning-rate", "0.1"],
            r"Letters-v0-spg-s0 in .*learning_rate was 0\.0002, now 0\.1",
        ),
        (["--max-steps", "2", "--eval-steps", "1"], r"eval\.eval_steps was 10, now 1"),
        (["--max-steps", "1"], "--max-steps 2, longer than 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            compare(letters(), [*SMALL, *words], quiet=True)
    (run,) = plan(letters(), [*SMALL, "--max-steps", "2"])
    assert run.finished and not plan(letters(), [*SMALL, "--max-steps", "3"])[0].finished


def test_a_run_whose_rate_has_fallen_is_not_made_longer(carried: Path) -> None:
    record = json.loads(carried.read_text())
    record["settings"]["optimizer.lr_schedule"] = "linear"
    carried.write_text(json.dumps(record))
    more = [*SMALL[:-1], "linear", "--max-steps"]
    assert plan(letters(), [*more, "2"])[0].finished
    with pytest.raises(ConfigError, match="of 2 steps over which its rate falls, not 3"):
        compare(letters(), [*more, "3"], quiet=True)


def test_a_record_from_before_it_named_validation_goes_on(carried: Path) -> None:
    record = json.loads(carried.read_text())
    for name in CHOOSING:
        del record["settings"][name]
    carried.write_text(json.dumps(record))
    compare(letters(table_only=True), [*SMALL, "--max-steps", "2", "--eval-steps", "1"], quiet=True)
    assert "eval_steps" not in carried.read_text(), "what is not known is not made up"


def test_a_folder_stands_above_the_record(carried: Path) -> None:
    folder = carried.parent / "Letters-v0-spg-s0"
    folder.mkdir()
    (run,) = plan(letters(), [*SMALL, "--max-steps", "2"])
    assert run.finished  # an empty one is none
    (folder / "config.yaml").write_text(to_yaml(run.config))
    assert not run.finished


def test_a_broken_record_is_named(carried: Path) -> None:
    carried.write_text(carried.read_text()[:-20])
    with pytest.raises(ConfigError, match=r"out/compare\.json is not what compare writes .* or remove it"):
        plan(letters(), SMALL)


def test_a_run_folder_opens_with_the_other_commands(compared: Path, capsys) -> None:
    run = compared / "Letters-v0-spg-s0"
    assert cli.main(["eval", "--model", str(run), "--num-problems", "4", "--device", "cpu"]) == 0
    assert "solved" in capsys.readouterr().out


def test_a_killed_comparison_goes_on_where_its_runs_were(here: Path, capfd, monkeypatch) -> None:
    words = [
        "compare",
        "--env",
        ENV,
        "--model",
        str(tiny_folder()),
        "--algorithms",
        "spg",
        "spg:negatives=elbo",
    ]
    words += ["--seeds", "1", "--output-dir", "out", "--jobs", "2", "--", *SMALL, "--max-steps", "60"]
    process = subprocess.Popen([sys.executable, "-m", "spg_trainer", *words], start_new_session=True)
    files = [
        here / "out" / f"Letters-v0-{name}-s0" / "metrics.jsonl" for name in ("spg", "spg_negatives=elbo")
    ]
    end = time.monotonic() + 200
    while not all(file.is_file() and file.read_bytes().count(b"\n") >= 2 for file in files):
        assert process.poll() is None and time.monotonic() < end, capfd.readouterr().err
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for file in files:
        FileLock(file.parent / ".lock", timeout=20).acquire().lock.release()  # the run has ended too
    monkeypatch.setattr("spg_trainer.reporting.compare.run_jobs", run_here)
    assert cli.main(words) == 0
    for file in files:
        assert steps_of(file.parent) == list(range(1, 61))
        assert "Continuing" in (file.parent / "run.log").read_text()
    assert capfd.readouterr().out.count("| 1/1 |") == 2


def test_equal_time_ends_each_run_by_the_clock_over_all_resumes(
    here: Path, without_processes, capsys
) -> None:
    command = letters(max_minutes=0.05)
    assert compare(command, SMALL, quiet=True) == 0
    folder = here / "out" / "Letters-v0-spg-s0"
    steps = len(rows(folder / "metrics.jsonl"))
    assert 0 < steps < 1_000_000
    assert compare(command, SMALL, quiet=True) == 0  # has had its time
    assert len(rows(folder / "metrics.jsonl")) == steps
    (folder / "summary.json").unlink()  # as if killed after its last step
    (run,) = plan(command, SMALL)
    assert run.job().words[-6] == "--max-minutes" and float(run.job().words[-5]) < 0.01
    assert "over time" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ended_by", "seconds", "finished"),
    [("stop_if_worse", 5, True), ("max_minutes", 5, False), ("max_minutes", 61, True)],
)
def test_a_run_that_ended_itself_is_not_run_again(here: Path, ended_by, seconds, finished) -> None:
    (run,) = plan(letters(max_minutes=1.0), SMALL)
    run.folder.mkdir(parents=True)
    (run.folder / "config.yaml").write_text(to_yaml(run.config))
    summary = {"max_steps": run.config.max_steps, "steps": 20, "seconds": seconds, "ended_by": ended_by}
    (run.folder / "summary.json").write_text(json.dumps(summary))
    assert run.finished == finished


def test_a_rate_that_fell_with_the_clock_is_not_raised_again(here: Path) -> None:
    timed = [*SMALL[:-1], "linear"]
    (run,) = plan(letters(max_minutes=1.0), timed)
    run.folder.mkdir(parents=True)
    rest = replace(run.config, max_minutes=0.4)  # what was left when it was resumed
    (run.folder / "config.yaml").write_text(to_yaml(rest))
    run.refuse_other()
    summary = {"max_steps": run.config.max_steps, "steps": 20, "seconds": 61, "ended_by": "max_minutes"}
    (run.folder / "summary.json").write_text(json.dumps(summary))
    run.refuse_other()
    (longer,) = plan(letters(max_minutes=2.0), timed)
    with pytest.raises(ConfigError, match="fewer than 2 minutes, and its rate has fallen"):
        longer.refuse_other()


BROKEN = """
from dataclasses import dataclass
from spg_trainer.algorithms.spg import SPG

@dataclass(frozen=True)
class Broken(SPG):
    def loss(self, logps, masks, batch):
        raise RuntimeError("no loss today")
"""


def test_a_failed_run_does_not_stop_the_others_and_sets_the_status(here: Path, capfd, monkeypatch) -> None:
    (here / "broken.py").write_text(BROKEN)
    words = [
        "compare",
        "--env",
        ENV,
        "--model",
        str(tiny_folder()),
        "--algorithms",
        "./broken.py:Broken",
        "spg",
    ]
    words += ["--seeds", "1", "--output-dir", "out", "--", *SMALL, "--max-steps", "2"]
    with monkeypatch.context() as patch:  # one process is enough to see a failure
        patch.setattr("spg_trainer.reporting.compare.run_jobs", lambda jobs, *a, **k: run_here(jobs[1:]))
        assert cli.main(words) == 0
    assert cli.main(words) == 1
    out, err = capfd.readouterr()
    assert "Letters-v0-Broken-s0 failed (exit status 1)" in err and "RuntimeError: no loss today" in err
    assert "1 of 2 runs failed: Letters-v0-Broken-s0." in err
    assert "| Letters-v0 | Broken | 0/1 | - |" in out and "| Letters-v0 | spg | 1/1 |" in out
