"""The loop: reproducible, changed by nothing but a finite gradient, and keeping finished steps whatever ends it."""

import asyncio
import errno
import itertools
import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import envs
from spg_trainer import cli
from spg_trainer.algorithms.spg import SPG
from spg_trainer.errors import CheckpointError, ConfigError, TrainingError
from spg_trainer.evaluation import evaluate as evaluating
from spg_trainer.evaluation.evaluate import evaluate
from spg_trainer.models import load_model
from spg_trainer.rollout.problems import choose_problems
from spg_trainer.runs import files
from spg_trainer.runs.folder import RunFolder
from spg_trainer.runs.stop import SIGNALS, StopRequest, stopping
from spg_trainer.settings.resolve import defaults
from spg_trainer.training import evaluations, finish, first_rollout, records, update
from spg_trainer.training import run as run_module
from spg_trainer.training.loop import train
from spg_trainer.training.plan import settle
from tests.common.marks import slow_if
from tests.common.process_cases import half_dull
from tests.common.trainer_cases import (
    EVALUATION,
    PROBLEMS,
    Letters,
    adam_state,
    change,
    finished_run,
    rows,
    same_weights,
    saved_steps,
    small_config,
    snapshot,
    start,
    step,
    steps_of,
    tiny_folder,
    weights,
)
from tests.common.two_processes import left_by, outcomes, two_processes
from verifiers.user_code import CodeExited

ALL = ",".join(str(index) for index in range(PROBLEMS))


