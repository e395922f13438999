"""Sources of the completions that a step learns from: here the sampler over an environment; `pairs` has the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from spg_trainer.distributed import deal, raising_on_all, world_size
from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.rollout.scored import Failures, Scored, prompt_length, sample_and_score
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
        """This process's completions of a step."""

    def render_text(self, problem: "Problem", completion: str) -> str:
        """A problem and its completion for a terminal."""


class EnvironmentSource:
    """The model's own completions of an environment's problems."""

    def __init__(
        self,
        env: "TextEnv",
        policy: Policy,
        config: Config,
        rows_per_forward: int | None,
        whole_groups: bool = False,
    ) -> None:
        self.whole_groups = whole_groups
        self.env, self.policy, self.config, self.rows_per_forward = env, policy, config, rows_per_forward
        self.spec_name, self.task, self.notice = env.spec_name, getattr(env, "task", ""), env.notice
        self.render_text = env.render_text

    def collect(self, step: int) -> Scored:
        batch, seed = self.config.batch, self.config.seed
        with raising_on_all():
            index = choose_problems(seed, step, batch.prompts_per_step, len(self.env))
            lengths = (
                [prompt_length(self.env, int(i)) for i in index] if world_size() > 1 else [0] * len(index)
            )
            rows = own_rows(lengths, batch.num_generations, self.whole_groups)
            group, generation = np.divmod(rows, batch.num_generations)
            scored = sample_and_score(
                self.policy,
                self.env,
                index[group],
                generation,
                self.config.rollout,
                key=("rollout", step),
                seed=seed,
                rows_per_forward=self.rows_per_forward,
                rows=rows,
            )
        Failures(batch.prompts_per_step * batch.num_generations).add(self.env, scored)
        return scored


def choose_problems(seed: int, step: int, count: int, size: int) -> np.ndarray:
    """`count` distinct problem indices below `size` for a step, (count,) int64; the same for every process."""
    return numpy_generator(seed, "problems", step).choice(size, size=count, replace=False)


def own_rows(lengths: Sequence[int], num_generations: int, whole_groups: bool) -> np.ndarray:
    """Numbers of this process's completions of a step, ascending: about as many and as long prompts for each process.

    lengths: of the prompts of all groups. Groups stay whole, but for those, the shortest, that are left where each
    process has equally many; with whole_groups these do too.
    """
    order = sorted(range(len(lengths)), key=lambda group: -lengths[group])
    whole = len(order) if whole_groups else len(order) - len(order) % world_size()
    groups = [order[place] for place in deal([lengths[group] for group in order[:whole]])]
    rows = [group * num_generations + k for group in groups for k in range(num_generations)]
    rest = [group * num_generations + k for group in order[whole:] for k in range(num_generations)]
    return np.array(sorted(rows + [rest[place] for place in deal([0] * len(rest))]), dtype=np.int64)


def check_prompts(count: int, size: int, source: str, note: str = "") -> None:
    """Raises ConfigError if a step takes more prompts than its source has."""
    if count > size:
        text = f"--prompts-per-step {count}: {source} has {size} to train on. Use {size} or fewer. {note}"
        raise ConfigError(text.rstrip())
