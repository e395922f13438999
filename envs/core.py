"""The class that a task author derives from, which is a Gymnasium environment with one episode at a time."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium

from envs.combining.wrapper import TaskWrapper, author_task
from envs.episodes import Episodes, before_reset
from envs.errors import EnvError
from envs.problem import Problem, Prompt, check_index, choose_index, read_seed
from envs.spaces import PromptText, Unicode
from envs.task import Task, defines


class TextEnv(Task, gymnasium.Env[Prompt, str]):
    """A task over text: every episode shows one problem's prompt, takes one completion and rewards it.

    An author writes `__len__`, `problem` and `score` (or `score_batch`), sets `reward_weights`, and calls
    `envs.register`. `__init__` is free: it need not call `super().__init__()` nor take `render_mode`. For several
    turns, an author also sets `max_turns`, and writes `reply`.

    `score`, `score_turns`, `score_batch` and `reply` may be `async`, e.g. because they ask another model. Calls for
    many completions are then awaited side by side, `score_concurrency` at once, each for at most `score_timeout`
    seconds, and their results are in the order of the completions. An `async` method must not block: it calls a client
    that is not `async` by `await asyncio.to_thread(...)`. If a method, `async` or not, raises for a completion, that
    completion earns 0 with the reason "error" ("timeout" for a TimeoutError). A run counts these, and stops when they
    are more than 5% of a step.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}
    observation_space = PromptText()
    action_space = Unicode()
    _episode: Episodes | None = None
    """The episode that `reset` started."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Prompt, dict[str, Any]]:
        """Starts an episode; returns (prompt, {"index": i}).

        options: {"index": i} picks the problem; without it, a random one is drawn. seed: starts the random numbers
        anew; None = they go on. Raises EnvError for an index outside 0 .. len(self) - 1.
        """
        super().reset(seed=read_seed(self, seed))
        index = check_index(self, choose_index(self, self.np_random, options))
        self._episode = Episodes(self, [index])
        return self._episode.prompt(0), {"index": index}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Takes a completion; returns (reply, 0.0, False, False, {"index": i}) while the environment replies.

        At the end it scores the episode and returns ("", reward, True, False, info), or ("", reward, False, True, info)
        if the environment would go on after `max_turns`. info: {"index", "rewards": {component: float}, "correct":
        bool, "reason": str, "extracted": str | None}. If the author's `reply` or `score` raises, the episode ends, all
        rewards are 0, the reason is "error" or "timeout" and info["traceback"] says where. Raises EnvError before
        `reset`, after the end, if `action` is not a string, or if reply or score is not valid.
        """
        if self._episode is None:
            raise EnvError(before_reset(self))
        episode = self._episode.copy()
        # The only episode here has the number 0.
        goes_on = bool(episode.take_turn({0: action}))
        info: dict[str, Any] = {"index": episode.indices[0]}
        if not goes_on:
            scores = episode.score()
            rewards = {name: float(values[0]) for name, values in scores.rewards.items()}
            info |= {"rewards": rewards, "correct": rewards["correct"] == 1.0}
            info |= {"reason": scores.reason[0], "extracted": scores.extracted[0]}
            if scores.traceback[0] is not None:
                info["traceback"] = scores.traceback[0]
        self._episode = episode  # only now, so that after an error above the turn can be taken again
        if goes_on:
            return episode.replies[0][-1], 0.0, False, False, info
        terminated = bool(episode.terminated[0])
        return "", float(episode.scores.total[0]), terminated, not terminated, info

    def render(self) -> str | None:
        """The current problem, its completions and replies as text (`render_mode="ansi"`), otherwise None."""
        if self.render_mode is None:
            return None
        if self._episode is None:
            raise EnvError(f"{self.spec_name}: render() before reset(). Call reset() first.")
        episode = self._episode
        shown = render_turns(self, episode.problems[0], episode.turns[0], episode.replies[0])
        if episode.ended[0] is None:
            return shown
        reason = episode.scores.reason[0] or "no reason given"
        return f"{shown}\nreward {episode.scores.total[0]:g}, {reason}"


class TaskEnv(TaskWrapper, TextEnv):
    """The environment of any task, such as a divided one or a mixture; `TaskWrapper` passes all else on to the task."""

    def problem(self, index: int) -> Problem:
        return self.inner.problem(index)


def as_env(task: Task) -> TextEnv:
    """A task as an environment."""
    return task if isinstance(task, TextEnv) else TaskEnv(task)


def render_turns(task: Task, problem: Problem, turns: Sequence[str], replies: Sequence[str]) -> str:
    """An episode as text for a terminal: by `render_text` if there is one turn, else turn by turn."""
    task = author_task(task, problem)  # without wrappers; in a mixture, the problem's own task
    problem = problem.copy()
    if len(turns) < 2 and not replies:
        return task.render_text(problem, turns[0] if turns else None)
    # An author's own `render_text` shows the problem with every completion, so the problem is not shown before.
    by_author = defines(type(task), "render_text")
    lines = [] if by_author else [task.render_text(problem, None)]
    for number, turn in enumerate(turns):
        lines.append(task.render_text(problem, turn) if by_author else f"assistant: {turn}")
        if number < len(replies):
            lines.append(f"user: {replies[number]}")
    return "\n".join(lines)