def test_equal_seeds_give_equal_bytes_and_another_seed_does_not(tmp_path):
    """Whatever the global generators hold; evaluating on the way and saving more often change nothing either."""
    finished, _ = finished_run()
    torch.manual_seed(123)
    np.random.seed(5)
    train(small_config(tmp_path / "again"), quiet=True)
    train(small_config(tmp_path / "other", seed=1, max_steps=1), quiet=True)
    for name in ("metrics.jsonl", "eval/after.jsonl"):
        assert (finished / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert same_weights(finished / "model", tmp_path / "again" / "model")
    first, other = (rows(folder / "metrics.jsonl") for folder in (finished, tmp_path / "other"))
    assert len(first) == 3 and first[0]["reward"] != other[0]["reward"]


# Groups without signal.


def test_completions_without_signal_are_not_scored_but_counted(tmp_path, monkeypatch):
    scored, original = [], SPG.loss

    def counted(self, logps, masks, batch):
        scored.append(len(logps))
        assert batch.totals["completions"] == 16
        return original(self, logps, masks, batch)

    monkeypatch.setattr(SPG, "loss", counted)
    settings = {"env_args": {"dull": half_dull()}, "per_device_batch_size": 4}
    train(small_config(tmp_path / "run", max_steps=1, **settings), quiet=True)
    (row,) = rows(tmp_path / "run" / "metrics.jsonl")
    assert set(scored) == {2}  # of each group of 4, however often a loss is asked for
    assert row["bound/share"] == 0.5 and row["frac_reward_zero_std"] == 0.5
    samples = rows(tmp_path / "run" / "samples" / "step-000001.jsonl")
    assert row["num_tokens"] == 16 * row["completions/mean_length"] > 16
    assert [sample["advantage"] for sample in samples[8:]] == [0.0] * 8


def test_a_step_in_which_nothing_has_a_signal_changes_no_weight(tmp_path):
    config = small_config(tmp_path / "run", env_args={"dull": ALL}, weight_decay=0.5, max_steps=2)
    summary = train(config, quiet=True)
    assert same_weights(tmp_path / "run" / "model", tiny_folder())
    assert adam_state(step(tmp_path / "run", 2)) == []
    assert summary["steps"] == 2 and summary["updates"] == 0
    assert [row["grad_norm"] for row in rows(tmp_path / "run" / "metrics.jsonl")] == [0.0] * 2


# Non-finite updates.


def poison(monkeypatch, when, what="gradient"):
    """Spoils the updates for which `when(number)` holds, counted from 0."""
    count, original = itertools.count(), update.gradient

    def poisoned(policy, *arguments):
        sums = original(policy, *arguments)
        if when(next(count)):
            if what == "loss":
                return {**sums, ("loss", "update"): float("nan")}
            next(policy.model.parameters()).grad.view(-1)[3] = float("inf")
        return sums

    monkeypatch.setattr(update, "gradient", poisoned)


@pytest.mark.parametrize("what", ["gradient", "loss"])
def test_a_non_finite_update_leaves_weights_and_optimizer_as_they_were(tmp_path, monkeypatch, what):
    poison(monkeypatch, lambda number: number == 1, what)
    folder = tmp_path / "run"
    summary = train(small_config(folder, save_steps=1, keep=9, warmup_steps=10), quiet=True)
    assert same_weights(step(folder, 1), step(folder, 2))
    states = [adam_state(step(folder, number)) for number in (1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True)) and states[0]
    assert not same_weights(step(folder, 2), step(folder, 3))
    assert all(tensor.isfinite().all() for tensor in weights(folder / "model").values())
    assert summary["steps"] == 3 and summary["updates"] == 2
    metrics = rows(folder / "metrics.jsonl")
    assert metrics[1]["grad_norm" if what == "gradient" else "loss"] is None
    rates = [row["learning_rate"] for row in metrics]
    assert rates == pytest.approx([1e-3, 2e-3, 2e-3]), "the warm-up counts applied updates"


def test_a_skipped_update_is_counted_and_left_out_of_the_means(tmp_path, monkeypatch):
    poison(monkeypatch, lambda number: number == 3)  # the second update of the second step
    train(small_config(tmp_path / "run", num_iterations=2, max_grad_norm=9.0))
    metrics = rows(tmp_path / "run" / "metrics.jsonl")
    assert [row["updates_skipped"] for row in metrics] == [0, 1, 0]
    assert all(None not in row.values() for row in metrics)
    assert metrics[1]["grad_norm_max"] == metrics[1]["grad_norm"], "that of the only finite update"
    assert metrics[2]["grad_norm_max"] > metrics[2]["grad_norm"]


def test_a_function_of_the_user_sees_each_step_and_changes_nothing(tmp_path):
    """It gets the row of metrics.jsonl and the completions with their tokens; it may do with them what it likes."""
    finished, _ = finished_run()
    seen = []

    def on_step(metrics, completions):
        seen.append(json.loads(json.dumps([metrics, completions])))
        torch.manual_seed(metrics["step"])
        metrics.clear()
        for completion in completions:
            completion["rewards"]["correct"] = 9.0
            completion.clear()

    train(small_config(tmp_path / "run"), quiet=True, on_step=on_step)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert same_weights(tmp_path / "run" / "model", finished / "model")
    assert [metrics for metrics, _ in seen] == rows(finished / "metrics.jsonl")
    samples = rows(finished / "samples" / "step-000002.jsonl")
    assert (
        len(samples) == 16
        and [{**row, **sample} for row, sample in zip(seen[1][1], samples, strict=True)] == seen[1][1]
    )
    for row in seen[1][1]:
        assert len(row["completion_ids"]) == len(row["tokens"])
        for chance, logp in zip(row["confidence"], row["unmask_logps"], strict=True):
            assert chance is None or np.exp(logp) == pytest.approx(chance, abs=1e-3)


def test_a_run_learns_where_the_user_has_switched_gradients_off(tmp_path):
    config = small_config(tmp_path / "run", max_steps=2, eval_problems=1, save_steps=0)
    with torch.inference_mode():
        train(config, quiet=True, on_step=lambda metrics, rows: torch.set_grad_enabled(False))
    assert [row["grad_norm"] > 0 for row in rows(tmp_path / "run" / "metrics.jsonl")] == [True, True]


def test_a_function_of_the_user_ends_the_run_and_records_metrics_of_its_own(tmp_path):
    def on_step(metrics, completions):
        return "stop" if metrics["step"] == 2 else {"rows": len(completions), "share": np.float32(0.5)}

    folder = tmp_path / "run"
    summary = train(small_config(folder, max_steps=5, save_steps=0), quiet=True, on_step=on_step)
    assert (summary["steps"], summary["ended_by"], summary["eval_after"]["step"]) == (2, "on_step", 2)
    first, second = rows(folder / "metrics.jsonl")
    assert (first["user/rows"], first["user/share"]) == (16, 0.5) and "user/rows" not in second
    assert saved_steps(folder) == [2]
    # The run goes on as one that --max-minutes has ended.
    again = train(small_config(folder, max_steps=3, save_steps=0, resume=str(folder)), quiet=True)
    assert (again["steps"], again["ended_by"]) == (3, "max_steps")
    for returned, words in (("Stop", "To end the run, return 'stop'"), ({"a": "1"}, "names and numbers")):
        config = small_config(tmp_path / words, max_steps=2, save_steps=0)
        with pytest.raises(ConfigError, match=words):
            train(config, quiet=True, on_step=lambda metrics, rows, returned=returned: returned)
        assert len(rows(tmp_path / words / "metrics.jsonl")) == 1


def test_a_working_directory_that_changes_leaves_the_run_where_it_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    config = small_config(Path("run"), max_steps=1, eval_problems=1, save_steps=0)

    def on_step(metrics, rows):
        os.chdir(tmp_path / "other")

    train(config, quiet=True, on_step=on_step)
    assert not [*Path.cwd().iterdir()] and RunFolder(tmp_path / "run").figures("after")
    assert "output_dir: run\n" in (tmp_path / "run" / "config.yaml").read_text()
    os.chdir(tmp_path)
    again = change(config, output_dir=None, resume="run", max_steps=2)
    assert train(again, quiet=True, on_step=on_step)["steps"] == 2
    assert not [*Path.cwd().iterdir()]


def test_what_the_function_of_the_user_does_to_a_row_stays_out_of_the_problem(tmp_path, monkeypatch):
    """Here the task gives the same chat and the same list in each step."""
    chat, marks, seen = [{"role": "user", "content": "add"}], [1, 2, 3], []
    monkeypatch.setattr(Letters, "problem", lambda self, index: envs.Problem(chat, {"marks": marks}))
    monkeypatch.setattr(Letters, "score", lambda self, *_: {"correct": 0.0, "letters": len(marks)})

    def on_step(metrics, completions):
        for given in completions:
            seen.append((given["prompt"][0]["content"], len(given["marks"]), given["reward"]))
            given["prompt"][0]["content"] += given["completion"]
            given["marks"].clear()

    config = small_config(tmp_path / "run", max_steps=2, eval_problems=0, validation_problems=0, force=True)
    train(config, quiet=True, on_step=on_step)
    assert seen == [("add", 3, 3.0)] * 32


def test_a_step_draws_from_the_problems_of_its_curriculum_and_so_does_a_resumed_run(tmp_path, monkeypatch):
    monkeypatch.setattr(Letters, "problems_at", lambda self, step: range(step, step + 4))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(small_config(whole, eval_problems=0), quiet=True)
    for steps in (1, 3):
        train(
            small_config(parts, eval_problems=0, max_steps=steps, resume="auto" if steps > 1 else None),
            quiet=True,
        )
    assert (parts / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    for number in (1, 2, 3):
        drawn = {row["index"] for row in rows(whole / "samples" / f"step-{number:06d}.jsonl")}
        assert drawn == set(range(number - 1, number + 3))
    monkeypatch.setattr(Letters, "problems_at", lambda self, step: range(3))
    with pytest.raises(ConfigError, match="at least --prompts-per-step 4 problems"):
        train(small_config(tmp_path / "few", eval_problems=0), quiet=True)


def test_an_error_in_the_function_of_the_user_comes_after_the_step_is_recorded(tmp_path):
    def on_step(metrics, completions):
        exit()

    with pytest.raises(CodeExited):
        train(small_config(tmp_path / "run", save_steps=0), quiet=True, on_step=on_step)
    assert len(rows(tmp_path / "run" / "metrics.jsonl")) == 1 and saved_steps(tmp_path / "run") == [1]


def test_three_in_a_row_stop_the_run_and_keep_the_finished_steps(tmp_path, monkeypatch):
    poison(monkeypatch, lambda number: number > 0)
    folder = tmp_path / "run"
    with pytest.raises(TrainingError, match="3 times in a row") as caught:
        train(small_config(folder, max_steps=9, save_steps=0), quiet=True)
    (file,) = folder.glob("nonfinite-*.json")
    assert str(file) in str(caught.value)
    batch = json.loads(file.read_text())
    assert (batch["step"], batch["update"]) == (3, 0)
    assert batch["index_generation"] == [[i, g] for i in choose_problems(0, 3, 4, 8) for g in range(4)]
    assert steps_of(folder) == [1, 2, 3] and saved_steps(folder) == [3]
    # The same stop again, rather than three more tries: the count is part of the run.
    with pytest.raises(TrainingError, match="3 times in a row"):
        train(small_config(folder, max_steps=9, save_steps=0, resume="auto"), quiet=True)
    assert steps_of(folder) == [1, 2, 3]


# Optimizer and learning rates.


def test_the_optimizer_has_the_settings_of_the_run(tmp_path):
    run = start(small_config(tmp_path, adam_beta2=0.95, weight_decay=0.3), quiet=True)
    run.folder.release()
    group = run.optimizer.param_groups[0]
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.95), 0.3)


