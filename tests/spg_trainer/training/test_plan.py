"""What a training starts from is found out once, whether it is started from Python or from the command line."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import envs
from envs.errors import EnvError
from spg_trainer import cli
from spg_trainer.errors import ConfigError
from spg_trainer.runs.checkpoint import step_of
from spg_trainer.runs.folder import RunFolder, refuse_locked
from spg_trainer.runs.inputs import file_settings, find_inputs
from spg_trainer.settings.check import check
from spg_trainer.settings.configs import Config
from spg_trainer.settings.recorded import to_yaml
from spg_trainer.settings.resolve import defaults, resolve
from spg_trainer.settings.task import parse_tasks
from spg_trainer.training import loop, plan
from spg_trainer.training.plan import settle, where_to_go_on
from tests.common.pair_cases import COUNT, pair_config, pairs_file
from tests.common.sft_cases import SMALL
from tests.common.trainer_cases import change, rows, small_config, start

ONCE = {
    "settle": 1,
    "open_run": 1,
    "make_accelerator": 1,
    "open_policy": 1,
    "choose_folder": 1,
    "build": 1,
    "pin": 1,
    "open_splits": 1,
    "check_settled": 1,
    "check_splits": 1,
    "refuse_other_run": 1,
    "check_values": 8,
}


class Counts(Counter[str]):
    """How often each function of the trainer is called inside a `with`."""

    def __enter__(self) -> "Counts":
        sys.setprofile(self.watch)
        return self

    def __exit__(self, *raised: object) -> None:
        sys.setprofile(None)

    def watch(self, frame: Any, event: str, argument: object) -> None:
        if event == "call" and "spg_trainer" in frame.f_code.co_filename:
            self[frame.f_code.co_name] += 1


def test_a_start_finds_everything_out_once(tmp_path: Path, monkeypatch) -> None:
    """The settings, their six groups and the hyper-parameters have ranges."""
    monkeypatch.setattr(loop, "train", lambda planned: start(planned).folder.release())
    line = ["--env", "sudoku", "--device", "cpu", "--output-dir", str(tmp_path / "typed")]
    with Counts() as typed:
        assert cli.main(line) == 0
    with Counts() as called:
        start(small_config(tmp_path / "called")).folder.release()
    for counts in (typed, called):
        assert {name: counts[name] for name in ONCE} == ONCE
    assert typed["make_env"] == 3 and called["make_env"] == 2  # each split; only the first one validates
    assert typed["resolve"] == 1


def test_a_run_that_was_begun_since_the_folder_was_chosen_is_left_alone(tmp_path: Path) -> None:
    """It was taken for the one that goes on, and cut back to its start."""
    config = small_config(tmp_path / "run", max_steps=1, save_steps=1)
    planned = settle(config)
    loop.train(config, quiet=True)
    with pytest.raises(ConfigError, match="already holds a run of 1 step"):
        start(planned)
    refuse_locked(tmp_path / "run")  # a start that fails leaves no lock
    assert [row["step"] for row in rows(tmp_path / "run" / "metrics.jsonl")] == [1]
    assert (tmp_path / "run" / "summary.json").is_file()


def test_a_start_reads_a_file_of_pairs_once(tmp_path: Path) -> None:
    config = pair_config(tmp_path / "run", pairs_file())
    with Counts() as counts:
        start(config).folder.release()
    assert counts["read_pairs"] == 1 and counts["read_pair"] == COUNT


def test_a_whole_run_finds_out_no_more_than_its_start(tmp_path: Path) -> None:
    """Evaluations take what the plan has checked, and a resume what it has built; it has a folder already."""
    config = small_config(tmp_path / "run", max_steps=1)
    parse_tasks.cache_clear()
    with Counts() as begun:
        loop.train(config, quiet=True)
    with Counts() as resumed:
        assert cli.main(["--resume", config.output.output_dir, "--max-steps", "2"]) == 0
    assert {name: begun[name] for name in ONCE} == ONCE
    assert {name: resumed[name] for name in ONCE} == {**ONCE, "refuse_other_run": 0}
    assert begun["evaluate_checked"] == 2 and resumed["evaluate_checked"] == 1
    assert begun["resolve"] == 1  # to tell of settings that only the recipe has
    assert begun["parse_tasks"] == resumed["parse_tasks"] == 1  # the second command line names no task


@pytest.mark.parametrize("mixed_with", ["", " + count"])
def test_rows_without_a_demonstration_are_refused_or_left_out_by_bad_rows(
    tmp_path: Path, mixed_with: str
) -> None:
    """Every sixth chat ends with the user; it is no bad row for RL."""
    asked = [[{"role": "user", "content": f"{i}+1?"}] for i in range(60)]
    chats = [
        chat + [{"role": "assistant", "content": f"{i + 1}"}] * (i % 6 > 0) for i, chat in enumerate(asked)
    ]
    rows = [{"messages": chat, "answer": str(i + 1)} for i, chat in enumerate(chats)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prefix = "chats." if mixed_with else ""

    def planned(**more: object) -> plan.Plan:
        args = {f"{prefix}verifier": "gsm8k", **{f"{prefix}{name}": value for name, value in more.items()}}
        return settle(change(SMALL, env=f"{tmp_path / 'chats.jsonl'}{mixed_with}", env_args=args, force=True))

    with pytest.raises(
        EnvError, match=r"7 of 43 train rows of chats.* have no .*line 1; .* bad_rows=\"skip\"\.$"
    ):
        planned()
    train = planned(bad_rows="skip").splits["train"]
    assert "Left out: 7 of 43 train rows" in train.notice and "4 more" in train.notice
    assert len(train.parts["chats"] if mixed_with else train) == 36
    assert len(envs.make(str(tmp_path / "chats.jsonl"), verifier="gsm8k", split="train")) == 43


def test_bad_rows_are_also_those_of_the_texts_beside_a_task(tmp_path: Path) -> None:
    texts = [{"prompt": f"{i}+1?", "completion": str(i + 1) if i else ""} for i in range(60)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    problems = [{"prompt": f"{i}+2?", "answer": str(i + 2)} for i in range(60)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    args = {"verifier": "gsm8k", "bad_rows": "skip"}
    files = {"data": str(tmp_path / "texts.jsonl"), "env": str(tmp_path / "sums.jsonl")}
    splits = plan.open_splits(change(SMALL, source="demonstrations", env_args=args, **files))
    assert len(splits["train"]) + len(splits["held_out"]) == 59 and "1 of 60 rows" in splits["train"].notice
    # Beside another task they are those of the texts alone, and the task is recorded without them.
    for env, recorded in (("gsm8k:source=generated", {"source": "generated"}), ("countdown + sudoku", {})):
        words = ["--source", "demonstrations", "--data", files["data"], "--bad-rows", "skip"]
        config = resolve(Config, [*words, "--model", "tiny:gsm8k", "--env", env]).config
        check(config)
        splits = plan.open_splits(config)
        assert len(splits["train"]) + len(splits["held_out"]) == 59
        arguments = config.task_arguments
        assert {name: arguments[name] for name in recorded} == recorded and "bad_rows" not in arguments
        envs.make(config.env, split="test", **arguments)
    mixed = [files["env"], "countdown", "--verifier", "gsm8k"]
    config = resolve(Config, [*words, "--model", "new", "--env", *mixed]).config
    assert config.env_args["sums.bad_rows"] == "skip"
    assert "1 of 60 rows" in plan.open_splits(config)["train"].notice


def test_bad_rows_that_nothing_takes_are_refused_by_the_name_of_the_flag() -> None:
    """The task is the model's own, so that it is known only after all settings are."""
    for words in (["--model", "tiny:gsm8k"], ["--env", "gsm8k"], ["--env", "gsm8k:source=generated"]):
        with pytest.raises(ConfigError, match=r"--bad-rows skip: gsm8k judges its answers itself"):
            check(resolve(Config, [*words, "--bad-rows", "skip"]).config)
    with pytest.raises(
        ConfigError, match=r"--bad-rows skip: countdown and gsm8k judge their answers themselves"
    ):
        check(resolve(Config, ["--env", "countdown", "gsm8k", "--bad-rows", "skip"]).config)


