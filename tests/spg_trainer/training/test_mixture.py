"""A run of several tasks: figures of each, exact resume, and the same flags in every command."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import envs
from envs.combining import mixture
from spg_trainer.algorithms import build
from spg_trainer.errors import ConfigError, TrainingError
from spg_trainer.evaluation.command import run_eval
from spg_trainer.reporting.curves import draw_panels
from spg_trainer.reporting.runs import read_run
from spg_trainer.rollout.demonstrations import draw_demonstrations, mix_shares
from spg_trainer.runs.inputs import file_settings, find_inputs, read_inputs
from spg_trainer.runs.resume import identity, pin
from spg_trainer.settings.configs import Config, EvalCommand
from spg_trainer.settings.recorded import read_config
from spg_trainer.settings.resolve import defaults, resolve
from spg_trainer.settings.task import join_names, parse_tasks
from spg_trainer.settings.weights import resolve_model
from spg_trainer.training.loop import train
from spg_trainer.training.plan import settle
from tests.common.own_cases import Mine
from tests.common.task_file import write_task
from tests.common.trainer_cases import ENV, assert_equal_runs, rows, small_config

MIXED = f"{ENV} + arithmetic"
SETTINGS = {"env": MIXED, "env_args": {"arithmetic.weight": 2, "letters.size": 5}}
SETTINGS |= {"save_steps": 1, "keep": 9, "prompts_per_step": 6, "eval_problems": 9}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps on two tasks; read only."""
    folder = tmp_path_factory.mktemp("mixed") / "run"
    train(small_config(folder, **SETTINGS), quiet=True)
    return folder


def test_metrics_samples_and_evaluations_tell_the_tasks_apart(whole: Path) -> None:
    for row in rows(whole / "metrics.jsonl"):
        samples = rows(whole / "samples" / f"step-{row['step']:06d}.jsonl")
        groups = Counter(sample["task"] for sample in samples)
        assert sum(groups.values()) == 24 and len(groups) == 2
        for task, count in groups.items():
            own = [sample for sample in samples if sample["task"] == task]
            assert row[f"{task}/groups"] == count / 4
            assert row[f"{task}/solved"] == sum(sample["correct"] for sample in own) / count
            assert row[f"{task}/reward"] == pytest.approx(sum(sample["reward"] for sample in own) / count)
            names = {name.split("/")[2] for name in row if name.startswith(f"{task}/rewards/")}
            assert names == own[0]["rewards"].keys()
    after = json.loads((whole / "eval" / "after.json").read_text())
    assert {task: own["n"] for task, own in after["tasks"].items()} == {"letters": 3, "arithmetic": 6}
    together = sum(own["solved"] * own["n"] for own in after["tasks"].values()) / 9
    assert after["correct"] == pytest.approx(together)
    titles = [panel["title"] for panel in draw_panels({"run": [read_run(whole)]})]
    assert "Solved, by task" in titles


def test_a_loss_may_not_return_a_metric_under_the_name_of_a_tasks_figure(tmp_path: Path) -> None:
    """Also if it returns it for completions of the model alone, and not in the trial."""
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass, replace\n"
        "import torch\n"
        "from spg_trainer.algorithms import Metric\n"
        "from spg_trainer.algorithms.mapg import MAPG\n\n"
        "@dataclass(frozen=True)\n"
        "class Mine(MAPG):\n"
        "    def loss(self, logps, masks, batch):\n"
        "        own = {'letters/reward': Metric(torch.zeros(()), 'update')} if len(batch.prompt_ids[0]) > 8 else {}\n"
        "        result = super().loss(logps, masks, batch)\n"
        "        return replace(result, metrics=result.metrics | own)\n"
    )
    config = small_config(
        tmp_path / "run", **SETTINGS, algorithm=f"{tmp_path}/mine.py:Mine", algorithm_args={}
    )
    with pytest.raises(
        TrainingError, match=r"metric 'letters/reward', .* Rename it, e\.g\. to 'mine_letters_"
    ):
        train(config, quiet=True)