def test_the_learning_rate_warms_up_and_then_stays(tmp_path):
    rate = 1e-3
    settings = {"learning_rate": rate, "warmup_steps": 3, "weight_decay": 0.0}
    train(small_config(tmp_path / "one", max_steps=1, **settings), quiet=True)
    train(small_config(tmp_path / "run", num_iterations=2, **settings), quiet=True)
    shown = [row["learning_rate"] for row in rows(tmp_path / "run" / "metrics.jsonl")]
    assert shown == pytest.approx([rate * 1.5 / 3, rate, rate]), "the mean of a step's updates"
    # Adam's first update moves every weight with a gradient by the rate itself.
    before, after = weights(tiny_folder()), weights(tmp_path / "one" / "model")
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert moved == pytest.approx(rate / 3, rel=1e-3)


def test_a_falling_rate_ends_at_its_share_of_the_last_step(tmp_path):
    settings = {"learning_rate": 1e-3, "warmup_steps": 2, "lr_schedule": "linear", "num_iterations": 2}
    train(small_config(tmp_path, max_steps=2, **settings), quiet=True)
    train(small_config(tmp_path, max_steps=4, resume="auto", **settings), quiet=True)
    shown = [row["learning_rate"] for row in rows(tmp_path / "metrics.jsonl")]
    assert shown == pytest.approx([0.75e-3, 0.5e-3, 0.5e-3, 0.25e-3]), "of 2 steps, then of 4"


