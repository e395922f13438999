"""Sources of the completions that a step learns from: here the sampler over an environment; `pairs` has the other."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from spg_trainer.distributed import raising_on_all, rank, world_size
from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.rollout.scored import Failures, Scored, sample_and_score
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.fields import Config

if TYPE_CHECKING:
    from envs import Problem, TextEnv


class Source(Protocol):
    """What the training loop knows of where completions come from."""

    spec_name: str
    """What the problems are of, as samples/ records it."""
    notice: str
    """A line the user should read, or empty."""
    env: "TextEnv | None"
    """The environment that the model answers; None where completions are given."""

    def collect(self, step: int) -> Scored:
        """This process's completions of a step; a group never leaves its process."""

    def render_text(self, problem: "Problem", completion: str) -> str:
        """A problem and its completion for a terminal."""


class EnvironmentSource:
    """The model's own completions of an environment's problems."""

    def __init__(self, env: "TextEnv", policy: Policy, config: Config, rows_per_forward: int | None) -> None:
        self.env, self.policy, self.config, self.rows_per_forward = env, policy, config, rows_per_forward
        self.spec_name, self.task, self.notice = env.spec_name, getattr(env, "task", ""), env.notice
        self.render_text = env.render_text

    def collect(self, step: int) -> Scored:
        batch, seed = self.config.batch, self.config.seed
        with raising_on_all():
            index = own_share(choose_problems(seed, step, batch.prompts_per_step, len(self.env)))
            scored = sample_and_score(
                self.policy,
                self.env,
                np.repeat(index, batch.num_generations),
                np.tile(np.arange(batch.num_generations), len(index)),
                self.config.rollout,
                key=("rollout", step),
                seed=seed,
                rows_per_forward=self.rows_per_forward,
            )
        Failures(batch.prompts_per_step * batch.num_generations).add(self.env, scored)
        return scored


def choose_problems(seed: int, step: int, count: int, size: int) -> np.ndarray:
    """`count` distinct problem indices below `size` for a step, (count,) int64; the same for every process."""
    return numpy_generator(seed, "problems", step).choice(size, size=count, replace=False)


def own_share(index: np.ndarray) -> np.ndarray:
    """This process's part of a step's problems, of which each process has equally many."""
    return index.reshape(world_size(), -1)[rank()]


def check_prompts(count: int, size: int, source: str, note: str = "") -> None:
    """Raises ConfigError if a step takes more prompts than its source has."""
    if count > size:
        text = f"--prompts-per-step {count}: {source} has {size} to train on. Use {size} or fewer. {note}"
        raise ConfigError(text.rstrip())
