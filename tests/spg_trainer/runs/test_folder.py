"""The run folder: what it refuses, how records read back, what a resumed run cuts, which run `auto` finds."""

import json
import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import verifiers
from spg_trainer.algorithms import build
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.runs import files
from spg_trainer.runs.files import claim, remove_if_empty
from spg_trainer.runs.folder import RunFolder, choose_folder, find_unfinished
from spg_trainer.runs.resume import pin
from spg_trainer.settings.configs import Config, OutputConfig
from spg_trainer.settings.recorded import to_yaml
from spg_trainer.settings.types import overlay
from tests.common.trainer_cases import rows, snapshot

CONFIG = {
    "env": "sudoku",
    "env_args": {"blanks": "4-11"},
    "max_steps": 10,
    "output": {"keep": 2, "track": ()},
}


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "a")
    folder.create(yaml.safe_dump(files.to_json(CONFIG)), {"env": "sudoku"})
    yield folder
    folder.release()


def test_a_run_killed_before_its_settings_were_written_starts_again(tmp_path):
    (tmp_path / "environment.json").write_text("{}")  # the first file that `create` writes
    folder = RunFolder(tmp_path)
    folder.create("env: sudoku\n", {"env": "sudoku"})
    folder.release()
    assert (tmp_path / "config.yaml").read_text() == "env: sudoku\n"


def test_a_folder_with_a_log_is_fine_one_with_other_files_refused(tmp_path):
    (tmp_path / "train.log").write_text("started")
    (tmp_path / "nohup.out").write_text("started")
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "environment.json").write_text("{}")
    choose_folder(Config(output=OutputConfig(output_dir=str(tmp_path))))
    folder = RunFolder(tmp_path)
    folder.create("env: sudoku\n", {})
    folder.release()
    other = tmp_path / "other"
    assert (tmp_path / "config.yaml").exists() and not other.exists()
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        choose_folder(Config(output=OutputConfig(output_dir=str(other))))
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]


def test_a_folder_with_a_run_is_refused_and_named(run):
    for step in range(1, 5):
        run.append_metrics({"step": step})
    run.release()  # its training has ended
    with pytest.raises(ConfigError) as caught:
        RunFolder(run.path).create("env: other\n", {})
    assert all(part in str(caught.value) for part in ("4 steps", f"--resume {run.path} "))
    assert yaml.safe_load((run.path / "config.yaml").read_text())["env"] == "sudoku"
    assert json.loads((run.path / "environment.json").read_text()) == {"env": "sudoku"}
    run.write_summary({"steps": 4})


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_unusable_place_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=f"{place}.*another folder"):
        RunFolder(tmp_path / place).create("", {})


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    folder = RunFolder(tmp_path / "a")
    folder.create("env: sudoku\n", {})
    folder.append_metrics({"step": 1})
    folder.write_samples(1, [{}])
    folder.write_evaluation("before", {}, [])
    folder.write_summary({})
    folder.truncate_after(0)
    assert list(tmp_path.iterdir()) == []


def test_metrics_are_plain_json_and_equal_values_give_equal_bytes(run):
    numbers = {
        "reward": np.float64(0.1) + np.float64(0.2),
        "grad_norm": torch.tensor(0.1, dtype=torch.float64),
    }
    row = {"step": 1, **numbers, "kl": math.nan, "loss": np.float32(math.inf), "counts": np.arange(2)}
    run.append_metrics(row)
    run.append_metrics(row)
    first, second = (run.path / "metrics.jsonl").read_text().splitlines()
    assert first == second and '"reward": 0.30000000000000004' in first
    plain = {"step": 1, "reward": 0.30000000000000004, "grad_norm": 0.1}
    assert json.loads(first) == {**plain, "kl": None, "loss": None, "counts": [0, 1]}


def test_samples_and_evaluations_keep_any_text_on_one_line(run):
    text = "a\nb\u2028\x00\ud800"
    odd = {"completion": text, "reason": verifiers.Reason.OK, "answer": Decimal("1.5")}
    run.write_samples(10, [odd, odd])
    assert (
        rows(run.path / "samples" / "step-000010.jsonl")
        == [{"completion": text, "reason": "ok", "answer": "1.5"}] * 2
    )
    path = run.write_evaluation("gsm8k[a/b]", {"correct": np.float64(0.5)}, [{"index": 0}])
    assert path.name == "gsm8k[a_b].json" and json.loads(path.read_text()) == {"correct": 0.5}
    assert rows(path.with_suffix(".jsonl")) == [{"index": 0}]