# What is told.


def test_what_the_model_does_is_said_once_before_the_first_step(tmp_path, monkeypatch, capsys):
    habits = {"numbers": "12345"}
    monkeypatch.setattr(Letters, "habits", lambda _, p: habits if p.metadata["index"] == 0 else {})
    train(small_config(tmp_path / "run", max_steps=2, env_args={"dull": half_dull()}))
    (line,) = re.findall("(?i).*before step 1.*", capsys.readouterr().out)
    assert "of 16;" in line and "2 of 4 groups are mixed" in line and ", 0 all right, 2 all wrong." in line
    train(small_config(tmp_path / "dull", max_steps=1, env_args={"dull": ALL}))
    (line,) = re.findall("(?i).*before step 1.*", capsys.readouterr().out)
    assert "right 0" in line and "0 of 4 groups are mixed" in line


def test_a_form_that_the_prompt_shows_and_the_reward_does_not_pay_is_said_before_the_first_step(
    tmp_path, capsys
):
    (tmp_path / "prompt.txt").write_text("<answer>\n\\boxed{...}\n</answer> {numbers}, {target}")
    arguments = {"prompt_style": str(tmp_path / "prompt.txt"), "reward_preset": "paper"}
    config = small_config(tmp_path / "run", eval_problems=0, validation_problems=0)
    start(replace(config, env="countdown", env_args=arguments)).folder.release()
    assert "no more than a wrong one" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_a_task_that_the_model_never_solves_asks_for_force(tmp_path, monkeypatch, capsys, temperature):
    monkeypatch.setattr(first_rollout, "ENOUGH_TO_JUDGE", 16)
    settings = {"max_steps": 1, "temperature": temperature, "env_args": {"dull": ALL}}
    if not temperature:  # an algorithm that a greedy rollout can teach
        settings |= {"algorithm": "raft", "algorithm_args": {}}
    config = small_config(tmp_path / "run", **settings)
    sampled = "wrote 16 completions, 4 of each of 4 problems, and none of 16 is right"
    ways_out = "`python -m spg_trainer sft --data FILE .*`.* train all the same: --resume .* --force"
    with pytest.raises(ConfigError, match=f"{sampled}.* {ways_out}"):
        train(config, quiet=True)
    train(replace(config, force=True, output=replace(config.output, resume="auto")), quiet=True)
    monkeypatch.setattr(first_rollout, "ENOUGH_TO_JUDGE", 17)
    train(small_config(tmp_path / "few", **settings))
    assert "right 0" in capsys.readouterr().out, "too few to tell"


def test_a_task_that_the_embedded_model_has_not_seen_says_what_teaches_it_and_is_not_trained(
    tmp_path, monkeypatch, capsys
):
    """However few its completions are; and what it says is a command that sft takes."""
    taught = "--env test/Letters-v0 --env-args dull=0,1,2,3,4,5,6,7 --mix shy=1 loud=1 --output-dir base"
    monkeypatch.setattr(Letters, "habits", lambda _, problem: {"shy": "a", "loud": "A" * 4})
    config = small_config(tmp_path / "run", max_steps=1, model="tiny", env_args={"dull": ALL})
    config = replace(config, env="test/Letters-v0")
    with pytest.raises(
        ConfigError, match=f"only seen sudoku .*`python -m spg_trainer sft {taught}`.* --force"
    ):
        train(config)
    assert not (tmp_path / "run").exists() and capsys.readouterr().out == "", (
        "nothing is evaluated or written"
    )
    with pytest.raises(ConfigError, match="only seen sudoku"):
        settle(config)
    train(replace(config, force=True))
    (line,) = re.findall(
        "warning: the small model that comes with this package has only seen sudoku .*",
        capsys.readouterr().out,
    )
    assert line.endswith(f"as --model: python -m spg_trainer sft {taught}")


