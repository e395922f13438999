"""The completions of a step: problems of an environment, answered by the model and scored in one call."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spg_trainer.distributed import raising_on_all, world_size
from spg_trainer.models import Policy
from spg_trainer.rollout.dealing import choose_problems, deal_groups, prompt_length
from spg_trainer.rollout.scored import Failures, Scored
from spg_trainer.rollout.tokens import decode_completions, encode_prompts, sample
from spg_trainer.settings.fields import Config, Sampling
from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import TextEnv


class EnvironmentSource:
    """The model's own completions of an environment's problems."""

    def __init__(
        self,
        env: "TextEnv",
        policy: Policy,
        config: Config,
        rows_per_forward: int | None,
        whole_groups: bool = False,
        record_entropy: bool = False,
    ) -> None:
        self.whole_groups, self.record_entropy = whole_groups, record_entropy
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
            rows = deal_groups(lengths, batch.num_generations, self.whole_groups)
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
                record_entropy=self.record_entropy,
            )
        Failures(batch.prompts_per_step * batch.num_generations).add(self.env, scored)
        return scored


def sample_and_score(
    policy: Policy,
    env: "TextEnv",
    index: np.ndarray,
    generation: np.ndarray,
    sampling: Sampling,
    *,
    key: Sequence[int | str],
    seed: int,
    rows_per_forward: int | None,
    rows: np.ndarray | None = None,
    record_entropy: bool = False,
) -> Scored:
    """Writes one completion per (index, generation) pair and scores all of them in one verifier call.

    index, generation: (B,) int64; the noise of a row is keyed by (seed, *key, index, generation). rows: as in `Scored`,
    None = there are no others. record_entropy: as for `sample_completions`.
    """
    vector = envs.TextVectorEnv(env, num_envs=len(index))
    prompts, _ = vector.reset(options={"index": index})
    problems = [env.problem(int(i)) for i in index]
    prefixes = [problem.completion_prefix for problem in problems]
    keys = [(*key, i, g) for i, g in zip(index.tolist(), generation.tolist(), strict=True)]
    rollouts = sample(
        policy,
        encode_prompts(policy, prompts, prefixes),
        sampling,
        seed,
        keys,
        rows_per_forward,
        record_entropy,
    )
    written = decode_completions(policy, rollouts)
    completions = [prefix + text for prefix, text in zip(prefixes, written, strict=True)]
    _, rewards, _, _, info = vector.step(completions)
    return Scored(
        index=index,
        generation=generation,
        rows=np.arange(len(index)) if rows is None else rows,
        problems=problems,
        completions=completions,
        rollouts=rollouts,
        rewards=rewards,
        components=info["rewards"],
        correct=info["correct"],
        reason=list(info["reason"]),
        extracted=list(info["extracted"]),
        traceback=list(info.get("traceback", [None] * len(index))),
    )
