"""Many episodes at once: n prompts out, n completions in, all of them scored in one call."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from envs.core import (
    Problem,
    Prompt,
    TextEnv,
    check_index,
    check_step,
    choose_index,
    read_problem,
    render_turns,
    reply_all,
    score_all,
)
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
        self._turns: list[list[str]] = []
        self._replies: list[list[str]] = []
        self._terminated, self._truncated = np.zeros((2, num_envs), bool)
        self._info: dict[str, Any] = {}

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
        self._indices, self._problems = indices, [once[i] for i in indices]
        self._turns, self._replies = ([[] for _ in indices] for _ in range(2))
        self._terminated, self._truncated = np.zeros((2, self.num_envs), bool)
        self._info = {
            "index": np.array(indices, np.int64),
            "rewards": {name: np.zeros(self.num_envs) for name in self.env.reward_weights},
            "correct": np.zeros(self.num_envs, bool),
            "reason": [""] * self.num_envs,
            "extracted": [None] * self.num_envs,
        }
        return tuple(p.prompt for p in self._problems), {"index": self._info["index"].copy()}

    def step(
        self, actions: Sequence[str]
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes n completions; returns (n replies, rewards (n,) float64, terminated, truncated, info).

        Episodes go in lockstep: of one that has ended the action is not looked at, its reply is "" and its reward 0
        from then on, and it waits for `reset`. All that end in a step are scored at once. info: {"index": (n,),
        "rewards": {component: (n,) float64}, "correct": (n,) bool, "reason": n words, "extracted": n texts or None} of
        those that have ended (0 and "" elsewhere), and "traceback" (n texts or None) if the author's code raised for
        any. Raises EnvError before `reset`, when all have ended, for anything but n strings, or if a reply or score is
        not valid.
        """
        n, ended = self.num_envs, self._terminated | self._truncated
        if isinstance(actions, str) or not isinstance(actions, Sequence | np.ndarray) or len(actions) != n:
            raise EnvError(
                f"{self.env.spec_name}: step() got {actions!r:.80}, not a sequence of {n} strings."
            )
        rows = [row for row in range(n) if not ended[row] or ended.all()]
        indices = [self._indices[row] for row in rows] if self._indices else []
        check_step(self.env, indices, [actions[row] for row in rows], ended=bool(ended.all()))
        turns = {row: [*self._turns[row], actions[row]] for row in rows}
        replies, raised = reply_all(
            self.env, indices, [self._problems[row] for row in rows], list(turns.values())
        )
        answered = {
            row: reply
            for row, reply in zip(rows, replies, strict=True)
            if reply is not None and len(turns[row]) < self.env.max_turns
        }
        over = [place for place, row in enumerate(rows) if row not in answered]
        rewards = self._score({rows[i]: turns[rows[i]] for i in over}, [raised[i] for i in over])
        for place, row in enumerate(rows):  # last: what has raised has not changed anything
            self._turns[row] = turns[row]
            self._replies[row] += [answered[row]] if row in answered else []
            self._terminated[row] = replies[place] is None
            self._truncated[row] = replies[place] is not None and row not in answered
        observations = tuple(answered.get(row, "") for row in range(n))
        return observations, rewards, self._terminated.copy(), self._truncated.copy(), dict(self._info)

    def _score(self, turns: dict[int, list[str]], raised: list[str | None]) -> np.ndarray:
        """Scores the episodes that end, {row: turns}, and notes what came out; returns the rewards of all, (n,)."""
        rewards, rows = np.zeros(self.num_envs), list(turns)
        if not rows:
            return rewards
        indices, problems = ([of[row] for row in rows] for of in (self._indices, self._problems))
        scored, old = score_all(self.env, indices, problems, list(turns.values()), raised), self._info
        rewards[rows] = scored.total
        columns = {name: values.copy() for name, values in old["rewards"].items()}
        for name, values in scored.rewards.items():
            columns[name][rows] = values
        self._info = {**old, "rewards": columns, "correct": columns["correct"] == 1.0}
        lists = {"reason": scored.reason, "extracted": scored.extracted}
        if any(scored.traceback) or "traceback" in old:
            lists["traceback"] = scored.traceback
        for name, values in lists.items():
            column = dict(enumerate(old.get(name, [None] * self.num_envs))) | dict(
                zip(rows, values, strict=True)
            )
            self._info[name] = list(column.values())
        return rewards

    def render(self) -> tuple[str, ...] | None:
        """The n problems, completions and replies as texts (`render_mode="ansi"`), otherwise None."""
        if self.render_mode is None:
            return None
        episodes = zip(self._problems, self._turns, self._replies, strict=True)
        return tuple(render_turns(self.env, *episode) for episode in episodes)
