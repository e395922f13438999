"""`tries=N` for any task of one turn: the model is told what is wrong with its answer, and may try again.

`envs.registry.AROUND` says that a task takes this argument, and that it is 1 by default.
"""

import inspect
from collections.abc import Awaitable, Sequence
from typing import Any

from envs.combining.wrapper import TaskWrapper
from envs.errors import EnvError
from envs.problem import Problem, as_score
from envs.task import Task


class Tries(TaskWrapper):
    """Replies to a wrong completion with the `feedback` of `task`, until one is right or no try is left.

    The episode has the rewards of its last completion (`Task.score_turns`).
    """

    def __init__(self, task: Task, tries: int) -> None:
        """Raises EnvError unless `tries` is a whole number, at least 1, and `task` has one turn."""
        super().__init__(task)
        if isinstance(tries, bool) or not isinstance(tries, int) or tries < 1:
            raise EnvError(f"{task.spec_name}: tries={tries!r:.80} must be a whole number, at least 1.")
        if task.max_turns > 1:
            raise EnvError(f"{task.spec_name} takes no tries: it has {task.max_turns} turns of its own.")
        self.tries = tries

    @property
    def max_turns(self) -> int:  # type: ignore[override]
        return self.tries

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | Awaitable[str | None] | None:
        """The feedback on the last completion; None if this completion is right, or is the last that is allowed."""
        if len(turns) >= self.tries:
            return None
        # Scored as an episode of one turn; `feedback` gets the problem as it was before.
        returned = self.inner.score_turns(problem.copy(), turns[-1:])
        if inspect.isawaitable(returned):  # the author's `score` is `async`, so this reply is awaited as well
            return self._feedback_when_scored(problem, returned)
        return self._feedback_to(problem, returned)

    async def _feedback_when_scored(self, problem: Problem, returned: Awaitable[Any]) -> str | None:
        return self._feedback_to(problem, await returned)

    def _feedback_to(self, problem: Problem, returned: Any) -> str | None:
        """The feedback on a completion; None if it is right. returned: its Score, or a dict of its rewards."""
        score = as_score(returned)
        if score.rewards["correct"] == 1:
            return None
        return f"{self.inner.feedback(problem, score)} Try again."
