"""One environment class for each taskset of the package `verifiers` of Prime Intellect.

That package and ours have the same name, so they cannot be installed together. Theirs is in another virtual
environment; the argument `python` names its Python. Tasks and rewards stay in processes of that Python (`inside.py`);
only prompts, completions and numbers are exchanged with this module.
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
from envs.problem import Problem, Score, check_index, is_full
from envs.splits import SPLITS, split_of

INSIDE = Path(__file__).with_name("inside.py")
PROCESSES = 4
"""The most processes that score completions side by side; each holds all tasks."""
SECONDS = 60.0
"""The seconds that the rewards of a completion may take; then our `verifiers.worker` ends the process."""


class VerifiersPackage(TextEnv):
    """The taskset `taskset` of the package `verifiers` of Prime Intellect; its tasks have one turn.

    Rewards:
        correct (0 or 1): the reward is 1 or more.
        reward: the weighted sum of the task's own rewards, as that package computes it.
    """

    reward_weights: Mapping[str, float] = {"correct": 0.0, "reward": 1.0}
    reward_ranges: Mapping[str, tuple[float, float]] = {"reward": (-np.inf, np.inf)}
    score_timeout = 3 * SECONDS  # longer than SECONDS, since a process may have to start first
    taskset: ClassVar[str] = ""

    def __init__(
        self, split: str = "train", python: str = "", num_problems: int = 10_000, **settings: Any
    ) -> None:
        """Opens one split: a hash of the prompt divides the tasks 80/10/10.

        Raises EnvError if the tasks cannot be opened, or cannot be scored by a reply alone.

        Args:
            python: the Python of a virtual environment in which the package and the taskset are installed.
            num_problems: how many tasks are read, at most, from the first on.
            settings: the settings of the taskset.
        """
        check_choice(self.taskset, "split", split, SPLITS)
        if isinstance(num_problems, bool) or not isinstance(num_problems, int) or num_problems < 1:
            raise EnvError(f"verifiers:{self.taskset}: num_problems={num_problems!r:.80} must be 1 or more.")
        self.split = split
        # The arguments of `_pool` and `_tasks`, by which their results are cached.
        self._opened = (
            self.taskset,
            _interpreter(self.taskset, python),
            json.dumps(settings, sort_keys=True),
            num_problems,
        )
        tasks = _tasks(*self._opened)
        self.origin, self._prompts, self._hashes = tasks["versions"], tasks["prompts"], tasks["hashes"]
        self._indices = [i for i, prompt in enumerate(self._prompts) if split_of(prompt) == split]
        if not self._indices:
            raise EnvError(
                f"verifiers:{self.taskset}: of {len(self._prompts)} tasks none is for {split} (a hash of the prompt "
                "divides them 80/10/10). It needs more tasks."
            )
        self.score_concurrency = _pool(*self._opened).size

    @property
    def spec_name(self) -> str:
        """The name with the package in front, and without the path of its Python."""
        shown = {
            name: value for name, value in self._env_arguments.items() if name not in ("split", "python")
        }
        arguments = ",".join(f"{name}={value}" for name, value in shown.items())
        return f"verifiers:{self.taskset}" + (f"[{arguments}]" if arguments else "")

    def __len__(self) -> int:
        return len(self._indices)

    def problem(self, index: int) -> Problem:
        number_of_task = self._indices[check_index(self, index)]
        reference = {"index": number_of_task, "hash": self._hashes[number_of_task]}
        return Problem(self._prompts[number_of_task], reference)

    async def score(self, problem: Problem, completion: str) -> Score:
        job = {"ask": "score", "completion": completion, **problem.reference}
        reply = await asyncio.to_thread(_pool(*self._opened).ask, job)
        if reply["outcome"] == "timeout":
            raise TimeoutError(f"the rewards of verifiers:{self.taskset} took too long: {reply['detail']}")
        if reply["outcome"]:  # "" = success
            raise EnvError(f"the rewards of verifiers:{self.taskset} failed: {reply['detail']}")
        reward = reply["reward"]
        is_right = is_full(reward)
        paid = ", ".join(f"{name} {value:.3g}" for name, value in reply["paid"].items())
        return Score(
            {"correct": float(is_right), "reward": reward},
            reason="ok" if is_right else "wrong",
            extracted=paid,  # shows each of the task's rewards
        )


def _interpreter(taskset: str, python: str) -> str:
    """The path of the program that `python` names; raises EnvError if there is none."""
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
    # The python of a virtual environment is a link to a program outside it, so links must not be resolved.
    return os.path.abspath(found)


@cache
def _pool(taskset: str, python: str, settings: str, num_problems: int) -> Any:
    """The processes of the other Python that hold these tasks. settings: as JSON."""
    from verifiers import batch
    from verifiers.worker import Workers

    command = (python, "-P", str(INSIDE), taskset, settings, str(num_problems))
    size = min(PROCESSES, batch.cpus())
    # The command stands in the place of a module. soft=None: only the time by the clock is limited.
    return Workers(module="", size=size, soft=None, hard=SECONDS, command=command)


@cache
def _tasks(taskset: str, python: str, settings: str, num_problems: int) -> dict[str, Any]:
    """{"prompts", "hashes", "versions"} of these tasks, by `describe` in `inside.py`; raises EnvError if it fails."""
    from verifiers.worker import WorkerUnavailable

    try:
        reply = _pool(taskset, python, settings, num_problems).ask({"ask": "tasks"})
    except WorkerUnavailable as error:
        raise EnvError(f"verifiers:{taskset} {error}.") from error
    if reply["outcome"]:
        raise EnvError(f"verifiers:{taskset} cannot be opened: {reply['detail']}.")
    return reply


@cache
def class_of(taskset: str) -> type[VerifiersPackage]:
    """The environment class of a taskset; whether the taskset exists is only checked when it is opened."""
    doc = f"The taskset {taskset} of the package verifiers."
    return type("VerifiersPackage", (VerifiersPackage,), {"taskset": taskset, "__doc__": doc})
