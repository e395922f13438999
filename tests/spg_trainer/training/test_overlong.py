"""Problems whose prompts are too long for the model: known before step 1, or skipped and counted."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import envs
from envs import __main__ as envs_command
from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.evaluation.command import run_eval
from spg_trainer.evaluation.evaluate import evaluate
from spg_trainer.models import Policy, load_model
from spg_trainer.models.load import without_weights
from spg_trainer.rollout.long_prompts import Room, TooLong, report
from spg_trainer.rollout.tokens import encode_prompts
from spg_trainer.settings.configs import Config, EvalCommand
from spg_trainer.settings.decoding import EvalRollout
from spg_trainer.settings.model import LoadConfig, ModelConfig
from spg_trainer.training.loop import train
from tests.common import field_reports
from tests.common.field_reports import cases
from tests.common.sft_cases import SMALL, sft
from tests.common.trainer_cases import EVALUATION, change, rows, small_config, tiny_folder

LONG = "x" * 130
"""More characters than the test's model has positions, 128."""
COLUMNS = {"verifier": "gsm8k", "prompt": "question", "answer": "solution"}


class Stream(envs.TextEnv):
    """More problems than are measured; every third of them, from 1 on, is too long."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0}

    def __init__(self, split: str = "train", every: int = 3) -> None:
        self.split, self.every = split, every

    def __len__(self) -> int:
        return 1_000_000 if self.split == "train" else 4

    def problem(self, index: int) -> envs.Problem:
        long = self.split == "train" and index % self.every == 1 % self.every
        return envs.Problem(f"{index} {LONG if long else ''}", {})

    def score(self, problem: envs.Problem, completion: str) -> dict[str, float]:
        return {"correct": float("e" in completion)}


class LateInValidation(envs.TextEnv):
    """Six problems in each split; of those of `validation`, number 4 is too long."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0}

    def __init__(self, split: str = "train") -> None:
        self.split = split

    def __len__(self) -> int:
        return 6

    def problem(self, index: int) -> envs.Problem:
        return envs.Problem(f"{index} {LONG if (self.split, index) == ('validation', 4) else ''}", {})

    def score(self, problem: envs.Problem, completion: str) -> dict[str, float]:
        return {"correct": float("e" in completion)}


envs.register("test/Stream-v0", Stream)
envs.register("test/LateInValidation-v0", LateInValidation)


@pytest.fixture(scope="module")
def policy() -> Iterator[Policy]:
    yield load_model(str(tiny_folder()), device="cpu")


def write(path: Path, long: int, count: int = 60) -> str:
    """A file of rows of which the last `long` are too long."""
    content = [{"question": f"{n} + 1?", "solution": f"{n + 1}"} for n in range(count - long)]
    content += [{"question": f"{n} + {LONG}?", "solution": f"{n}"} for n in range(long)]
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return str(path)


def file_config(folder: Path, output: Path, **changes: Any) -> Config:
    return small_config(output, env=str(folder / "rows.jsonl"), env_args=COLUMNS, force=True, **changes)