def test_resume_cuts_later_rows_torn_lines_and_later_files(run):
    for step in range(1, 6):
        run.append_metrics({"step": step, "reward": step / 7})
        run.append_timings({"step": step})
        run.write_samples(step, [{"step": step}])
    run.write_evaluation("before", {}, [])
    run.write_evaluation("step-000003", {}, [])
    run.write_evaluation("step-000005", {}, [])
    run.write_summary({"steps": 5})
    kept = (run.path / "metrics.jsonl").read_bytes().split(b"\n")[:3]
    with open(run.path / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 2, "rew')
    with open(run.path / "timings.jsonl", "ab") as file:
        file.write(b"\x00\x00\x00\n")
    (run.path / ".summary.json.tmp-1").write_text("half")
    (run.path / "report.html").write_text("of five steps")

    run.truncate_after(3)

    assert (run.path / "metrics.jsonl").read_bytes() == b"\n".join(kept) + b"\n"
    assert [row["step"] for row in rows(run.path / "timings.jsonl")] == [1, 2, 3]
    assert [row["step"] for row in run.history()] == [1, 2, 3]
    names = {path.relative_to(run.path).as_posix() for path in snapshot(run.path)}
    expected = {f"samples/step-{step:06d}.jsonl" for step in (1, 2, 3)}
    expected |= {f"eval/{name}.{kind}" for name in ("before", "step-000003") for kind in ("json", "jsonl")}
    kept = {"config.yaml", "environment.json", "inputs.json", "metrics.jsonl", "timings.jsonl"}
    assert {name for name in names if "lock" not in name} == expected | kept
    run.append_metrics({"step": 4})
    assert rows(run.path / "metrics.jsonl")[-1] == {"step": 4}


def test_a_refused_write_names_the_path(run, monkeypatch):
    (run.path / "samples").write_text("a file where a folder should be")
    with pytest.raises(CheckpointError, match=re.escape(str(run.path / "samples"))):
        run.write_samples(1, [])

    def full(*_):
        raise OSError(28, "No space left on device")

    run.write_summary({"steps": 1})
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CheckpointError, match=r"summary\.json: disk full"):
        run.write_summary({"steps": 2})
    assert json.loads((run.path / "summary.json").read_text()) == {"steps": 1}
    assert not list(run.path.glob(".*.tmp-*"))


