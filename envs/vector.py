"""Many episodes at once: n prompts out, n completions in, all of them scored in one call."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from envs.core import Problem, Prompt, TextEnv, check_index, check_step, choose_index, read_problem, score_all
from envs.errors import EnvError


class TextVectorEnv(VectorEnv):
    """`num_envs` episodes of one environment side by side; what they share is `env`."""

    metadata: ClassVar[dict[str, Any]] = {**TextEnv.metadata, "autoreset_mode": AutoresetMode.DISABLED}

    def __init__(self, env: TextEnv, num_envs: int) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise EnvError(f"{env.spec_name}: num_envs={num_envs!r:.80} must be a whole number, at least 1.")
        self.env, self.num_envs, self.render_mode = env, num_envs, env.render_mode
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.observation_space = gymnasium.spaces.Tuple([env.observation_space] * num_envs)
        self.action_space = gymnasium.spaces.Tuple([env.action_space] * num_envs)
        self._indices: list[int] = []
        self._problems: list[Problem] = []
        self._completions: Sequence[str] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[Prompt, ...], dict[str, Any]]:
        """Starts n episodes; returns (n prompts, {"index": (n,) int64}).

        options: {"index": (n,) integers} picks the problems, repeats allowed; without it they are drawn from
        `np_random` (see `seed`). Raises EnvError unless there are n of them, each from 0 to len(env) - 1.
        """
        super().reset(seed=seed)
        index = choose_index(self.env, self.np_random, options, self.num_envs)
        if not isinstance(index, Sequence | np.ndarray) or len(index) != self.num_envs:
            wanted = f"{self.num_envs} integers, one for each environment"
            raise EnvError(f"{self.env.spec_name}: index is {index!r:.80}, but must be {wanted}.")
        indices = [check_index(self.env, i) for i in index]
        once = {i: read_problem(self.env, i) for i in dict.fromkeys(indices)}
        # Set last: after a reset that failed, a step must not judge a mixture of old and new.
        self._indices, self._problems, self._completions = indices, [once[i] for i in indices], None
        return tuple(p.prompt for p in self._problems), {"index": np.array(self._indices, np.int64)}

    def step(
        self, actions: Sequence[str]
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Scores n completions; returns (n times "", rewards (n,) float64, terminated, truncated, info).

        info: {"index": (n,), "rewards": {component: (n,) float64}, "correct": (n,) bool, "reason": n words,
        "extracted": n texts or None}, and "traceback" (n texts or None) if the author's code raised for any.
        Raises EnvError before `reset`, on a second step, for anything but n strings, or if a score is not
        valid.
        """
        n = self.num_envs
        if isinstance(actions, str) or not isinstance(actions, Sequence | np.ndarray) or len(actions) != n:
            raise EnvError(
                f"{self.env.spec_name}: step() got {actions!r:.80}, not a sequence of {n} strings."
            )
        check_step(self.env, self._indices, actions, ended=self._completions is not None)
        scored = score_all(self.env, self._indices, self._problems, actions)
        self._completions = tuple(actions)
        info: dict[str, Any] = {
            "index": np.array(self._indices, np.int64),
            "rewards": scored.rewards,
            "correct": scored.rewards["correct"] == 1.0,
            "reason": scored.reason,
            "extracted": scored.extracted,
        }
        if any(scored.traceback):
            info["traceback"] = scored.traceback
        return ("",) * n, scored.total, np.ones(n, bool), np.zeros(n, bool), info

    def render(self) -> tuple[str, ...] | None:
        """The n problems and completions as texts (`render_mode="ansi"`), otherwise None."""
        if self.render_mode is None:
            return None
        shown = self._completions or (None,) * len(self._problems)
        return tuple(self.env.render_text(p, c) for p, c in zip(self._problems, shown, strict=True))
