"""An environment around another one, or around several: it passes on whatever it does not change itself."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import gymnasium

from envs.core import TextEnv
from envs.problem import Problem, Score, Scores, read_problem


class Wrapper(TextEnv):
    """An environment around `env`; a subclass writes only what is different.

    Methods that take a `problem` are passed on to `env_of(problem)`, which is `env` unless a subclass holds several
    environments. In a run, scores come from the innermost environment, the one that an author wrote (`author_of`): the
    scoring methods here are only for those who call them directly, and a subclass that overrides them changes no run.
    """

    def __init__(self, env: TextEnv) -> None:
        self.env = env

    def env_of(self, problem: Problem) -> TextEnv:
        """The environment to which a problem belongs, one of those directly inside this one."""
        return self.env

    def author_of(self, problem: Problem) -> TextEnv:
        return self.env_of(problem).author_of(problem)

    @property
    def author_class(self) -> type[TextEnv]:
        return self.env.author_class

    # The methods that the author of an environment writes. Those that score or reply may be `async`.

    def __len__(self) -> int:
        return len(self.env)

    def problem(self, index: int) -> Problem:
        # Calls `self.env.problem(index)` and checks the result, so that an error names the environment inside.
        return read_problem(self.env, index)

    def score(
        self, problem: Problem, completion: str
    ) -> Score | Mapping[str, float] | Awaitable[Score | Mapping[str, float]]:
        return self.env_of(problem).score(problem, completion)

    def score_batch(
        self, problems: Sequence[Problem], completions: Sequence[str]
    ) -> Scores | Awaitable[Scores]:
        # The problems may belong to several environments, so a subclass that holds several overrides this.
        return self.env.score_batch(problems, completions)

    def score_turns(
        self, problem: Problem, turns: Sequence[str]
    ) -> Score | Mapping[str, float] | Awaitable[Score | Mapping[str, float]]:
        return self.env_of(problem).score_turns(problem, turns)

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | Awaitable[str | None] | None:
        return self.env_of(problem).reply(problem, turns)

    def feedback(self, problem: Problem, score: Score) -> str:
        return self.env_of(problem).feedback(problem, score)

    def demonstration(self, problem: Problem) -> str | list[str]:
        return self.env_of(problem).demonstration(problem)

    def habits(self, problem: Problem) -> Mapping[str, str | list[str]]:
        return self.env_of(problem).habits(problem)

    def render_text(self, problem: Problem, completion: str | None) -> str:
        return self.env_of(problem).render_text(problem, completion)

    # The attributes of the environment inside. Most are its author's to set in its class; `parts` and `spec_name`
    # follow from how it was opened. Only the weights can be set from outside, by `envs.make(reward_weights=...)`.

    @property
    def reward_weights(self) -> Mapping[str, float]:  # type: ignore[override]
        return self.env.reward_weights

    @reward_weights.setter
    def reward_weights(self, weights: Mapping[str, float]) -> None:
        self.env.reward_weights = weights

    @property
    def reward_ranges(self) -> Mapping[str, tuple[float, float]]:  # type: ignore[override]
        return self.env.reward_ranges

    @property
    def max_turns(self) -> int:  # type: ignore[override]
        return self.env.max_turns

    @property
    def score_concurrency(self) -> int:  # type: ignore[override]
        return self.env.score_concurrency

    @property
    def score_timeout(self) -> float:  # type: ignore[override]
        return self.env.score_timeout

    @property
    def notice(self) -> str:  # type: ignore[override]
        return self.env.notice

    @property
    def origin(self) -> Mapping[str, str]:  # type: ignore[override]
        return self.env.origin

    @property
    def parts(self) -> Mapping[str, TextEnv]:  # type: ignore[override]
        return self.env.parts

    @property
    def observation_space(self) -> gymnasium.Space[Any]:  # type: ignore[override]
        return self.env.observation_space

    @property
    def action_space(self) -> gymnasium.Space[Any]:  # type: ignore[override]
        return self.env.action_space

    @property
    def spec_name(self) -> str:
        return self.env.spec_name

    def __getattr__(self, name: str) -> Any:
        """Passes on what only the environment inside has, such as `level`. Python asks here for what is not found."""
        # Names that begin with "_" are not passed on: each environment has its own, and `copy` and `pickle` mean the
        # wrapper when they ask for `__setstate__`. While they work there is no `env` yet, because they do not call
        # __init__; then `self.env` below would call this method again, for ever.
        if name.startswith("_") or "env" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.env, name)
