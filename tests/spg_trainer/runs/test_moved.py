"""A run reads the same files wherever it is resumed or evaluated: a file is its hash, not its path."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from spg_trainer.algorithms.spg import SPG
from spg_trainer.cli import main
from spg_trainer.errors import ConfigError
from spg_trainer.runs.inputs import file_settings, find_inputs, name_files
from spg_trainer.runs.resume import pin
from spg_trainer.settings.configs import Config, EvalCommand
from spg_trainer.settings.resolve import defaults
from spg_trainer.settings.types import replace_nested
from spg_trainer.training.loop import train
from tests.common.trainer_cases import rows, small_config, tiny_folder

COLUMNS = {"verifier": "gsm8k", "answer": "solution", "demonstration": "worked"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `home` with rows and a model, in which this process works; `away` is beside it."""
    (tmp_path / "away").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    solutions = {f"1 + {n}?": f"{n + 1}" for n in range(60)}
    problems = [
        {"prompt": prompt, "solution": number, "worked": f"<answer>{number}</answer>"}
        for prompt, number in solutions.items()
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    shutil.copytree(tiny_folder(), "base")
    return tmp_path / "home"


@pytest.fixture
def run(home: Path) -> Path:
    """A run of one step on the rows, from the model, in home/run."""
    settings = {"env": "rows.jsonl", "env_args": COLUMNS, "model": Path("base"), "save_steps": 1}
    train(small_config(Path("run"), max_steps=1, **settings), quiet=True)
    return home / "run"


def resumed(run: Path | str, steps: int, *more: str) -> int:
    return main(["--resume", str(run), "--max-steps", str(steps), "--device", "cpu", *more])


def test_a_run_resumes_and_is_evaluated_from_another_folder(run: Path) -> None:
    home = run.parent
    shutil.copytree("run", "here")
    assert resumed("here", 2) == 0
    with contextlib.chdir("../away"):
        assert resumed("../home/run", 2) == 0
        assert resumed("../home/run", 3, "--model", "../home/base", "--env", "../home/rows.jsonl") == 0
        for model in ("../home/run", "../home/run/model", "../home/run/checkpoints/step-000003"):
            command = defaults(EvalCommand, model=model)
            assert command.env == str(home / "rows.jsonl") and command.env_args == COLUMNS
    assert rows(Path("run/metrics.jsonl"))[:2] == rows(Path("here/metrics.jsonl"))
    kept = yaml.safe_load(Path("run/config.yaml").read_text())
    assert (kept["env"], kept["model"]["model"]) == (str(home / "rows.jsonl"), str(home / "base"))


def test_data_that_was_moved_is_named_by_its_flag_and_accepted_by_its_hash(run: Path, capsys) -> None:
    Path("rows.jsonl").rename("../away/others.jsonl")
    assert defaults(EvalCommand, model="run", env="../away/others.jsonl").env_args == COLUMNS
    assert resumed("run", 2) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{run.parent}/rows.jsonl is gone since {run} began" in said and "--env PATH" in said
    changed = Path("../away/changed.jsonl")
    changed.write_text(Path("../away/others.jsonl").read_text().replace('"60"', '"61"'))
    assert defaults(EvalCommand, model="run", env=str(changed)).env_args == {}
    assert resumed("run", 2, "--env", str(changed)) == 2
    assert "changed.jsonl has changed since run began: it was sha256" in capsys.readouterr().err
    assert len(rows(run / "metrics.jsonl")) == 1
    assert resumed("run", 2, "--env", "../away/others.jsonl") == 0
    assert resumed("run", 3) == 0, "from now on it is there"
    assert defaults(EvalCommand, model="run").env.endswith("away/others.jsonl")
    assert yaml.safe_load((run / "config.yaml").read_text())["env"].endswith("away/others.jsonl")


def test_data_may_be_moved_below_a_folder_that_has_its_old_path(run: Path) -> None:
    old = run.parent / "rows.jsonl"
    new = Path(f"../away{old}").resolve()  # /mnt/data/rows.jsonl for /data/rows.jsonl
    new.parent.mkdir(parents=True)
    old.rename(new)
    assert resumed("run", 2, "--env", str(new)) == 0
    assert resumed("run", 3) == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["env"] == str(new)


def test_a_model_that_was_moved_or_has_changed_is_noticed(run: Path, capsys) -> None:
    Path("base").rename("../away/base")
    assert resumed("run", 2) == 2
    assert (
        f"home/base is gone since {run} began" in (said := capsys.readouterr().err) and "--model PATH" in said
    )
    assert resumed("run", 2, "--model", "../away/base") == 0
    config = Path("../away/base/config.json")
    config.write_text(config.read_text() + "\n")
    capsys.readouterr()
    assert resumed("run", 3) == 2 and "away/base has changed since run began" in capsys.readouterr().err


def test_another_folder_of_the_models_name_does_not_count_as_the_model(run: Path) -> None:
    with contextlib.chdir("../away"):
        shutil.copytree("../home/base", "base")
        Path("base/config.json").write_text(Path("base/config.json").read_text() + "\n")
        assert resumed("../home/run", 2) == 0
        with pytest.raises(ConfigError, match=r"away/base has changed since"):
            train(defaults(Config, resume="../home/run", model="base", max_steps=3), quiet=True)


def test_a_base_goes_on_and_is_trained_from_another_folder(home: Path) -> None:
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 24}
    few = {"max_steps": 1, "eval_steps": 1, "report": False, "validation_problems": 8, "eval_problems": 8}
    few |= {"source": "demonstrations", "output_dir": "made"}
    train(defaults(Config, env="rows.jsonl", env_args=COLUMNS, **few, **sizes), quiet=True)
    with contextlib.chdir("../away"):
        assert main(["sft", "--resume", "../home/made", "--max-steps", "2"]) == 0
        assert yaml.safe_load((home / "made/config.yaml").read_text())["env"] == str(home / "rows.jsonl")
        assert defaults(EvalCommand, model="../home/made").env == str(home / "rows.jsonl")