def test_a_dry_run_needs_no_data_set(monkeypatch, capsys):
    """A published one that cannot be had is told; the settings and the estimate are shown all the same."""
    monkeypatch.setattr("envs.files.datasets.why_offline", lambda: "no network")
    words = ["--env", "gsm8k", "--model", "GSAI-ML/LLaDA-8B-Instruct", "--dry-run"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert (
        "memory of a process" in shown
        and "if prompts have 200 tokens" in shown
        and "data: " in shown
        and "openai/gsm8k" in shown
        and "no network" in shown
    )


def break_score(monkeypatch, when):
    """Makes `score` raise on the completions for which `when(their number, problem)` holds, counted from 0 in step 1.

    The number -1 is what is scored before anything is trained.
    """
    count, original = itertools.count(-1), Letters.score

    def broken(self, problem, completion):
        if problem.prompt.split()[0] in ("train", "broken") and when(next(count), problem.metadata["index"]):
            raise ValueError("no such letter")
        return original(self, problem, completion)

    monkeypatch.setattr(Letters, "score", broken)


def test_a_score_that_raises_is_told_before_anything_is_trained(tmp_path, monkeypatch):
    break_score(monkeypatch, lambda number, _: number == -1)
    folder = tmp_path / "run"
    said = (
        r"letters: score raised on problem 0, for '<answer>.*ValueError: no such letter \(File .*, line \d+"
    )
    with pytest.raises(envs.EnvError, match=said):
        train(small_config(folder), quiet=True)
    assert not folder.exists() or not (folder / "config.yaml").exists()


def test_a_task_that_fails_seldom_is_counted_and_told(tmp_path, monkeypatch, capsys):
    break_score(monkeypatch, lambda number, _: number == 30)
    folder = tmp_path / "run"
    train(small_config(folder, prompts_per_step=6, max_steps=2))
    assert [row["env_errors"] for row in rows(folder / "metrics.jsonl")] == [0, 1]
    samples = rows(folder / "samples" / "step-000002.jsonl")
    assert [i for i, sample in enumerate(samples) if sample["reason"] == "error"] == [6]
    assert [i for i, sample in enumerate(samples) if "ValueError" in sample.get("traceback", "")] == [6]
    assert samples[6]["reward"] == 0 and not samples[6]["correct"]
    assert "not scored 1" in capsys.readouterr().out


def judge_later(monkeypatch, hangs):
    """Makes `score` async; it fails for one completion of each step, and hangs for `hangs` others."""
    count, original = itertools.count(-1), Letters.score

    async def later(self, problem, completion):
        number = next(count) if problem.prompt.split()[0] in ("train", "broken") else -1
        await asyncio.sleep(0.001 * (number % 3))
        if number % 64 == 30:
            raise ValueError("the judge is busy")
        if 0 < number % 64 <= hangs:
            await asyncio.sleep(60)
        return original(self, problem, completion)

    monkeypatch.setattr(Letters, "score", later)
    monkeypatch.setattr(Letters, "score_timeout", 0.5)


def test_failures_of_an_async_score_are_counted_by_reason_and_the_run_ends(tmp_path, monkeypatch, capsys):
    judge_later(monkeypatch, hangs=2)
    folder = tmp_path / "run"
    changes = {
        "prompts_per_step": 8,
        "num_generations": 8,
        "max_steps": 2,
        "eval_problems": 0,
        "validation_problems": 0,
    }
    train(small_config(folder, **changes, eval_steps=0))
    counted = [
        {name: n for name, n in row.items() if "env_errors" in name} for row in rows(folder / "metrics.jsonl")
    ]
    assert counted == [{"env_errors": 3, "env_errors/error": 1, "env_errors/timeout": 2}] * 2
    samples = rows(folder / "samples" / "step-000002.jsonl")
    assert [(i, one["reason"]) for i, one in enumerate(samples) if "traceback" in one] == [
        *((1, "timeout"), (2, "timeout"), (30, "error"))
    ]
    assert "not scored 3" in capsys.readouterr().out


def test_too_many_time_outs_stop_the_run(tmp_path, monkeypatch):
    judge_later(monkeypatch, hangs=3)
    with pytest.raises(
        TrainingError, match=r"(?s)score_timeout.*4 of 64 completions .*; 1 error, 3 timeout\)"
    ):
        train(
            small_config(
                tmp_path / "run", prompts_per_step=8, num_generations=8, eval_problems=0, eval_steps=0
            ),
            quiet=True,
        )


# What ends a run.


def test_the_time_limit_ends_evaluates_and_saves(tmp_path, monkeypatch):
    clock = itertools.count(time.monotonic(), 4).__next__  # four seconds from look to look
    monkeypatch.setattr(finish, "time", type("Clock", (), {"monotonic": staticmethod(clock)}))
    folder = tmp_path / "run"
    summary = train(small_config(folder, max_steps=500, max_minutes=0.2, save_steps=0), quiet=True)
    last = summary["steps"]
    assert 1 <= last < 5 and steps_of(folder) == list(range(1, last + 1)) and saved_steps(folder) == [last]
    assert (folder / "eval" / "after.json").is_file() and (folder / "model" / "config.json").is_file()
    assert json.loads((folder / "summary.json").read_text())["ended_by"] == "max_minutes"


def test_a_checkpoint_is_also_written_once_so_many_minutes_have_passed_since_the_last(tmp_path, monkeypatch):
    now = [float(round(time.monotonic()))]  # whole, so that four minutes are exactly four
    for module in (run_module, records):
        monkeypatch.setattr(module, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))

    def on_step(metrics, completions):
        now[0] += 60.0 * metrics["step"]  # the steps take 1, 2, 3, ... minutes

    folder, settings = tmp_path / "run", {"save_steps": 0, "save_minutes": 4.0, "keep": 9}
    train(small_config(folder, max_steps=5, **settings), quiet=True, on_step=on_step)
    assert saved_steps(folder) == [3, 4, 5], "after 6, then 4, then 5 minutes"
    whole = (folder / "metrics.jsonl").read_bytes()
    changes = {"resume": str(step(folder, 3)), "save_minutes": 0.0}
    train(change(small_config(folder, max_steps=5, **settings), **changes), quiet=True)
    assert (folder / "metrics.jsonl").read_bytes() == whole


