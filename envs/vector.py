"""Many episodes at once: n prompts out, n completions in, all of them scored in one call."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from envs.core import TextEnv, render_turns
from envs.episodes import Episodes, before_reset
from envs.errors import EnvError
from envs.problem import Prompt, check_index, choose_index, read_seed


class TextVectorEnv(VectorEnv):
    """`num_envs` episodes of the environment `env` side by side."""

    metadata: ClassVar[dict[str, Any]] = {**TextEnv.metadata, "autoreset_mode": AutoresetMode.DISABLED}

    def __init__(self, env: TextEnv, num_envs: int) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise EnvError(f"{env.spec_name}: num_envs={num_envs!r:.80} must be a whole number, at least 1.")
        self.env, self.num_envs, self.render_mode = env, num_envs, env.render_mode
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.observation_space = gymnasium.spaces.Tuple([env.observation_space] * num_envs)
        self.action_space = gymnasium.spaces.Tuple([env.action_space] * num_envs)
        self._episodes: Episodes | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[Prompt, ...], dict[str, Any]]:
        """Starts n episodes; returns (n prompts, {"index": (n,) int64}).

        options: {"index": (n,) integers} picks the problems, repeats allowed; without it they are drawn at random.
        seed: starts the random numbers anew; None = they go on. Raises EnvError unless there are n indices, each from 0
        to len(env) - 1.
        """
        super().reset(seed=read_seed(self.env, seed))
        indices = choose_index(self.env, self.np_random, options, size=self.num_envs)
        if not isinstance(indices, Sequence | np.ndarray) or len(indices) != self.num_envs:
            wanted = f"{self.num_envs} integers, one for each environment"
            raise EnvError(f"{self.env.spec_name}: index is {indices!r:.80}, but must be {wanted}.")
        self._episodes = Episodes(self.env, [check_index(self.env, index) for index in indices])
        prompts = tuple(problem.prompt for problem in self._episodes.problems)
        return prompts, {"index": np.array(self._episodes.indices, np.int64)}

    def step(
        self, actions: Sequence[str]
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes n completions; returns (n replies, rewards (n,) float64, terminated, truncated, info).

        Episodes go in lockstep: an episode that has ended waits for `reset`; until then its action is ignored, its
        reply is "" and its reward 0. All episodes that end in the same step are scored in one call.

        info: {"index": (n,), "rewards": {component: (n,) float64}, "correct": (n,) bool, "reason": n words,
        "extracted": for each episode a text or None}. If the author's code raised in an episode, there is also
        "traceback", for each episode a text or None. Episodes that go on have 0, False, "" and None there; episodes
        that ended in an earlier step keep their values.

        Raises EnvError before `reset`, when all have ended, for anything but n strings, or if a reply or score is not
        valid.
        """
        n = self.num_envs
        if isinstance(actions, str) or not isinstance(actions, Sequence | np.ndarray) or len(actions) != n:
            raise EnvError(
                f"{self.env.spec_name}: step() got {actions!r:.80}, not a sequence of {n} strings."
            )
        if self._episodes is None:
            raise EnvError(before_reset(self.env))
        episodes = self._episodes.copy()
        playing = [i for i, ending in enumerate(episodes.ended) if ending is None]
        # If all episodes have ended, `take_turn` gets all actions, and raises.
        going_on = set(episodes.take_turn({i: actions[i] for i in playing or range(n)}))
        just_ended = [i for i in playing if episodes.ended[i]]
        if just_ended:
            episodes.score(just_ended)
        scores = episodes.scores  # of all episodes, also of those that ended earlier
        rewards = np.zeros(n)
        rewards[just_ended] = scores.total[just_ended]
        self._episodes = episodes  # only now, so that after an error above the turn can be taken again
        info = {
            "index": np.array(episodes.indices, np.int64),
            "rewards": dict(scores.rewards),
            "correct": scores.rewards["correct"] == 1.0,
            "reason": scores.reason,
            "extracted": scores.extracted,
        }
        if any(scores.traceback):
            info["traceback"] = scores.traceback
        observations = tuple(episodes.replies[i][-1] if i in going_on else "" for i in range(n))
        return observations, rewards, episodes.terminated, episodes.truncated, info

    def render(self) -> tuple[str, ...] | None:
        """The n problems, completions and replies as texts (`render_mode="ansi"`), otherwise None."""
        if self.render_mode is None:
            return None
        if self._episodes is None:
            raise EnvError(f"{self.env.spec_name}: render() before reset(). Call reset() first.")
        episodes = zip(self._episodes.problems, self._episodes.turns, self._episodes.replies, strict=True)
        return tuple(render_turns(self.env, *episode) for episode in episodes)
