"""`verifiers:NAME`: tasks of another package of that name, in processes of another Python."""

import json
import os
import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

import envs
from envs import EnvError
from envs.__main__ import main
from envs.adapters.verifiers_package import env as room
from tests.common.prime_verifiers import python_with, taskset

SPLITS = ("train", "validation", "test")


@pytest.fixture
def other(tmp_path: Path) -> str:
    return python_with(tmp_path, {"sums": taskset()})


def test_a_taskset_is_an_environment_that_pays_what_the_package_does(other):
    splits = {split: envs.make("verifiers:sums", split=split, python=other) for split in SPLITS}
    prompts = {split: [env.problem(i).prompt for i in range(len(env))] for split, env in splits.items()}
    assert sorted(prompt for of_split in prompts.values() for prompt in of_split) == sorted(
        f"{i} + {i}" for i in range(40)
    )
    many = envs.TextVectorEnv(splits["train"], 12)
    many.reset(options={"index": range(12)})
    right = [str(eval(prompt)) for prompt in prompts["train"][:12]]
    wrong = [*right[:8], "no", "raise", "-1", ""]
    _, rewards, _, _, info = many.step(wrong)
    expected = [1 + 0.5 / (1 + len(text)) for text in right[:8]] + [0.5 / 3, 0, 0.5 / 3, 0.5]
    assert rewards == pytest.approx(np.array(expected))
    assert info["correct"].tolist() == [True] * 8 + [False] * 4
    assert info["reason"] == ["ok"] * 8 + ["wrong", "error", "wrong", "wrong"]
    assert "ValueError: not a number" in info["traceback"][9]
    assert info["extracted"][0] == "right 1, short 0.25"
    assert splits["train"].spec_name == "verifiers:sums"


def test_settings_are_the_tasksets_and_a_count_of_tasks_is_ours(other):
    env = envs.make("verifiers:sums", python=other, num_tasks=20)
    assert len(env) < 20 and env.spec_name == "verifiers:sums[num_tasks=20]"
    assert len(env) == len(envs.make("verifiers:sums", python=other, num_problems=20))
    for settings, why in (
        ({"levels": 3}, "cannot be opened .*unknown {'levels'}"),
        ({"num_tasks": 0}, "has no tasks"),
        ({"num_tasks": 1, "split": "test"}, "of 1 tasks none is for"),
        ({"num_problems": 0}, "num_problems=0 must be 1 or more"),
    ):
        with pytest.raises(EnvError, match=why):
            for split in SPLITS:
                envs.make("verifiers:sums", **{"split": split, "python": other, **settings})


def test_a_reward_that_hangs_is_killed_and_counted_as_a_time_out(other, monkeypatch):
    monkeypatch.setattr(room, "SECONDS", 2.0)
    env = envs.make("verifiers:sums", python=other, num_tasks=30)
    many = envs.TextVectorEnv(env, 3)
    many.reset(options={"index": [0, 1, 2]})
    info = many.step(["no", "hang", "no"])[4]
    assert info["reason"] == ["wrong", "timeout", "wrong"]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (
            {"more": "\n    async def setup(self, trace, runtime): ..."},
            "have a setup hook, which needs a runtime",
        ),
        ({"more": "\n    NEEDS_CONTAINER = True"}, "need a container"),
        ({"fields": ", image='x'"}, "need a container"),
        (
            {"more": "\n    @classmethod\n    def toolsets(cls, config):\n        return [1]"},
            "its tasks have tools",
        ),
        (
            {"more": "\n    def plugged_judges(self):\n        return [1]"},
            "scored by a judge, which needs a network",
        ),
        (
            {"more": "\n    @vf.reward()\n    async def files(self, trace, runtime):\n        return 1"},
            "files needs a runtime",
        ),
        (
            {"data": "def SumData(**fields):\n    return vf.TaskData(**{**fields, 'prompt': None})\n\n\n"},
            "is refused: the conversation is opened by a user",
        ),
        ({"data": "SumData = vf.TaskData\n\n\nclass Env: ...\n\n\n"}, "an environment of its own, Env"),
    ],
)
def test_tasks_that_need_more_than_a_reply_are_refused(tmp_path, code, why):
    python = python_with(tmp_path, {"sums": taskset(**code)})
    with pytest.raises(EnvError, match=f"verifiers:sums .*{why}"):
        envs.make("verifiers:sums", python=python)