def test_a_task_that_fails_too_often_stops_and_keeps_finished_steps(tmp_path, monkeypatch):
    break_score(monkeypatch, lambda number, _: number in (17, 24))
    folder, settings = tmp_path / "run", {"save_steps": 0, "max_steps": 2}
    with pytest.raises(TrainingError) as ended:
        train(small_config(folder, **settings), quiet=True)
    said = str(ended.value)
    assert re.search(r"ValueError: no such letter\n(.|\n)*2 of 16", said)
    assert said.endswith(f"continue with --resume {folder} --accept-changed-code."), (
        "the advice is the last line"
    )
    assert str(ended.value).endswith(f"--resume {folder} --accept-changed-code.")
    assert "async_calls.py" not in said and said.count("  File ") == 1, "the author's own lines alone"
    assert steps_of(folder) == [1] and saved_steps(folder) == [1]
    monkeypatch.undo()
    train(small_config(folder, **settings, resume="auto"), quiet=True)
    assert steps_of(folder) == [1, 2]


def test_a_task_that_fails_in_one_process_stops_both():
    for rank in (0, 1):
        said = left_by(rank)["failure"]
        assert "8 of 16" in said and "ValueError: no such letter" in said
    folder = two_processes() / "failing"
    assert steps_of(folder) == [1] and saved_steps(folder) == [1]


def test_a_signal_while_a_failed_run_is_saved_waits_until_it_is(tmp_path, monkeypatch):
    """A launcher ends the processes that are left as soon as one has failed."""
    original = records.save_checkpoint

    def asked(run):
        signal.raise_signal(signal.SIGINT)
        return original(run)

    break_score(monkeypatch, lambda number, _: number > 16)
    monkeypatch.setattr(records, "save_checkpoint", asked)
    with pytest.raises((TrainingError, KeyboardInterrupt), match="of 16 completions"):
        train(small_config(tmp_path / "run", save_steps=0), quiet=True)
    assert saved_steps(tmp_path / "run") == [1]


def test_the_share_of_failures_is_that_of_all_processes():
    assert outcomes("one_score_of_24") == (1, 1), "the step is finished: 4% of it, 8% of the second's"
    for said in outcomes("scores_in_a_batch_that_the_second_lacks"):
        assert re.match(r"ScoringFailed(.|\n)*ValueError: no such letter(.|\n)*1 of 9(.|\n)*problem 8", said)


def test_the_share_of_failures_is_that_of_a_whole_evaluation(monkeypatch):
    """Two failures of 40 are 5%, although the last of the chunks that are scored at once is small."""
    monkeypatch.setattr("spg_trainer.evaluation.evaluate.BATCH", 38)
    policy, env = load_model(str(tiny_folder()), device="cpu"), Letters("broken", size=40)
    bad = {38, 39}
    break_score(monkeypatch, lambda number, index: index in bad)
    result = evaluate(policy, env, EVALUATION)
    assert result.n == 40 and result.reasons["error"] == 2
    bad.add(7)
    with pytest.raises(TrainingError, match=r"ValueError(.|\n)*3 of 40.*problem 38"):
        evaluate(policy, env, EVALUATION)


def interrupt(monkeypatch, where, name, call):
    """Raises at the `call`-th call of `where.name`."""
    count, original = itertools.count(1), getattr(where, name)

    def interrupted(*args, **kwargs):
        if next(count) == call:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(where, name, interrupted)


INTERRUPTED = {"num_iterations": 2, "save_steps": 0}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Three steps of two updates; read only."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(small_config(folder, **INTERRUPTED), quiet=True)
    return folder


