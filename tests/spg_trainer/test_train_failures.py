"""A task that fails, an interruption, a folder in use: a run stops in words and keeps its finished steps."""

import importlib
import itertools
import os
import signal
from pathlib import Path

import pytest
import torch

from spg_trainer.errors import ConfigError, TrainingError
from spg_trainer.evaluation import evaluate
from spg_trainer.models import load_model
from spg_trainer.training import train
from tests.common.process_cases import two_processes
from tests.common.trainer_cases import (
    EVALUATION,
    Letters,
    finished_run,
    rows,
    same_weights,
    saved_steps,
    small_config,
    steps_of,
    tiny_folder,
)

loop = importlib.import_module("spg_trainer.training")  # the package's own `train` is the function


@pytest.fixture(scope="module")
def finished():
    """A run of three steps that kept all its checkpoints, and its summary; read only."""
    return finished_run()


def break_score(monkeypatch, when, text="no such letter"):
    """Makes `score` raise on the training completions for which `when(number)` holds, counted from 0."""
    count, original = itertools.count(), Letters.score

    def broken(self, problem, completion):
        if self.part == "train" and when(next(count)):
            raise ValueError(text)
        return original(self, problem, completion)

    monkeypatch.setattr(Letters, "score", broken)


def test_a_task_that_fails_too_often_stops_with_its_traceback_and_keeps_finished_steps(tmp_path, monkeypatch):
    break_score(monkeypatch, lambda number: number in (33, 40))
    folder = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"letters failed on 2 of 16 completions.*Fix") as caught:
        train(small_config(folder, save_steps=0), quiet=True)
    assert "Traceback" in str(caught.value) and "ValueError: no such letter" in str(caught.value)
    assert steps_of(folder) == [1, 2] and saved_steps(folder) == [2]
    monkeypatch.undo()
    train(small_config(folder, save_steps=0, resume="auto"), quiet=True)
    assert steps_of(folder) == [1, 2, 3]


def test_a_task_that_fails_in_one_of_two_processes_stops_both_and_both_say_why():
    for rank in (0, 1):
        said = torch.load(two_processes() / f"rank-{rank}.pt")["failure"]
        assert "letters failed on 1 of 8 completions" in said or "failed on 8 of 8" in said
        assert "ValueError: no such letter" in said
    folder = two_processes() / "failing"
    assert steps_of(folder) == [1] and saved_steps(folder) == [1]


def test_a_task_that_fails_seldom_is_counted_and_told(tmp_path, monkeypatch, capsys):
    break_score(monkeypatch, lambda number: number == 30)
    folder = tmp_path / "run"
    config = small_config(folder, prompts_per_step=6)
    train(config)
    assert [row["env_errors"] for row in rows(folder / "metrics.jsonl")] == [0, 1, 0]
    found = rows(folder / "samples" / "step-000002.jsonl")
    assert [i for i, sample in enumerate(found) if sample["reason"] == "error"] == [6]
    assert [i for i, sample in enumerate(found) if "ValueError" in sample.get("traceback", "")] == [6]
    assert found[6]["reward"] == 0 and not found[6]["correct"]
    assert "score raised on 1 completions" in capsys.readouterr().out


def test_the_share_of_failures_is_that_of_a_whole_evaluation(monkeypatch):
    """Thirteen failures of 260 are 5%, although the last of the chunks that are scored at once is small."""
    policy, env, original = (
        load_model(str(tiny_folder()), device="cpu"),
        Letters("test", size=260),
        Letters.score,
    )
    bad = set(range(247, 260))

    def broken(self, problem, completion):
        if problem.metadata["index"] in bad:
            raise KeyError("gone")
        return original(self, problem, completion)

    monkeypatch.setattr(Letters, "score", broken)
    found = evaluate(policy, env, EVALUATION)
    assert found.n == 260 and found.reasons["error"] == 13
    bad.add(7)
    with pytest.raises(TrainingError, match=r"14 of 260.*problem 25\d(.|\n)*KeyError"):
        evaluate(policy, env, EVALUATION)


def interrupt(monkeypatch, where, name, call, error=KeyboardInterrupt):
    """Raises at the `call`-th call of `where.name`."""
    count, original = itertools.count(1), getattr(where, name)

    def interrupted(*args, **kwargs):
        if next(count) == call:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(where, name, interrupted)


@pytest.mark.parametrize(
    "where, name, call, saved",
    [
        (loop, "collect", 3, [2]),
        (loop, "gradient", 5, [2]),
        (loop, "gradient", 6, []),  # one of the two updates of step 3 is in the weights
        (Letters, "picture", 3, [3]),
    ],
)
def test_whatever_ends_a_run_finished_steps_are_saved_or_done_again(
    tmp_path, monkeypatch, where, name, call, saved
):
    """No checkpoint ever holds weights of a half step, and the run that goes on is the one never interrupted."""
    settings = {"num_iterations": 2, "save_steps": 0, "render_steps": 1, "max_steps": 4}
    interrupt(monkeypatch, where, name, call)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(small_config(folder, **settings), quiet=True)
    assert saved_steps(folder) == saved
    monkeypatch.undo()
    train(small_config(folder, **settings, resume="auto"), quiet=True)
    train(small_config(tmp_path / "whole", **settings), quiet=True)
    assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert same_weights(folder / "model", tmp_path / "whole" / "model")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_the_run_after_the_step_and_saves_it(tmp_path, monkeypatch, number):
    original, folder = loop.gradient, tmp_path / "run"
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def signalled(update, iteration):
        if not Path(folder / "metrics.jsonl").exists():
            os.kill(os.getpid(), number)
        return original(update, iteration)

    monkeypatch.setattr(loop, "gradient", signalled)
    with pytest.raises(KeyboardInterrupt):
        train(small_config(folder, save_steps=0), quiet=True)
    assert steps_of(folder) == [1] and saved_steps(folder) == [1]
    assert not (folder / "summary.json").exists()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_second_signal_ends_it_at_once(tmp_path, monkeypatch):
    original, folder = loop.gradient, tmp_path / "run"

    def signalled(update, iteration):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return original(update, iteration)

    monkeypatch.setattr(loop, "gradient", signalled)
    with pytest.raises(KeyboardInterrupt):
        train(small_config(folder, save_steps=0), quiet=True)
    assert not (folder / "metrics.jsonl").exists()


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_with_a_run_is_refused_and_left_as_it_is(finished):
    before = snapshot(finished[0])
    with pytest.raises(ConfigError, match=r"already holds a run \(3 steps, finished\).*--resume auto"):
        train(small_config(finished[0], seed=4), quiet=True)
    assert snapshot(finished[0]) == before