def pinned_twice(config: Config) -> bool:
    """Whether settings that are pinned stay as they are."""
    once = pin(config, SPG())
    return pin(once, SPG()) == once


def test_paths_of_files_that_are_there_become_absolute_and_nothing_else_does(home: Path) -> None:
    for folder in ("plain", "sudoku", "set", "generated"):
        Path(folder).mkdir()
    for file in ("set/a.jsonl", "generated/a.jsonl", "mine.py", "other.py", "style.txt"):
        Path(file).write_text("")
    arguments = {
        "prompt_style": "plain",
        "sudoku.source": "generated",
        "source": "set",
        "style": "style.txt",
        "reward": "./mine.py:one+two",
        "mine.reward": "./mine.py:one+other.py:two",
        "level": 2,
        "gone": "gone.jsonl",
    }
    config = small_config(
        None, env="sudoku + ./mine.py:my/Mine-v0 + rows.jsonl", env_args=arguments, model=Path("base")
    )
    pinned = replace_nested(config, name_files(file_settings(config)).texts)
    assert pinned.env == f"sudoku + {home}/mine.py:my/Mine-v0 + {home}/rows.jsonl"
    assert pinned.env_args == {
        **arguments,
        "source": f"{home}/set",
        "style": f"{home}/style.txt",
        "reward": f"{home}/mine.py:one+two",
        "mine.reward": f"{home}/mine.py:one+{home}/other.py:two",
    }
    assert pinned.model.model == f"{home}/base"
    assert name_files(file_settings(pinned)).texts == file_settings(pinned) and pinned_twice(config)
    copies = {name: one.copy for name, one in find_inputs(file_settings(pinned)).items()}
    assert copies == {
        "env": "environment/mine.py",
        "env 2": "",
        "env_args.source": "",
        "env_args.style": "",
        "env_args.reward": "environment/mine.py",
        "env_args.mine.reward": "environment/mine.py",
        "env_args.mine.reward 2": "environment/other.py",
        "model.model": "",
    }


def test_a_system_prompt_from_a_file_is_an_input_by_its_hash(home: Path) -> None:
    Path("brief.txt").write_text("Be brief.")
    command = Config(env="gsm8k", env_args={"source": "generated", "system_prompt": "@brief.txt"})
    assert name_files(file_settings(command)).texts["env_args.system_prompt"] == f"@{home}/brief.txt"
    assert find_inputs(file_settings(command))["env_args.system_prompt"].path == f"{home}/brief.txt"
    assert "env_args.system_prompt" not in find_inputs(
        {"env": "gsm8k", "env_args.system_prompt": "brief.txt"}
    ), "a text, though there is a file of this name"