def test_default_path_names_the_run_and_is_free(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = RunFolder.default_path("sudoku", "spg", 3)
    assert re.fullmatch(r"runs/sudoku-spg-s3-\d{8}-\d{6}", first.as_posix())
    monkeypatch.setattr("time.strftime", lambda *_: "20260101-000000")
    first = RunFolder.default_path("./my_task.py:my/MyTask-v0", "spg", 0)
    assert first.name == "my_task.py_my_MyTask-v0-spg-s0-20260101-000000"
    first.mkdir(parents=True)
    assert RunFolder.default_path("./my_task.py:my/MyTask-v0", "spg", 0).name == first.name + "-2"


def test_runs_that_begin_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    # facebookresearch/hydra#2925: jobs of a sweep that start at once shared a folder that is named by the second.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda *_: "20260101-000000")
    config = Config(env="sudoku")
    with ThreadPoolExecutor(8) as threads:
        names = {path.name for path, _, _ in threads.map(lambda _: choose_folder(config), range(8))}
    assert len(names) == 8 and sum(name.endswith("000000") for name in names) == 1
    dry, _, _ = choose_folder(replace(config, dry_run=True))
    assert not dry.exists()  # a dry run makes nothing


def test_a_place_that_cannot_be_written_has_nothing_to_continue(tmp_path):
    (tmp_path / "file").write_text("")
    for start in (claim, files.check_place, files.check_writable):
        with pytest.raises(CheckpointError, match=r"Nothing has begun: .* another --output-dir"):
            start(tmp_path / "file" / "run")


def test_a_claimed_folder_is_gone_if_nothing_was_written_there(tmp_path):
    claimed, used = claim(tmp_path / "runs" / "a"), claim(tmp_path / "runs" / "a")
    (used / "config.yaml").write_text("")
    for folder in (claimed, used):
        remove_if_empty(folder)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a-2"]


def started(root: Path, name: str, config: dict, age: float) -> Path:
    folder, begun = RunFolder(root / name), settings(config)
    begun = pin(begun, build(begun.algorithm, begun.hyper_parameters))
    folder.create(to_yaml(begun), {})
    folder.release()
    os.utime(folder.path / "config.yaml", (1e9 - age, 1e9 - age))
    return folder.path


def settings(values: dict) -> Config:
    return overlay(Config(), values, "test")


def test_auto_finds_the_newest_unfinished_run_of_an_equal_config(tmp_path):
    started(tmp_path, "old", CONFIG, age=100)
    newest = started(tmp_path, "new", CONFIG, age=50)
    started(tmp_path, "other", {**CONFIG, "env_args": {"blanks": "7-12"}}, age=10)
    done = started(tmp_path, "done", CONFIG, age=5)
    (done / "summary.json").write_text("{}")
    broken = started(tmp_path, "broken", CONFIG, age=1)
    (broken / "config.yaml").write_text("env: [")
    may_change = {"max_steps": 99, "output": {"keep": 7, "track": ()}}
    assert (
        find_unfinished(tmp_path, settings(CONFIG))
        == find_unfinished(tmp_path, settings({**CONFIG, **may_change}))
        == newest
    )
    of_older_version = yaml.safe_load((newest / "config.yaml").read_text())
    of_older_version["algorithm_args"].popitem()  # a hyper-parameter that was added since
    (newest / "config.yaml").write_text(yaml.safe_dump(of_older_version))
    assert find_unfinished(tmp_path, settings(CONFIG)) == newest
    assert find_unfinished(tmp_path, settings({**CONFIG, "env": "countdown"})) is None
    assert find_unfinished(tmp_path / "absent", settings(CONFIG)) is None


AUTO = {"resume": "auto"}
LOCKED = """
import sys, time
from spg_trainer.runs.folder import RunFolder
RunFolder(sys.argv[1]).truncate_after(0)
print("ready", flush=True)
time.sleep(60)
"""


def test_two_processes_never_write_to_one_run(tmp_path, caplog):
    path = started(tmp_path, "a", CONFIG, age=0)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", LOCKED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as other:
        try:
            assert other.stdout.readline() == "ready\n"
            with pytest.raises(ConfigError, match=f"another process \\(pid {other.pid}\\)"):
                RunFolder(path).truncate_after(0)
            # The other process replaces checkpoints, so one that is not whole says nothing of this run.
            torn = path / "checkpoints" / "step-000001"
            torn.mkdir(parents=True)
            for resumes in ({"resume": str(path)}, {"resume": str(torn)}, AUTO | {"output_dir": str(path)}):
                with pytest.raises(ConfigError, match=f"another process \\(pid {other.pid}\\), which trains"):
                    choose_folder(Config(output=OutputConfig(**resumes)))
            torn.rmdir()
            assert find_unfinished(tmp_path, settings(CONFIG)) is None
            assert f"pid {other.pid}" in caplog.text
        finally:
            other.kill()
    assert find_unfinished(tmp_path, settings(CONFIG)) == path
    folder = RunFolder(path)
    goes_on = Config(output=OutputConfig(resume=str(path)))
    assert choose_folder(goes_on) == (
        path,
        True,
        None,
    )  # the kernel has released what the killed process held
    folder.truncate_after(0)
    for once_more in (lambda: choose_folder(goes_on), lambda: RunFolder(path).truncate_after(0)):
        with pytest.raises(ConfigError, match="another run of this process, which trains"):
            once_more()
    RunFolder(path).release()  # it holds no lock, and takes none away
    with pytest.raises(ConfigError, match="another run of this process"):
        choose_folder(goes_on)
    folder.release()
    assert choose_folder(goes_on) == (path, True, None)


# A folder is put in place whole, and nothing else is touched.


def one_file(folder: Path) -> None:
    (folder / "weights").write_text("1")


def test_a_put_leaves_what_lies_beside_it(tmp_path):
    strangers = [tmp_path / ".editor.tmp", tmp_path / ".other.tmp", tmp_path / ".trash.deleted"]
    for path in [*strangers, tmp_path / ".model.tmp", tmp_path / ".model.deleted"]:
        path.mkdir()
        (path / "file").write_text("text")
    files.write_folder(tmp_path / "model", one_file)
    assert sorted(tmp_path.iterdir()) == [*strangers, tmp_path / "model"]
    assert all((path / "file").read_text() == "text" for path in strangers)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["COMPLETE", "weights"]


def test_a_refused_write_names_the_path_and_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    for write, content in ((files.write_folder, one_file), (files.write_text, "text")):
        with pytest.raises(CheckpointError, match=r"file/model: .*resume"):
            write(tmp_path / "file" / "model", content)
