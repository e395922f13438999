"""Tasks made of other tasks (`Combined`): a `TaskWrapper` changes something of one task, and a mixture has several."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from envs.problem import Problem, Score, read_problem
from envs.task import Task


class Combined(Task):
    """A task with the problems of other tasks. A subclass only writes what differs.

    In a run, scoring goes straight to the task that an author wrote (`author_task`). So overriding a scoring method
    here does not change a run.
    """

    @abstractmethod
    def inside(self, problem: Problem) -> Task:
        """The task to which a problem belongs, among the tasks directly inside this one."""

    def score(self, problem: Problem, completion: str) -> Any:
        return self.inside(problem).score(problem, completion)

    def score_turns(self, problem: Problem, turns: Sequence[str]) -> Any:
        return self.inside(problem).score_turns(problem, turns)

    def reply(self, problem: Problem, turns: Sequence[str]) -> Any:
        return self.inside(problem).reply(problem, turns)

    def feedback(self, problem: Problem, score: Score) -> str:
        return self.inside(problem).feedback(problem, score)

    def demonstration(self, problem: Problem) -> str | list[str]:
        return self.inside(problem).demonstration(problem)

    def habits(self, problem: Problem) -> Mapping[str, str | list[str]]:
        return self.inside(problem).habits(problem)

    def completion_template(self, problem: Problem) -> str:
        return self.inside(problem).completion_template(problem)

    def render_text(self, problem: Problem, completion: str | None) -> str:
        return self.inside(problem).render_text(problem, completion)


def _attribute_of_inner(name: str) -> Any:
    """A property with the value of the attribute `name` of the task inside."""
    return property(
        lambda self: getattr(self.inner, name), lambda self, value: setattr(self.inner, name, value)
    )


class TaskWrapper(Combined):
    """A task with the problems of the one inside, `inner`."""

    def __init__(self, task: Task) -> None:
        self.inner = task

    def inside(self, problem: Problem) -> Task:
        return self.inner

    def __len__(self) -> int:
        return len(self.inner)

    def problem(self, index: int) -> Problem:
        # Calls `self.inner.problem(index)` and checks the result, so that an error names the task inside.
        return read_problem(self.inner, index)

    def problems_at(self, step: int) -> range:
        return self.inner.problems_at(step)

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Any:
        return self.inner.score_batch(problems, completions)

    reward_weights = _attribute_of_inner("reward_weights")
    reward_ranges = _attribute_of_inner("reward_ranges")
    max_turns = _attribute_of_inner("max_turns")
    parts = _attribute_of_inner("parts")
    spec_name = _attribute_of_inner("spec_name")
    score_concurrency = _attribute_of_inner("score_concurrency")
    score_timeout = _attribute_of_inner("score_timeout")
    notice = _attribute_of_inner("notice")
    origin = _attribute_of_inner("origin")

    def __getattr__(self, name: str) -> Any:
        """An attribute that only the task inside has, such as `level`. Python calls this for names not found here."""
        # Names that begin with "_" belong to each task itself; `copy` and `pickle` mean this object when they look for
        # `__setstate__`. They do not call __init__, so there is no `inner` at first, and `self.inner` below would call
        # this method again, for ever.
        if name.startswith("_") or "inner" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.inner, name)


def innermost(task: Task) -> Task:
    """The task inside all wrappers: the one that an author wrote, or a mixture."""
    while isinstance(task, TaskWrapper):
        task = task.inner
    return task


def author_task(task: Task, problem: Problem) -> Task:
    """The author's task, without wrappers, to which a problem belongs; in a mixture one of several."""
    while isinstance(task, Combined):
        task = task.inside(problem)
    return task