@pytest.mark.parametrize(
    "where, name, call, saved",
    [
        (update, "gradient", 5, 2),
        (update, "gradient", 6, None),  # one of the two updates of step 3 is in the weights
        (Letters, "render_text", 2, 2),
    ],
)
def test_whatever_ends_a_run_finished_steps_are_saved_or_done_again(
    tmp_path, monkeypatch, uninterrupted, capsys, where, name, call, saved
):
    """No checkpoint ever holds weights of a half step, and the run that goes on is the one never interrupted."""
    interrupt(monkeypatch, where, name, call)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(small_config(folder, **INTERRUPTED))
    assert saved_steps(folder) == ([saved] if saved else [])
    kept = f"{step(folder, saved)} is saved; continue with" if saved else "No step is saved yet; begin again"
    said = capsys.readouterr().out
    assert kept in said and f"--resume {folder}" in said
    monkeypatch.undo()
    train(small_config(folder, **INTERRUPTED, resume="auto"), quiet=True)
    assert (folder / "metrics.jsonl").read_bytes() == (uninterrupted / "metrics.jsonl").read_bytes()
    assert same_weights(folder / "model", uninterrupted / "model")


def test_a_full_disk_is_told_with_what_is_saved(tmp_path, monkeypatch, capsys):
    run, append = tmp_path / "run", RunFolder._append

    def full(folder: RunFolder, name: str, lines) -> None:
        if name == "metrics.jsonl" and lines[0]["step"] == 2:
            with files.writing(folder.path / name):
                raise OSError(errno.ENOSPC, "No space left on device")
        append(folder, name, lines)

    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match=r"metrics\.jsonl: disk full"):
        patch.setattr(RunFolder, "_append", full)
        train(small_config(run, save_steps=1))
    assert f"{step(run, 1)} is saved; continue with --resume {run}" in capsys.readouterr().out
    train(small_config(None, resume=str(run)), quiet=True)
    assert steps_of(run) == [1, 2, 3]