def test_a_run_of_several_tasks_resumes_bit_for_bit(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(small_config(folder, **{**SETTINGS, "max_steps": 1}), quiet=True)
    train(small_config(None, resume=str(folder), **SETTINGS), quiet=True)
    assert_equal_runs(folder, whole)
    with pytest.raises(ConfigError, match=r"env_args\.arithmetic\.weight was 2, now 3"):
        other = {**SETTINGS, "env_args": {**SETTINGS["env_args"], "arithmetic.weight": 3}}
        train(small_config(None, resume=str(folder), max_steps=9, **other), quiet=True)


def test_eval_opens_the_tasks_of_a_run(whole: Path, tmp_path: Path) -> None:
    command = resolve(
        EvalCommand, ["--model", str(whole), "--num-problems", "6", "--output-dir", str(tmp_path)]
    )
    assert command.config.env == MIXED and command.config.env_args == SETTINGS["env_args"]
    (result,) = run_eval(command.config, quiet=True)
    assert {task: own["n"] for task, own in result.tasks.items()} == {"letters": 2, "arithmetic": 4}


def test_flags_name_several_tasks_with_arguments_of_each(tmp_path: Path) -> None:
    tasks = parse_tasks("countdown:level=2 + ./a/my.py:my/T-v0")
    assert list(mixture.tasks_of(join_names(tasks)).values()) == [task.env for task in tasks]
    typed = resolve(Config, ["--env", "countdown:level=2", "gsm8k:weight=2,level=3", "--seed", "1"])
    assert typed.config.env == "countdown + gsm8k" and typed.origins["env_args.gsm8k.weight"] == "flag"
    made = {"gsm8k.source": "generated", "countdown.level": 2, "gsm8k.weight": 2, "gsm8k.level": 3}
    assert typed.config.env_args == made
    file = tmp_path / "mixed.yaml"
    file.write_text("env: countdown:level=2 + gsm8k:weight=2,level=3\n")
    assert resolve(Config, ["--config", str(file)]).config.env_args == made
    assert resolve(Config, ["--env", "countdown:level=2"]).config.env_args == {"level": 2}


def test_lengths_are_those_of_the_longest_task() -> None:
    both, one = (defaults(Config, env).rollout for env in ("countdown + gsm8k", "gsm8k"))
    assert both == one
    assert defaults(EvalCommand, "gsm8k + countdown").rollout.max_completion_length == (20,)
    assert defaults(Config, "countdown + gsm8k", source="demonstrations").rollout.max_completion_length == 20
    assert (
        defaults(Config, "countdown + sorting", source="demonstrations").rollout.max_completion_length == 0
    )  # as long as they need


def test_the_embedded_model_is_that_of_the_first_task_that_has_one() -> None:
    weights = resolve_model("tiny", "sorting + countdown")
    assert weights.base.endswith("tiny-countdown") and "nothing of the other tasks" in weights.note
    assert not resolve_model("tiny", "countdown").note and not resolve_model("tiny", "sudoku + sudoku").note


def test_own_files_of_one_name_are_kept_apart(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = []
    for number, letter in enumerate("ae"):
        folder = tmp_path / letter
        folder.mkdir()
        names.append(write_task(f"./{letter}/task.py", Mine, id=f"test/OwnTwin{number}-v0", LETTER=letter))
    run = tmp_path / "run"
    whole = {
        **SETTINGS,
        "env": " + ".join(names),
        "env_args": {},
        "algorithm": "spg",
        "prompts_per_step": 4,
    }
    train(small_config(run, max_steps=1, **whole), quiet=True)
    kept = sorted(file.relative_to(run).as_posix() for file in (run / "environment").rglob("*.py"))
    assert kept == ["environment/2/task.py", "environment/task.py"]
    assert [
        f"LETTER = '{letter}'" in (run / file).read_text() for file, letter in zip(kept, "ea", strict=True)
    ] == [True] * 2
    (tmp_path / "e" / "task.py").write_text((tmp_path / "e" / "task.py").read_text().replace("1.0", "0.5"))
    own = f"{tmp_path}/a/task.py:test/OwnTwin0-v0 + {run}/environment/2/task.py:test/OwnTwin1-v0"
    with pytest.raises(ConfigError, match=rf"{run}/environment/2/task\.py is a copy"):
        train(small_config(None, max_steps=2, resume=str(run), **whole), quiet=True)
    shutil.rmtree(tmp_path / "e")  # its copy is what goes on
    typed = resolve(Config, ["--resume", str(run)]).config
    assert typed.env == own
    pinned = pin(typed, build(typed.algorithm, typed.hyper_parameters))
    assert identity(pinned, find_inputs(file_settings(pinned))) == identity(
        read_config(run / "config.yaml"), read_inputs(run)
    )


def test_sft_gives_each_task_its_own_habits() -> None:
    env = envs.make("sudoku + countdown")
    mix = mix_shares({"right": 1, "careless": 1, "adder": 3}, env)
    problems, texts = draw_demonstrations(env, mix, 0, 0, 400)
    shares = {}
    for problem, text in zip(problems, texts, strict=True):
        shares.setdefault(problem.task, []).append(text == env.demonstration(problem))
    assert np.mean(shares["sudoku"]) == pytest.approx(1 / 2, abs=0.12)
    assert np.mean(shares["countdown"]) == pytest.approx(1 / 4, abs=0.12)
    with pytest.raises(ConfigError, match=r"mix has nothing for countdown\. Give .* right, adder"):
        mix_shares({"careless": 1}, env)
    with pytest.raises(ConfigError, match=r"no such habit\. Use: right, careless, adder"):
        mix_shares({"hasty": 1}, env)


@pytest.mark.slow
def test_sft_on_several_tasks_tells_each_apart(tmp_path: Path, capsys) -> None:
    words = "--env sorting arithmetic --mix right=1 alphabetical=1 hasty=1 --max-steps 2 --prompts-per-step 8"
    words += (
        " --device cpu --hidden-size 16 --num-layers 1 --num-heads 2 --intermediate-size 24 --eval-problems 8"
    )
    words += f" --validation-problems 8 --source demonstrations --output-dir {tmp_path / 'base'}"
    train(settle(words.split()))
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "sorting: the mix asks for 50% right: 32 of 32 sampled completions follow none of its rules yet"
        in said
        and "arithmetic: the mix" in said
    )
    assert "python -m spg_trainer --env sorting arithmetic --model" in said
    assert (
        json.loads((tmp_path / "base" / "model" / "environment.json").read_text())["env"]
        == "sorting + arithmetic"
    )
