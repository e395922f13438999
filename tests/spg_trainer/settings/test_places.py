"""Relative paths of a run name the same files wherever it is resumed or evaluated."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from spg_trainer.cli import main
from spg_trainer.errors import ConfigError
from spg_trainer.settings.fields import Config, EvalCommand, SftCommand
from spg_trainer.settings.places import STARTED, absolute, absolute_name, found_again
from spg_trainer.settings.recorded import model_environment
from spg_trainer.settings.resolve import defaults
from spg_trainer.sft.command import sft
from spg_trainer.training.loop import train
from tests.common.sft_cases import measure_few
from tests.common.trainer_cases import rows, small_config, tiny_folder

COLUMNS = {"verifier": "gsm8k", "answer": "solution", "demonstration": "solution"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `home` with rows and a model, in which this process works; `away` is beside it."""
    (tmp_path / "away").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    problems = [{"prompt": f"1 + {n}?", "solution": f"{n + 1}"} for n in range(60)]
    Path("rows.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    shutil.copytree(tiny_folder(), "base")
    return tmp_path / "home"


def test_a_run_resumes_and_is_evaluated_from_another_folder(home: Path) -> None:
    settings = {"env": "rows.jsonl", "env_args": COLUMNS, "model": Path("base"), "save_steps": 1}
    train(small_config(Path("run"), max_steps=1, **settings), quiet=True)
    shutil.copytree("run", "here")
    resume = ["--max-steps", "2", "--device", "cpu"]
    assert main(["--resume", "here", *resume]) == 0
    with contextlib.chdir("../away"):
        assert main(["--resume", "../home/run", *resume]) == 0
        assert main(["--resume", "../home/run", "--model", "../home/base", "--max-steps", "3"]) == 0
        for model in ("../home/run", "../home/run/model", "../home/run/checkpoints/step-000003"):
            command = defaults(EvalCommand, model=model)
            assert command.env == str(home / "rows.jsonl") and command.env_args == COLUMNS
    assert rows(Path("run/metrics.jsonl"))[:2] == rows(Path("here/metrics.jsonl"))
    kept = yaml.safe_load(Path("run/config.yaml").read_text())
    assert (kept["env"], kept["model"]["model"]) == ("rows.jsonl", "base"), "as it began, and no whole paths"
    assert main(["--resume", "run", "--max-steps", "4"]) == 0
    Path("rows.jsonl").write_text(Path("rows.jsonl").read_text().replace('"60"', '"61"'))
    with contextlib.chdir("../away"), pytest.raises(ConfigError, match=r"rows\.jsonl has changed"):
        train(defaults(Config, resume="../home/run", max_steps=5), quiet=True)


def test_another_folder_of_the_models_name_does_not_count_as_the_model(home: Path, capsys) -> None:
    settings = {"env": "rows.jsonl", "env_args": COLUMNS, "model": Path("base"), "save_steps": 1}
    train(small_config(Path("run"), max_steps=1, **settings), quiet=True)
    resume = ["--resume", "../home/run", "--device", "cpu", "--max-steps"]
    with contextlib.chdir("../away"):
        Path("base").mkdir()
        assert main([*resume, "2"]) == 0, "a folder without a model is none"
        shutil.copytree(home / "base", "base", dirs_exist_ok=True)
        assert main([*resume, "3"]) == 0, "nor is an equal one another"
        Path("base/config.json").write_text(Path("base/config.json").read_text() + "\n")
        capsys.readouterr()
        assert main([*resume, "4"]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"--model {home}/base is that of the start" in said and f"--model {Path.cwd()}/base" in said
        assert main([*resume, "4", "--model", f"{home}/base"]) == 0
        kept = yaml.safe_load((home / "run/config.yaml").read_text())["model"]["model"]
        assert kept == "base"
        assert main([*resume, "5", "--model", "base"]) == 0, "who names it means it"


def test_a_model_of_sft_goes_on_and_is_trained_from_another_folder(home: Path, monkeypatch) -> None:
    measure_few(monkeypatch, 8)
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 24}
    few = {"steps": 1, "eval_steps": 1, "report": False}
    sft(
        defaults(SftCommand, env="rows.jsonl", env_args=COLUMNS, output_dir="made", **few, **sizes),
        quiet=True,
    )
    with contextlib.chdir("../away"):
        assert main(["sft", "--resume", "../home/made", "--steps", "2"]) == 0
        made = json.loads((home / "made/environment.json").read_text())
        assert (made[STARTED], made["env"]) == (str(home), "rows.jsonl")
        assert yaml.safe_load((home / "made/sft.yaml").read_text())["env"] == "rows.jsonl"
        assert defaults(EvalCommand, model="../home/made").env == str(home / "rows.jsonl")


def test_only_what_names_a_file_is_looked_for_below_the_start(home: Path) -> None:
    Path("plain").mkdir()
    Path("sudoku").mkdir()
    Path("set").mkdir()
    Path("set/a.jsonl").touch()
    Path("mine.py").touch()
    arguments = {"prompt_style": "plain", "source": "set", "reward": "./mine.py:one+two", "level": 2}
    values = {"env": "sudoku + ./mine.py:my/Mine-v0", "env_args": arguments, "model": {"model": "base"}}
    record = {STARTED: str(home), "data": {"source=set": "0"}}
    with contextlib.chdir("../away"):
        found = found_again(values, record)
        assert found["env"] == f"sudoku + {home}/mine.py:my/Mine-v0"
        assert found["env_args"] == {
            "prompt_style": "plain",
            "source": f"{home}/set",
            "reward": f"{home}/mine.py:one+two",
            "level": 2,
        }
        assert found["model"] == {"model": f"{home}/base"}
        assert found_again(values, {"data": record["data"]}) == values  # of an earlier version
        Path("base").mkdir()  # no model
        assert found_again(values, record)["model"] == {"model": f"{home}/base"}
        shutil.copytree(home / "base", "base", dirs_exist_ok=True)
        assert found_again(values, record)["model"] == {"model": "base"}, "the same model, here too"
        assert absolute_name("--env rows.jsonl", record) == f"--env {home}/rows.jsonl"
        config = small_config(None, env="../home/rows.jsonl", model=Path("../home/base"))
        assert absolute(config, record) == small_config(None, env=f"{home}/rows.jsonl", model=home / "base")


def test_a_models_record_is_read_with_its_paths_as_they_are_found(home: Path) -> None:
    Path("base/environment.json").write_text(json.dumps({"env": "rows.jsonl", STARTED: str(home)}))
    assert model_environment("base")["env"] == "rows.jsonl"
    with contextlib.chdir("../away"):
        assert model_environment("../home/base")["env"] == str(home / "rows.jsonl")