def test_a_file_is_measured_before_the_first_step_and_its_lines_are_named(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", long=5)
    with pytest.raises(ConfigError) as refused:
        train(file_config(tmp_path, tmp_path / "run", eval_steps=1), quiet=True)
    said = str(refused.value)
    assert "5 of 60 problems are too long for the model" in said
    assert "rows.jsonl, line 56 (" in said and "line 57 (" in said and "line 58 (" in said
    assert "line 59" not in said and "2 more" in said
    assert "128 positions" in said and "118 tokens" in said
    assert "--overlong skip" in said and "Leave them out" in said and "0 or less" not in said
    assert not (tmp_path / "run").exists()


def test_skipping_is_recorded_counted_and_goes_on_where_a_run_was_refused(tmp_path: Path, capsys) -> None:
    """The run of the report: rows were added to the file of a run, so to say, and the run goes on."""
    write(tmp_path / "rows.jsonl", long=20)
    summary = train(file_config(tmp_path, tmp_path / "run", overlong="skip", max_steps=4))
    said = capsys.readouterr()
    assert "They are skipped." in said.out + said.err and summary["steps"] == 4
    assert "overlong: skip" in (tmp_path / "run" / "config.yaml").read_text()
    counts = [row["overlong_skipped"] for row in rows(tmp_path / "run" / "metrics.jsonl")]
    assert len(counts) == 4 and sum(counts) > 0
    prompts = [row["prompt"] for file in (tmp_path / "run" / "samples").iterdir() for row in rows(file)]
    assert prompts and not [prompt for prompt in prompts if LONG in str(prompt)]


def test_the_setting_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", long=0)
    config = file_config(tmp_path, tmp_path / "run", max_steps=1)
    train(config, quiet=True)
    train(change(config, overlong="skip", max_steps=2, resume=str(tmp_path / "run")), quiet=True)
    steps = rows(tmp_path / "run" / "metrics.jsonl")
    assert [row.get("overlong_skipped") for row in steps] == [None, 0]


def test_too_few_problems_that_fit_are_told(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", long=55)
    with pytest.raises(ConfigError, match=r"--prompts-per-step 16.*are too long"):
        train(file_config(tmp_path, tmp_path / "run", overlong="skip", prompts_per_step=16), quiet=True)


@pytest.mark.parametrize("counts", [(0, 2), (2, 0), (5, 2), (2, 5)], ids=str)
def test_of_evaluations_and_validations_on_one_split_the_larger_count_is_measured(
    counts: tuple[int, int], tmp_path: Path
) -> None:
    of_evaluations, of_validations = counts
    config = small_config(tmp_path / "run", env="test/LateInValidation-v0", force=True, eval_steps=1)
    config = change(config, eval_split="validation", eval_problems=of_evaluations)
    config = change(config, validation_problems=of_validations)
    with pytest.raises(ConfigError, match="validation problem 4"):
        train(config, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_problem_of_a_stream_is_named_by_task_split_and_index(tmp_path: Path) -> None:
    config = small_config(tmp_path / "run", env="test/Stream-v0", force=True)
    with pytest.raises(
        ConfigError, match=r"stream: the prompt of train problem \d+ has \d+ tokens.*--overlong skip"
    ):
        train(config, quiet=True)


def test_problems_of_two_tasks_with_one_name_are_two(policy: Policy) -> None:
    found = TooLong(Room(policy, 4))
    for task in ("countdown", "sudoku"):
        found.add_prompts(task, "train", 2, {"train problem 0": 99})
    told = found.text
    assert "2 of 4 problems are too long" in told
    assert "countdown, train problem 0 (99 tokens), sudoku, train problem 0 (99 tokens)" in told


def test_of_a_stream_the_next_problem_is_taken(policy: Policy) -> None:
    env = Stream()
    asked = np.array([1, 3, 2, 7])
    chosen, skipped = Room(policy, 10).next_fitting(env, asked)
    assert chosen.tolist() == [5, 3, 2, 8] and skipped == 3  # 1, 4, and 7; 2 and 3 are taken
    same, none = Room(policy, 10).next_fitting(env, np.array([0, 2, 3]))
    assert same.tolist() == [0, 2, 3] and none == 0
    with pytest.raises(ConfigError, match="Stream, train problem 5: neither it nor"):
        Room(policy, 10).next_fitting(Stream(every=1), np.array([5]))


def test_a_stream_trains_with_the_problems_that_fit(tmp_path: Path) -> None:
    config = small_config(tmp_path / "run", env="test/Stream-v0", force=True, overlong="skip")
    train(config, quiet=True)
    assert sum(row["overlong_skipped"] for row in rows(tmp_path / "run" / "metrics.jsonl")) > 0


def test_an_evaluation_refuses_or_skips_too(policy: Policy, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", long=3, count=12)
    env = envs.make(path, split="test", test=path, **COLUMNS)
    with pytest.raises(ConfigError, match=r"3 of 12 problems.*rows\.jsonl, line 10"):
        evaluate(policy, env, EVALUATION)
    result = evaluate(policy, env, EVALUATION, overlong="skip")
    assert (result.n, result.overlong_skipped, result.settings["num_problems"]) == (9, 3, 9)
    assert result.summary()["overlong_skipped"] == 3
    command = EvalCommand(
        env=path,
        env_args={**COLUMNS, "test": path},
        rollout=EvalRollout(max_completion_length=(10,), block_length=10),
        output_dir=str(tmp_path / "found"),
        model=LoadConfig(model=str(tiny_folder()), device="cpu"),
    )
    with pytest.raises(ConfigError, match="3 of 12 problems"):
        run_eval(command, quiet=True)
    (result,) = run_eval(replace(command, overlong="skip"), quiet=True)
    (again,) = run_eval(replace(command, overlong="skip"), quiet=True)
    assert result.n == again.n == 9 and "overlong_skipped" in result.summary()


@pytest.mark.slow
def test_envs_check_measures_against_a_model(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(envs_command, "check", lambda *_, **__: [])  # what else it checks takes seconds
    path = write(tmp_path / "rows.jsonl", long=3, count=120)
    words = ["check", path, "--verifier", "gsm8k", "--env-args", "prompt=question", "answer=solution"]
    model = ["--model", str(tiny_folder())]
    assert envs_command.main([*words, *model, "--max-completion-length", "10"]) == 1
    said = capsys.readouterr().out
    assert re.search(
        r"FAILS +lengths +rows\S+ .*: 3 of 120 problems are too long .*rows\.jsonl, line 118 ", said
    )
    assert "118 tokens" in said and "--overlong skip" in said


def test_what_is_measured_for_a_check() -> None:
    ok, text = report("arithmetic", {}, "tiny", 5, 0)
    assert ok and "517 prompts leave room" in text, "5 of the stream, and all of validation and test"
    with pytest.raises(ModelError, match="is no folder"):
        report("arithmetic", {}, "nowhere/at/all", 5, 0)
    policy = load_model("tiny", device="cpu")
    light = without_weights(ModelConfig("tiny"), "sudoku")
    for name in ("mask_id", "pad_id", "end_token_ids"):
        assert getattr(light, name) == getattr(policy, name)
    assert encode_prompts(light, ["What?"])[0].tolist() == encode_prompts(policy, ["What?"])[0].tolist()


def test_sft_names_rows_that_are_too_long_or_skips_them(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    content = [{"prompt": f"say {n}", "completion": str(n)} for n in range(60)]
    content += [
        {"prompt": f"say {LONG}", "completion": "1"},
        {"prompt": "say much", "completion": "much " * 9},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    model = ModelConfig(model=str(tiny_folder()), device="cpu")
    command = change(SMALL, env="", data=str(path), model=model, output_dir=str(tmp_path / "base"))
    with pytest.raises(
        ConfigError, match=r"1 of 62 problems is too long for the model: texts\.jsonl, line 61"
    ):
        sft(command)
    fitting = tmp_path / "fitting.jsonl"
    fitting.write_text("".join(json.dumps(row) + "\n" for row in [*content[:60], content[61]]))
    with pytest.raises(
        ConfigError, match=r"1 of 61 completions has more than 8 .* fitting\.jsonl, line 61.*skip"
    ):
        sft(change(command, data=str(fitting)))
    sft(change(command, overlong="skip", max_steps=8, prompts_per_step=32))
    assert (tmp_path / "base" / "model" / "config.json").is_file()


@pytest.mark.parametrize(
    "text", ["plain", "x" * 100, "x" * 112, "x" * 113, "\u00e9" * 60, "\U0001f642" * 40, LONG]
)
def test_what_is_measured_is_what_is_encoded(policy: Policy, text: str) -> None:
    class One(Stream):
        def problem(self, index: int) -> envs.Problem:
            return envs.Problem(text, {})

    tokens = int(encode_prompts(policy, [text])[1].sum())
    assert Room(policy, 10).long_problems(One(), [0]) == ({0: tokens} if tokens > 118 else {})


@pytest.mark.parametrize(("given", "right"), cases(field_reports.LONG_PROMPTS))
def test_a_reported_length_is_told_before_it_is_sampled(policy: Policy, given: Any, right: bool) -> None:
    tokens, length, positions = given
    scale = max(1, positions // 128)  # the reports' models are larger than the test's

    class One(Stream):
        def problem(self, index: int) -> envs.Problem:
            return envs.Problem("x" * (tokens // scale), {})

    assert bool(Room(policy, length // scale).long_problems(One(), [0])) is right


def test_rows_that_the_chat_template_refuses_are_named_before_anything_else(tmp_path: Path, policy) -> None:
    turns = [["developer" if n in (17, 30) else "system", "user"] for n in range(40)]
    chats = [[{"role": role, "content": "Be brief."} for role in roles] for roles in turns]
    content = [{"question": chat, "solution": "7"} for chat in chats]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    with pytest.raises(ConfigError) as refused:
        for split in ("train", "validation", "test"):
            env = envs.make(str(tmp_path / "rows.jsonl"), split=split, **COLUMNS)
            Room(policy, 10).long_problems(env, range(len(env)))
    said = str(refused.value)
    assert "line 18" in said or "line 31" in said
    assert "refuses a conversation of developer, user: unknown role developer" in said