def test_a_python_without_that_package_is_told_what_to_do(tmp_path, capsys):
    ours = python_with(tmp_path, {}, {"__init__": "__spg_trainer__ = '0.1.0'\n"})
    (old := tmp_path / "old").mkdir()
    for python, why in (
        ("", "needs the Python of another environment.*python -m venv"),
        ("no/such/python", "no/such/python is no program"),
        (ours, "whose `verifiers` is that of spg-trainer"),
        (
            python_with(old, {}, {"__init__": "__version__ = '0.1.14'\n"}),
            "needs verifiers 0.4 or newer.*has 0.1.14",
        ),
    ):
        with pytest.raises(EnvError, match=why):
            envs.make("verifiers:sums", python=python)
    assert main(["show", "verifiers:sums"]) == 2
    assert "pip install verifiers PACKAGE" in capsys.readouterr().err


def test_the_commands_of_the_page_open_such_a_taskset(tmp_path, monkeypatch, capsys):
    from spg_trainer.cli import main as trainer
    from spg_trainer.settings.weights import models_folder

    page = Path(__file__).resolve().parents[2] / "docs/environments/verifiers_package.md"
    if not page.is_file():
        pytest.skip("no pages beside the tests")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    (tmp_path / "other/bin").mkdir(parents=True)
    python_with(tmp_path / "other/bin", {"my_sums": taskset()})
    show, train = re.search(r"```bash\n(.*?)```", page.read_text(), re.S)[1].splitlines()
    assert main(shlex.split(show)[3:]) == 0
    assert re.search(r"\d+ \+ \d+", capsys.readouterr().out)
    train = train.replace("GSAI-ML/LLaDA-8B-Instruct", str(models_folder() / "tiny-countdown"))
    few = "--max-steps 1 --prompts-per-step 2 --num-generations 2 --eval-problems 4 --no-report --output-dir run"
    few += " --max-completion-length 8 --block-length 8 --diffusion-steps 4"
    assert trainer([*shlex.split(train)[3:], *few.split()]) == 0
    (row,) = map(json.loads, Path("run/metrics.jsonl").read_text().splitlines())
    assert row["env_errors"] == 0 and 0 < row["rewards/reward/mean"] <= 0.5


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1800)
def test_the_package_itself_answers_alike(tmp_path):
    """$SPG_PRIME_VERIFIERS: a Python that has it; else it is installed."""
    python = os.environ.get("SPG_PRIME_VERIFIERS")
    if not python:
        venv.create(tmp_path / "other", with_pip=True)
        python = str(tmp_path / "other/bin/python")
        subprocess.run([python, "-m", "pip", "install", "-q", "verifiers>=0.4"], check=True)
    data = "class SumData(vf.TaskData):\n    answer: int\n\n\n"
    code = taskset(data="").replace("class SumTask(", data + "class SumTask(")
    code = code.replace("(vf.Task)", "(vf.Task[SumData])").replace("(vf.Taskset)", "(vf.Taskset[SumTask])")
    (tmp_path / "sums_of_ours.py").write_text(code)
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{python}" "$@"\n')
    wrapper.chmod(0o755)
    env = envs.make("verifiers:sums-of-ours", python=str(wrapper))
    assert env.origin["verifiers"].startswith("version 0.")
    problems = [env.problem(i) for i in range(3)]
    right = [str(eval(problem.prompt)) for problem in problems]
    for problem, text in zip(problems, right, strict=True):
        env.reset(options={"index": problems.index(problem)})
        _, reward, _, _, info = env.step(text)
        assert reward == pytest.approx(1 + 0.5 / (1 + len(text))) and info["correct"]
    env.reset(options={"index": 0})
    assert env.step("raise")[4]["reason"] == "error"
    assert sys.executable != str(wrapper)
