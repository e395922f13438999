"""The completions of a step: episodes of an environment, played by the model round by round and scored in one call."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from spg_trainer.distributed import raising_on_all, world_size
from spg_trainer.models import Policy
from spg_trainer.rollout.dealing import choose_problems, deal_groups, prompt_length
from spg_trainer.rollout.scored import Failures, Scored
from spg_trainer.rollout.tokens import (
    Prompt,
    decode_completions,
    encode_fitting,
    encode_prompts,
    sample,
)
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

    In each round the episodes that go on are decoded as one batch. index, generation: (B,) int64; the noise of a turn
    is keyed by (seed, *key, index, generation), and its number from the second on. rows: as in `Scored`, None = there
    are no others. record_entropy: as for `sample_completions`. branches: how many neighbours share a first half, as for
    `sample_trees`, which is for single turns.
    """
    once = {int(i): envs.core.read_problem(env, int(i)) for i in index}
    problems = [once[int(i)] for i in index]
    prefixes = [problem.completion_prefix for problem in problems]
    write = sample if branches == 1 else partial(sample_trees, branches=branches)
    keys = [(*key, i, g) for i, g in zip(index.tolist(), generation.tolist(), strict=True)]
    talk = Dialogues(env, index.tolist(), problems)
    parts, owners, going = [], [], list(range(len(index)))
    encoded = encode_prompts(policy, [problem.prompt for problem in problems], prefixes)
    while going:
        turn = (len(parts),) if parts else ()
        own = [(*keys[i], *turn) for i in going]
        rollouts = write(policy, encoded, sampling, seed, own, rows_per_forward, record_entropy)
        written = decode_completions(policy, rollouts)
        parts.append(rollouts)
        owners += going
        going = talk.answer({i: prefixes[i] + text for i, text in zip(going, written, strict=True)})
        encoded, fits = encode_fitting(
            policy, [talk.prompt(i) for i in going], [prefixes[i] for i in going], sampling
        )
        going = talk.keep(going, fits)
    order = np.argsort(owners, kind="stable")
    of = np.array(owners)[order]
    rows = np.arange(len(index)) if rows is None else rows
    rollouts = parts[0]
    if env.max_turns > 1:
        rollouts = Rollouts.join(parts).select(torch.from_numpy(order).to(policy.device))
        rollouts = replace(rollouts, episode=torch.from_numpy(rows[of]).to(policy.device))
    judged = envs.core.score_all(env, index.tolist(), problems, talk.turns, talk.raised)
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


class Dialogues:
    """B episodes side by side: what was written and replied so far; `env` answers, and says when one is over."""

    def __init__(self, env: "TextEnv", index: list[int], problems: "list[Problem]") -> None:
        self.env, self.index, self.problems = env, index, problems
        self.turns: list[list[str]] = [[] for _ in index]
        self.replies: list[list[str]] = [[] for _ in index]
        self.raised: list[str | None] = [None] * len(index)
        self.truncated = np.zeros(len(index), dtype=bool)
        self.no_room = 0
        """Episodes that ended because their next prompt was too long for the model."""

    def answer(self, written: dict[int, str]) -> list[int]:
        """Adds a turn to some episodes, {episode: completion}, and returns those that go on."""
        for i, text in written.items():
            self.turns[i].append(text)
        given = [[of[i] for i in written] for of in (self.index, self.problems, self.turns)]
        going = []
        for i, reply, trace in zip(written, *envs.core.reply_all(self.env, *given), strict=True):
            self.raised[i] = trace
            self.truncated[i] = reply is not None and len(self.turns[i]) >= self.env.max_turns
            if reply is not None and not self.truncated[i]:
                self.replies[i].append(reply)
                going.append(i)
        return going

    def prompt(self, i: int) -> Prompt:
        """What the model reads next: the chat so far."""
        return envs.core.chat(self.problems[i], self.turns[i], self.replies[i])

    def keep(self, going: list[int], fits: Sequence[bool]) -> list[int]:
        """Of episodes that go on those whose next prompt fits the model; the others end, their last reply unread."""
        for i, fit in zip(going, fits, strict=True):
            if not fit:
                self.truncated[i], self.no_room = True, self.no_room + 1
                self.replies[i].pop()
        return [i for i, fit in zip(going, fits, strict=True) if fit]
