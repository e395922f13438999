"""The completions of a step: episodes of an environment, played by the model round by round and scored in one call."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from spg_trainer.distributed import raising_on_all, world_size
from spg_trainer.models import Policy
from spg_trainer.rollout.dealing import choose_problems, deal_groups, prompt_length
from spg_trainer.rollout.dialogues import Dialogues, Prompts, in_episodes, play
from spg_trainer.rollout.overlong import SKIP, next_fitting, refuse_first
from spg_trainer.rollout.scored import Failures, Scored
from spg_trainer.rollout.tokens import encode_prompts, sample
from spg_trainer.rollout.trees import sample_trees
from spg_trainer.settings.fields import Config, Sampling
from spg_trainer.settings.packages import envs
from spg_trainer.tensors import Rollouts

if TYPE_CHECKING:
    from envs import Problem, TextEnv


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
        branches: int = 1,
    ) -> None:
        self.whole_groups, self.record_entropy, self.branches = whole_groups, record_entropy, branches
        self.env, self.policy, self.config, self.rows_per_forward = env, policy, config, rows_per_forward
        self.spec_name, self.task, self.notice = env.spec_name, getattr(env, "task", ""), env.notice

    def render_turns(self, problem: "Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        return envs.core.render_turns(self.env, problem, turns, replies)

    def collect(self, step: int) -> Scored:
        batch, seed = self.config.batch, self.config.seed
        with raising_on_all():
            index = choose_problems(seed, step, batch.prompts_per_step, len(self.env))
            skipped = None
            if self.config.overlong == SKIP:
                length = self.config.rollout.max_completion_length
                index, skipped = next_fitting(self.policy, self.env, index, length)
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
                branches=self.branches,
            )
            scored = replace(scored, skipped=skipped)
            if self.branches > 1:
                done = torch.full_like(
                    scored.rollouts.unmask_logps[:, 0], step / self.config.max_steps, dtype=torch.float64
                )
                scored = replace(scored, rollouts=replace(scored.rollouts, share_done=done))
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
    branches: int = 1,
) -> Scored:
    """Plays one episode per (index, generation) pair, and scores all of them in one verifier call.

    index, generation: (B,) int64; the noise of a turn is keyed by (seed, *key, index, generation), and its number from
    the second on. rows: as in `Scored`, None = there are no others. record_entropy: as for `sample_completions`.
    branches: how many neighbours share the first half of their first turn, as for `sample_trees`.
    """
    once = {int(i): envs.core.read_problem(env, int(i)) for i in index}
    problems = [once[int(i)] for i in index]
    keys = [(*key, i, g) for i, g in zip(index.tolist(), generation.tolist(), strict=True)]

    def write(encoded: Prompts, going: list[int], turn: int) -> Rollouts:
        own = [(*keys[i], *([turn] if turn else [])) for i in going]
        how = sampling, seed, own, rows_per_forward, record_entropy
        if branches > 1 and turn == 0:
            return sample_trees(policy, encoded, *how, branches=branches)
        rollouts = sample(policy, encoded, *how)
        unbranched = torch.zeros_like(rollouts.completion_mask[:, 0]) if branches > 1 else None
        return replace(rollouts, branched=unbranched)

    talk = Dialogues(env, index.tolist(), problems)
    first = encode_prompts(policy, [p.prompt for p in problems], [p.completion_prefix for p in problems])
    refuse_first(policy, env, index.tolist(), first[1].sum(-1).tolist(), sampling.max_completion_length)
    rounds = play(policy, talk, first, list(range(len(index))), sampling, write)
    rollouts, of = in_episodes(rounds)
    rows = np.arange(len(index)) if rows is None else rows
    if env.max_turns > 1:
        rollouts = replace(rollouts, episode=torch.from_numpy(rows[of]).to(policy.device))
    judged = talk.score()
    return Scored(
        index=index[of],
        generation=generation[of],
        rows=rows[of],
        problems=[problems[i] for i in of],
        completions=[text for turns in talk.turns for text in turns],
        rollouts=rollouts,
        rewards=judged.total[of],
        components={name: values[of] for name, values in judged.rewards.items()},
        correct=judged.rewards["correct"][of] == 1.0,
        reason=[judged.reason[i] for i in of],
        extracted=[judged.extracted[i] for i in of],
        traceback=[judged.traceback[i] for i in of],
        replies=[reply for replies in talk.replies for reply in [*replies, None]],
        truncated=talk.truncated[of] if env.max_turns > 1 else None,
        no_room=talk.no_room,
    )
