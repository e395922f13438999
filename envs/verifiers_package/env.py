"""One environment class for each taskset of the package `verifiers` of Prime Intellect.

Only one of that package and ours can be in an environment, so it lives in another one, whose Python `python=` names.
Tasks and rewards stay in processes of that Python; what travels are prompts, completions and numbers.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any, ClassVar

import numpy as np

from envs.core import TextEnv
from envs.errors import EnvError, check_choice
from envs.problem import Problem, Score, check_index
from envs.splits import SPLITS, split_of

INSIDE = Path(__file__).with_name("inside.py")
PROCESSES = 4
"""At most so many processes score completions side by side; each holds the tasks."""
SECONDS = 60.0
"""The rewards of a completion may take so many seconds of processor time, or of the clock where they wait."""


class VerifiersPackage(TextEnv):
    """A taskset of the package `verifiers` of Prime Intellect, of one turn; `taskset` says which.

    Rewards:
        correct (0 or 1): the reward is 1 or more.
        reward: the sum of the task's own rewards, each times its weight, as that package makes it.
    """

    reward_weights: Mapping[str, float] = {"correct": 0.0, "reward": 1.0}
    reward_ranges: Mapping[str, tuple[float, float]] = {"reward": (-np.inf, np.inf)}
    score_timeout = 3 * SECONDS  # also for a process to start; the pool itself ends one that takes too long
    taskset: ClassVar[str] = ""

    def __init__(
        self, split: str = "train", python: str = "", num_problems: int = 10_000, **settings: Any
    ) -> None:
        """Opens one split: a hash of the prompt divides the tasks 80/10/10.

        Raises EnvError where the tasks cannot be opened, or need more than a reply to be scored.

        Args:
            python: the Python of an environment in which the package and the taskset are installed.
            num_problems: so many tasks are read, from the first on.
            settings: those of the taskset's configuration.
        """
        check_choice(self.taskset, "split", split, SPLITS)
        if isinstance(num_problems, bool) or not isinstance(num_problems, int) or num_problems < 1:
            raise EnvError(f"verifiers:{self.taskset}: num_problems={num_problems!r:.80} must be 1 or more.")
        self.split = split
        self._opened = (
            _interpreter(self.taskset, python),
            json.dumps(settings, sort_keys=True),
            num_problems,
        )
        tasks = _tasks(self.taskset, *self._opened)
        self.origin, self._prompts, self._hashes = tasks["versions"], tasks["prompts"], tasks["hashes"]
        self._indices = [i for i, prompt in enumerate(self._prompts) if split_of(prompt) == split]
        if not self._indices:
            raise EnvError(
                f"verifiers:{self.taskset}: of {len(self._prompts)} tasks none is for {split} (a hash of the prompt "
                "divides them 80/10/10). It needs more tasks."
            )
        self.score_concurrency = _pool(self.taskset, *self._opened).size

    @property
    def spec_name(self) -> str:
        """With the package in front, and without the place of its Python."""
        given = {n: v for n, v in self._env_arguments.items() if n not in ("split", "python")}
        arguments = ",".join(f"{name}={value}" for name, value in given.items())
        return f"verifiers:{self.taskset}" + (f"[{arguments}]" if arguments else "")

    def __len__(self) -> int:
        return len(self._indices)

    def problem(self, index: int) -> Problem:
        place = self._indices[check_index(self, index)]
        return Problem(self._prompts[place], {"index": place, "hash": self._hashes[place]})

    async def score(self, problem: Problem, completion: str) -> Score:
        job = {"ask": "score", "completion": completion, **problem.reference}
        reply = await asyncio.to_thread(_pool(self.taskset, *self._opened).ask, job)
        if reply["outcome"] == "timeout":
            raise TimeoutError(f"the rewards of verifiers:{self.taskset} took too long: {reply['detail']}")
        if reply["outcome"]:
            raise EnvError(f"the rewards of verifiers:{self.taskset} failed: {reply['detail']}")
        reward = reply["reward"]
        paid = ", ".join(f"{name} {value:.3g}" for name, value in reply["paid"].items())
        return Score(
            {"correct": float(reward >= 1), "reward": reward}, "ok" if reward >= 1 else "wrong", paid
        )


def _interpreter(taskset: str, python: str) -> str:
    """The path of the Python that is named; raises EnvError where there is none."""
    advice = (
        "Make one for that package, which has the name of one of ours: `python -m venv other && other/bin/pip install "
        "verifiers PACKAGE`, and pass --env-args python=other/bin/python."
    )
    if not python:
        raise EnvError(f"verifiers:{taskset} needs the Python of another environment. {advice}")
    found = which(python)
    if found is None:
        raise EnvError(
            f"verifiers:{taskset}: python={python} is no program (looked in {Path.cwd()}). {advice}"
        )
    return os.path.abspath(found)  # no symbolic link is followed: it leads out of a virtual environment


@cache
def _pool(taskset: str, python: str, settings: str, count: int) -> Any:
    from verifiers import batch
    from verifiers.worker import Workers

    command = (python, "-P", str(INSIDE), taskset, settings, str(count))
    return Workers("", size=min(PROCESSES, batch.cpus()), soft=None, hard=SECONDS, command=command)


@cache
def _tasks(taskset: str, python: str, settings: str, count: int) -> dict[str, Any]:
    from verifiers.worker import WorkerUnavailable

    try:
        reply = _pool(taskset, python, settings, count).ask({"ask": "tasks"})
    except WorkerUnavailable as error:
        raise EnvError(f"verifiers:{taskset} {error}.") from error
    if reply["outcome"]:
        raise EnvError(f"verifiers:{taskset} cannot be opened: {reply['detail']}.")
    return reply


@cache
def class_of(taskset: str) -> type[VerifiersPackage]:
    """The environment class of a taskset, whose name is looked for when it is opened."""
    doc = f"The taskset {taskset} of the package verifiers."
    return type("VerifiersPackage", (VerifiersPackage,), {"taskset": taskset, "__doc__": doc})