def test_a_signal_in_the_evaluation_before_training_ends_at_once(tmp_path, monkeypatch, capsys):
    original, made = evaluations.evaluate_checked, []

    def asked(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        made.append(original(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(evaluations, "evaluate_checked", asked)
    with pytest.raises(KeyboardInterrupt):
        train(small_config(tmp_path / "run"))
    assert not made and "correct" not in json.loads((tmp_path / "run" / "eval" / "before.json").read_text())
    said = capsys.readouterr().out
    assert "Stopping after this step, or in this evaluation" in said
    assert "The evaluation before has 0 of 4 completions, which are kept." in said


@pytest.mark.parametrize(
    "number",
    slow_if([signal.SIGINT, signal.SIGTERM, signal.SIGUSR1], lambda number: number != signal.SIGTERM),
)
def test_an_evaluation_that_is_interrupted_goes_on_where_it_was(tmp_path, monkeypatch, number):
    """What it had written is not written again: of a large model, an evaluation takes hours."""
    for module in (evaluating, evaluations):
        monkeypatch.setattr(module, "BATCH", 2)
    original, asked = evaluating.solve, []

    def solve(player, env, pairs):
        if len(asked) == 2:
            signal.raise_signal(number)
        asked.append(len(pairs))
        return original(player, env, pairs)

    whole = small_config(tmp_path / "whole", eval_problems=8, max_steps=1)
    train(whole, quiet=True)
    config = small_config(tmp_path / "run", eval_problems=8, max_steps=1)
    monkeypatch.setattr(evaluating, "solve", solve)
    with pytest.raises(KeyboardInterrupt):
        train(config, quiet=True)
    assert len(rows(tmp_path / "run" / "eval" / "before.jsonl")) == 4 and asked == [2, 2, 2]
    with (tmp_path / "run" / "eval" / "before.jsonl").open("a") as file:
        file.write('{"index": 4, "torn')  # as a kill may leave it
    asked += [0]
    train(replace(config, output=replace(config.output, resume="auto")), quiet=True)
    assert asked[4:] == [2] * 6, "two batches of four of the one before, all of the one after"
    for name in ("before", "after"):
        both = [rows(tmp_path / run / "eval" / f"{name}.jsonl") for run in ("run", "whole")]
        assert both[0] == both[1]
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_a_run_whose_minutes_are_over_before_its_first_step_keeps_its_evaluation(tmp_path, monkeypatch):
    for module in (evaluating, evaluations):
        monkeypatch.setattr(module, "BATCH", 2)
    whole = small_config(tmp_path / "whole", eval_problems=8, max_steps=1)
    train(whole, quiet=True)
    config = small_config(tmp_path / "run", eval_problems=8, max_steps=1, max_minutes=1e-6)
    with pytest.raises(TrainingError, match=r"has 0 of 8 .*--max-minutes 1e-06 is over .* --resume .*run"):
        train(config, quiet=True)
    go_on = replace(config, max_minutes=0.0, output=replace(config.output, resume="auto"))
    train(go_on, quiet=True)
    for name in ("before", "after"):
        both = [rows(tmp_path / run / "eval" / f"{name}.jsonl") for run in ("run", "whole")]
        assert both[0] == both[1]


def test_a_finished_run_that_is_resumed_says_so_and_nothing_changes(tmp_path, capsys):
    folder = tmp_path / "run"
    summary = train(small_config(folder, max_steps=2, save_steps=1, keep=3), quiet=True)
    before = snapshot(folder)
    for resume in ({"output_dir": None, "resume": str(folder)}, {"resume": "auto"}):
        assert train(change(small_config(folder, max_steps=2, save_steps=1, keep=3), **resume)) == summary
        said = capsys.readouterr().out
        assert f"{folder} is finished (2 steps, ended by --max-steps); nothing was changed." in said
        assert f"--resume {folder} --max-steps 4" in said and said.count("\n") == 1
    assert snapshot(folder) == before
    earlier = change(small_config(None, max_steps=2), resume=str(step(folder, 1)))
    assert train(earlier, quiet=True)["steps"] == 2, "an earlier checkpoint has steps to make"
    assert train(change(small_config(None, max_steps=3), resume=str(folder)), quiet=True)["steps"] == 3


@pytest.mark.parametrize(
    "signals, saved",
    [
        ([signal.SIGINT], [1]),
        pytest.param([signal.SIGTERM], [1], marks=pytest.mark.slow),
        ([signal.SIGUSR1], [1]),
        ([signal.SIGHUP] * 3, [1]),  # a terminal that closes sends it more than once
        pytest.param([signal.SIGINT] * 2, [], marks=pytest.mark.slow),
        ([signal.SIGUSR1, signal.SIGTERM], []),
    ],
)
def test_one_signal_saves_after_the_step_a_second_ends_at_once(tmp_path, monkeypatch, signals, saved):
    original, folder, pending = update.gradient, tmp_path / "run", list(reversed(signals))
    if signal.SIGHUP in signals and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        pytest.skip("started by nohup, which ignores this signal")
    handlers = [signal.getsignal(number) for number in SIGNALS]

    def signalled(*update):
        while pending:
            os.kill(os.getpid(), pending.pop())
        return original(*update)

    monkeypatch.setattr(update, "gradient", signalled)
    with pytest.raises(KeyboardInterrupt):
        train(small_config(folder, save_steps=0), quiet=True)
    assert (steps_of(folder) if saved else []) == saved_steps(folder) == saved
    assert (folder / "metrics.jsonl").exists() is bool(saved) and not (folder / "summary.json").exists()
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_only_a_user_at_the_terminal_is_told_to_press_ctrl_c_again():
    for number, told in ((signal.SIGINT, " Press Ctrl-C again to stop at once."), (signal.SIGTERM, "")):
        with stopping(stop := StopRequest(), tell=lambda: None):
            signal.raise_signal(number)
        assert stop.how_at_once == told


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping(stop := StopRequest(), tell=lambda: None):
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
            signal.raise_signal(signal.SIGUSR1)
            assert stop.requested and stop.by_launcher
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_folder_with_a_run_is_refused_and_left_as_it_is():
    folder, _ = finished_run()
    before = snapshot(folder)
    with pytest.raises(ConfigError, match=rf"3 steps.*--resume {folder} .*--max-steps"):
        train(small_config(folder, seed=4), quiet=True)
    assert snapshot(folder) == before


def test_what_is_no_setting_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"train takes no policy: .*save_model\(policy, FOLDER\)"):
        train(policy=object())
    with pytest.raises(ConfigError, match=r"train\(quiet='false'\): should be True or False"):
        train(small_config(Path("never_made")), quiet="false")
    with pytest.raises(ConfigError, match=r"train takes no env: .*defaults\(Config, env="):
        train(env="sudoku")
    with pytest.raises(ConfigError, match=r"train takes settings, .*not None"):
        train()
    with pytest.raises(ConfigError, match=r"on_step=5: should be a function, .*on_step\(metrics, rows\)"):
        train(small_config(Path("never_made")), on_step=5)
    for function in (lambda: 0, lambda metrics, rows, more: 0):
        with pytest.raises(ConfigError, match=r"should be a function, .*on_step\(metrics, rows\)"):
            train(small_config(Path("never_made")), on_step=function)
    with pytest.raises(ConfigError, match=r"defaults\(5, \.\.\.\): there are defaults of Config"):
        defaults(5)


def test_a_sample_says_what_it_is(tmp_path, capsys):
    train(small_config(tmp_path / "run", max_steps=2))
    line = r"^A completion of step (\d), problem (\d+) of letters: (\w+), reward (\d\.\d\d)$"
    labels = re.findall(line, capsys.readouterr().out, flags=re.M)
    assert [label[0] for label in labels] == ["1", "2"]
    for number, index, reason, reward in labels:
        first = rows(tmp_path / "run" / "samples" / f"step-{int(number):06d}.jsonl")[0]
        assert (first["index"], first["reason"]) == (int(index), reason)
        assert float(reward) == pytest.approx(first["reward"], abs=0.006)
