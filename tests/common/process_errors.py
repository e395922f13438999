"""Errors in one of two gloo processes: what each of them says, and how often it has called the other by then."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator
from torch.distributed.checkpoint.filesystem import FileSystemWriter

import envs
from envs.episodes import Episodes
from spg_trainer.errors import CheckpointError, ConfigError, ModelError
from spg_trainer.evaluation import evaluate as evaluation
from spg_trainer.models import load_model, weight_files
from spg_trainer.rollout import cache, problems
from spg_trainer.runs.folder import RunFolder
from spg_trainer.training import loop, plan, setup, update
from spg_trainer.training.loop import train
from tests.common.pair_cases import pair_config, pairs_file
from tests.common.process_cases import one_step, sft_command
from tests.common.sft_cases import before_step, sft
from tests.common.trainer_cases import EVALUATION, Letters, small_config, start, tiny_folder

CASES: "dict[str, Callable[[Here], Any]]" = {}
CALLS = {"all_gather_object": 0, "all_reduce": 0}


def case(function: "Callable[[Here], Any]") -> "Callable[[Here], Any]":
    """Something that both processes do, and that should return or raise in both of them."""
    CASES[function.__name__] = function
    return function


@dataclass
class Here:
    """One of the two processes, in a case."""

    run: Path
    rank: int

    def failing(self, where: Any, name: str, error: Exception, rank: int = 1, after: int = 0) -> Any:
        """Makes `where.name` raise in one process, after so many calls that succeed."""
        original, calls = getattr(where, name), iter(range(1000))

        def broken(*args: Any, **kwargs: Any) -> Any:
            if self.rank == rank and next(calls) >= after:
                raise error
            return original(*args, **kwargs)

        return patch.object(where, name, broken)


class Picky(Letters):
    """Fails on some problems, when it makes them or when it scores them."""

    def __init__(self, size: int, unmade: tuple[int, ...] = (), unscored: tuple[int, ...] = ()) -> None:
        super().__init__("test", size=size)
        self.unmade, self.unscored = unmade, unscored

    def problem(self, index: int) -> envs.Problem:
        if index in self.unmade:
            raise envs.EnvError(f"no problem {index}")
        return super().problem(index)

    def score(self, problem: envs.Problem, completion: str) -> envs.Score:
        if problem.metadata["index"] in self.unscored:
            raise ValueError("no such letter")
        return super().score(problem, completion)


def evaluated(env: Picky) -> dict[str, int]:
    """The outcomes of an evaluation by both processes, two completions at a time."""
    policy = load_model(str(tiny_folder()), dtype="float64", device="cpu")
    with patch.object(evaluation, "BATCH", 2):
        return evaluation.evaluate(policy, env, EVALUATION, accelerator=Accelerator(cpu=True)).reasons


# Evaluations; nine problems are three batches of the first process and two of the second.


@case
def a_problem_of_a_batch_that_the_second_lacks(here: Here) -> Any:
    return evaluated(Picky(9, unmade=(8,)))


@case
def scores_in_a_batch_that_the_second_lacks(here: Here) -> Any:
    return evaluated(Picky(9, unscored=(8,)))


@case
def an_evaluation_by_the_first_alone(here: Here) -> Any:
    policy = load_model(str(tiny_folder()), dtype="float64", device="cpu")
    return here.rank == 0 and evaluation.evaluate(policy, Picky(3), EVALUATION).n


@case
def the_file_of_an_evaluation(here: Here) -> Any:
    with here.failing(RunFolder, "write_evaluation", CheckpointError("disk full"), rank=0):
        train(small_config(here.run), quiet=True)


# Steps.


@case
def a_step_of_pairs(here: Here) -> Any:
    return one_step(pair_config(here.run, pairs_file(), max_grad_norm=1e9))


@case
def one_score_of_24(here: Here) -> Any:
    """It is one of 12 in the second process."""
    original, calls = Letters.score, iter(range(-1, 1000))  # -1: before anything is trained

    def broken(self: Letters, problem: envs.Problem, completion: str) -> envs.Score:
        if here.rank == 1 and self.part == "train" and next(calls) == 0:
            raise ValueError("no such letter")
        return original(self, problem, completion)

    with patch.object(Letters, "score", broken):
        return train(small_config(here.run, prompts_per_step=6, max_steps=1), quiet=True)["steps"]


@case
def the_problems_of_a_step(here: Here) -> Any:
    with here.failing(problems, "choose_problems", ConfigError("no problems"), after=1):
        train(small_config(here.run), quiet=True)


@case
def scores_of_rows_that_are_finished_early(here: Here) -> Any:
    """One row is decoded at a time, and judged while the next is."""
    failing = here.failing(Episodes, "score_early", envs.EnvError("no judge"), after=1)
    one_at_a_time = patch.object(cache, "POSITIONS_PER_THREAD", 1)
    with failing, one_at_a_time, patch.object(Letters, "score_while_decoding", True):
        train(small_config(here.run, cache="dual"), quiet=True)


@case
def a_stop_in_the_last_step(here: Here) -> Any:
    original = loop.train_step

    def stop(*arguments: Any) -> None:
        original(*arguments)
        if here.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with patch.object(loop, "train_step", stop):
        train(small_config(here.run, max_steps=1), quiet=True)


@case
def a_launcher_s_signal_to_sft(here: Here) -> Any:
    """It reaches the second process alone, in an update after which nothing is validated."""

    def stop() -> None:
        if here.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with before_step(2, stop):
        sft(sft_command(here.run))


@case
def the_gradient_of_a_sharded_step(here: Here) -> Any:
    """That of the second step; the first one is saved by both."""
    with here.failing(update, "gradient", ValueError("out of memory"), after=1):
        train(small_config(here.run, shard="phase", save_steps=0), quiet=True)


@case
def the_disk_of_a_sharded_checkpoint(here: Here) -> Any:
    """It fills up at the second weight of the first checkpoint, which the second process goes on to bring."""
    with here.failing(weight_files, "save_file", OSError(28, "No space left on device"), rank=0):
        train(small_config(here.run, shard="phase", save_steps=1), quiet=True)


@case
def a_part_of_a_sharded_checkpoint(here: Here) -> Any:
    with here.failing(FileSystemWriter, "write_data", OSError(28, "No space left on device")):
        train(small_config(here.run, shard="phase", save_steps=1), quiet=True)


# Starts.


@case
def the_choice_of_a_folder(here: Here) -> Any:
    with here.failing(plan, "choose_folder", PermissionError("not yours"), rank=0):
        start(small_config(here.run))


@case
def the_model_of_a_start(here: Here) -> Any:
    with here.failing(setup, "open_policy", ModelError("no such model")):
        start(small_config(here.run))


def count_calls() -> None:
    """Counts what this process asks of the other."""
    for name in CALLS:
        call = getattr(torch.distributed, name)

        def counted(*args: Any, name: str = name, call: Callable[..., Any] = call) -> Any:
            CALLS[name] += 1
            return call(*args)

        setattr(torch.distributed, name, counted)


def in_each_process(folder: Path) -> None:
    """Does all cases one after the other; what came of each, and the calls so far, is left in `folder`."""
    Accelerator(cpu=True)
    count_calls()
    rank, found = int(os.environ["RANK"]), {}
    for name, function in CASES.items():
        try:
            came = function(Here(folder / name, rank))
        except (Exception, KeyboardInterrupt) as error:
            came = f"{type(error).__name__}: {error}"
        found[name] = came, dict(CALLS)
        torch.save(found, folder / f"rank-{rank}.pt")
