"""`reward=./mine.py:brevity` for any task: the user's reward functions are paid beside the task's own components.

A file of rows takes the argument itself (`envs.files.rows`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.authoring.reward_functions import call_functions, columns_of, load_functions
from envs.combining.wrapper import TaskWrapper, innermost
from envs.errors import EnvError
from envs.problem import Problem, Scores, read_problem
from envs.task import Task, limits_of
from verifiers.errors import did_you_mean


class OwnRewards(Task):
    """What the functions pay; `envs.scoring` adds it to the scores of the task that they belong to."""

    def __init__(self, task: Task, functions: Mapping[str, Any]) -> None:
        self.task, self.functions = task, functions
        self.reward_weights = dict.fromkeys(functions, 1.0)

    @property
    def spec_name(self) -> str:
        return self.task.spec_name

    def __len__(self) -> int:
        return len(self.task)

    def problem(self, index: int) -> Problem:
        return self.task.problem(index)

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        rewards = call_functions(self.functions, problems, completions, limits_of(self.task))
        return Scores(rewards, [""] * len(problems), [None] * len(problems))


class Rewarded(TaskWrapper):
    """A task with further components of the reward: what functions pay for an episode's last completion."""

    def __init__(self, task: Task, reward: Any) -> None:
        """Raises EnvError as `load_functions`, and for a function that is named as a component, or lacks a parameter.

        reward: as in `Rows`. The functions get the fields of a problem's reference as columns.
        """
        super().__init__(task)
        functions = load_functions(reward)
        authors = [innermost(part) for part in task.parts.values()] or [innermost(task)]
        for author in authors:
            if taken := functions.keys() & author.reward_weights.keys():
                raise EnvError(
                    f"--reward {reward}: {taken.pop()!r} is a component of {author.spec_name} itself. Rename the "
                    "function."
                )
            fields = read_problem(author, 0).reference
            if lacking := [name for name in columns_of(functions) if name not in fields]:
                near = did_you_mean(lacking[0], ["prompts", "completions", *fields])
                raise EnvError(
                    f"--reward {reward} asks for {', '.join(lacking)}, which the problems of {author.spec_name} do not "
                    f"have. {near}It can have prompts, completions, {', '.join(fields)}."
                )
        self.own = OwnRewards(task, functions)
        for author in authors:
            author.own_rewards = self.own

    @property
    def reward_weights(self) -> Mapping[str, float]:  # type: ignore[override]
        return {**self.inner.reward_weights, **self.own.reward_weights}

    @reward_weights.setter
    def reward_weights(self, weights: Mapping[str, float]) -> None:
        self.own.reward_weights = {name: weights[name] for name in self.own.reward_weights}
        self.inner.reward_weights = {name: weights[name] for name in self.inner.reward_weights}

    @property
    def reward_ranges(self) -> Mapping[str, tuple[float, float]]:  # type: ignore[override]
        return {**self.inner.reward_ranges, **dict.fromkeys(self.own.reward_weights, (-np.inf, np.inf))}
