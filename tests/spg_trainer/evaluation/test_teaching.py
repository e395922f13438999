"""The command that teaches a task: one that sft takes, whatever the task has to imitate."""

import shlex
from pathlib import Path

import pytest

import envs
from spg_trainer.evaluation.habits import sft_command
from spg_trainer.rollout.demonstrations import draw_demonstrations, mix_shares
from spg_trainer.settings.check import check
from spg_trainer.settings.configs import Config
from spg_trainer.settings.resolve import resolve
from tests.common import sft_cases, trainer_cases


@pytest.mark.parametrize(
    ("env", "arguments", "mix"),
    [
        ("count", {}, "right=0.4 short=0.3 wordy=0.3"),
        ("guess", {"level": 2}, "right=0.4 careless=0.6"),
        ("gymnasium:FrozenLake-v1", {"is_slippery": False}, "random=1 hasty=1 planned=1"),
        ("gymnasium:Blackjack-v1", {}, "random=1 basic=1 bold=1 cautious=1"),
        ("sorting + guess", {"guess.level": 2}, None),
        ("count + gymnasium:FrozenLake-v1", {}, "short=1 wordy=1 random=1 hasty=1 planned=1"),
    ],
)
def test_a_task_is_taught_by_what_it_has_to_imitate(env: str, arguments: dict, mix: str | None) -> None:
    task = envs.make(env, **arguments)
    words = shlex.split(sft_command(task, env, arguments))
    assert words[:4] == ["python", "-m", "spg_trainer", "sft"] and words[-2:] == ["--output-dir", "base"]
    command = resolve(Config, ["--source", "demonstrations", *words[4:]]).config
    check(command)
    assert (command.env, command.env_args, command.model.model) == (env, arguments, "new")
    assert mix is None or f"--mix {mix} --output-dir" in " ".join(words)
    draw_demonstrations(task, mix_shares(command.mix, task), 0, 0, 20)  # raises for habits that are not there


def test_what_only_some_problems_have_is_no_part_of_it(monkeypatch) -> None:
    habits = sft_cases.Count.habits
    few = {0: ("short", "wordy")}
    monkeypatch.setattr(
        sft_cases.Count,
        "habits",
        lambda self, p: {n: habits(self, p)[n] for n in few.get(p.reference["number"], ("wordy",))},
    )
    assert "--mix right=0.4 wordy=0.6 " in sft_command(envs.make("count"), "count", model="tiny")
    monkeypatch.setattr(sft_cases.Count, "habits", lambda self, p: {})
    assert sft_command(envs.make("count"), "count", None, "./my base").endswith(
        "--env count --mix right=1 --model './my base' --output-dir base"
    )
    assert sft_command(envs.make("count"), "count", None, "runs/base").endswith("--output-dir base2")


def test_what_habits_change_is_their_own(monkeypatch) -> None:
    problems = [envs.Problem(f"count {number}", {"number": number}) for number in range(9)]
    monkeypatch.setattr(sft_cases.Count, "problem", lambda self, index: problems[index])
    monkeypatch.setattr(
        sft_cases.Count, "habits", lambda self, problem: {"short": f"{problem.reference.pop('number')}"}
    )
    for _ in range(2):
        assert "--mix right=0.4 short=0.6 " in sft_command(envs.make("count"), "count")


def test_a_task_without_anything_to_imitate_is_taught_by_a_file() -> None:
    for name in (trainer_cases.ENV, f"{trainer_cases.ENV} + count"):
        command = sft_command(envs.make(name), name)
        assert command == "python -m spg_trainer sft --data FILE --output-dir base"


def test_rows_of_ones_own_are_taught_by_a_column_of_theirs(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "2 + 2?", "answer": "4"}\n' * 3)
    task = envs.make(str(file), verifier="gsm8k")
    command = sft_command(task, str(file), {"verifier": "gsm8k"})
    assert f"--env {file} --env-args verifier=gsm8k demonstration=COLUMN --output-dir base" in command