def test_a_plan_has_what_was_opened_to_make_it() -> None:
    whole = settle(small_config(None))
    assert whole.config.algorithm_args["num_masks"] == whole.algorithm.num_masks
    assert whole.splits.keys() == {"train", "test"} and whole.checkpoint is None


def test_a_folder_without_a_run_is_no_run_that_goes_on(tmp_path: Path) -> None:
    """`--resume auto` may name a folder that is to be made: an untaught model is refused there as in any new run."""
    config = defaults(Config, env="sorting", output_dir=str(tmp_path / "new"), resume="auto")
    with pytest.raises(
        ConfigError, match=r"sorting with --model tiny: the small model .* knows nothing of this task"
    ):
        settle(config)


@pytest.mark.parametrize(("edited", "goes_on"), [(False, 4), (True, 2)])
def test_a_rate_that_fell_by_validations_of_other_code_falls_anew(
    tmp_path, monkeypatch, caplog, edited, goes_on
) -> None:
    """The rate fell from step 2 on, after two validations that brought nothing, and the run was killed at step 4."""
    task, run = tmp_path / "task.py", tmp_path / "run"
    task.write_text("# as it was\n")
    settings = {
        "lr_schedule": "warmup_stable_decay",
        "patience": 2,
        "max_steps": 60,
        "env": f"{task}:my/T-v0",
    }
    config = change(Config(), **settings, accept_changed_code=True)
    folder = RunFolder(run)
    folder.create(to_yaml(config), {}, find_inputs(file_settings(config)))
    for step in range(3):
        folder.write_evaluation(f"step-{step:06d}", {"correct": 0.0}, [{"correct": False}])
    monkeypatch.setattr(plan, "require_up_to", lambda run, step: run / f"checkpoints/step-{step:06d}")
    if edited:
        task.write_text("# as it is now\n")
    last = run / "checkpoints/step-000004"
    assert step_of(where_to_go_on(run, last, config, config, find_inputs(file_settings(config)))) == goes_on
    assert ("makes the later ones again" in caplog.text) is (goes_on != 4)
