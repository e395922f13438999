"""Episodes side by side, played round by round: the model writes, the environment answers, the chat so far is asked."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from spg_trainer.models import Policy
from spg_trainer.rollout.tokens import decode_completions, encode_fitting
from spg_trainer.settings.fields import Sampling
from spg_trainer.settings.packages import envs
from spg_trainer.tensors import Rollouts

if TYPE_CHECKING:
    from envs import Problem, TextEnv

Prompts = tuple[Tensor, Tensor]
"""Encoded prompts: ids and mask, (B, L) each."""


class Dialogues:
    """B episodes side by side: what was written and replied so far; `env` answers, and says when one is over."""

    def __init__(
        self,
        env: "TextEnv",
        index: Sequence[int],
        problems: "Sequence[Problem]",
        begun: Sequence[tuple[Sequence[str], Sequence[str]]] | None = None,
    ) -> None:
        """begun: (completions, replies) of the turns that each episode has behind it; None = of none."""
        self.env, self.index, self.problems = env, index, problems
        begun = [((), ())] * len(index) if begun is None else begun
        self.turns: list[list[str]] = [list(turns) for turns, _ in begun]
        self.replies: list[list[str]] = [list(replies) for _, replies in begun]
        self.raised: list[str | None] = [None] * len(index)
        self.truncated = np.zeros(len(index), dtype=bool)
        self.no_room = 0
        """Episodes that ended because their next prompt was too long for the model."""

    def answer(self, written: Mapping[int, str]) -> list[int]:
        """Adds a turn to some episodes, {episode: what the model wrote}, and returns those that go on."""
        for i, text in written.items():
            self.turns[i].append(self.problems[i].completion_prefix + text)
        given = [[of[i] for i in written] for of in (self.index, self.problems, self.turns)]
        going = []
        for i, reply, trace in zip(written, *envs.core.reply_all(self.env, *given), strict=True):
            self.raised[i] = trace
            self.truncated[i] = reply is not None and len(self.turns[i]) >= self.env.max_turns
            if reply is not None and not self.truncated[i]:
                self.replies[i].append(reply)
                going.append(i)
        return going

    def next_prompts(
        self, policy: Policy, going: Sequence[int], sampling: Sampling
    ) -> tuple[Prompts, list[int]]:
        """The encoded prompts of episodes that go on, and which these are: of a prompt that is too long for the model
        the episode ends, its last reply unread.
        """
        chats = [envs.core.chat(self.problems[i], self.turns[i], self.replies[i]) for i in going]
        prefixes = [self.problems[i].completion_prefix for i in going]
        encoded, fits = encode_fitting(policy, chats, prefixes, sampling)
        for i, fit in zip(going, fits, strict=True):
            if not fit:
                self.truncated[i], self.no_room = True, self.no_room + 1
                self.replies[i].pop()
        return encoded, [i for i, fit in zip(going, fits, strict=True) if fit]

    def score(self) -> "envs.core.ScoredBatch":
        """What the episodes earned, in one verifier call."""
        return envs.core.score_all(self.env, self.index, self.problems, self.turns, self.raised)


def play(
    policy: Policy,
    talk: Dialogues,
    encoded: Prompts,
    going: list[int],
    sampling: Sampling,
    write: Callable[[Prompts, list[int], int], Rollouts],
) -> list[tuple[Rollouts, list[int]]]:
    """Plays episodes to their end; in each round those that go on are decoded as one batch.

    encoded: the prompts of the episodes `going`. write: decodes a round, from prompts, episodes and its number, from 0
    on. Returns the completions of each round, with the episodes that they belong to.
    """
    rounds: list[tuple[Rollouts, list[int]]] = []
    while going:
        rollouts = write(encoded, going, len(rounds))
        rounds.append((rollouts, going))
        written = dict(zip(going, decode_completions(policy, rollouts), strict=True))
        encoded, going = talk.next_prompts(policy, talk.answer(written), sampling)
    return rounds


def in_episodes(rounds: Sequence[tuple[Rollouts, list[int]]]) -> tuple[Rollouts, np.ndarray]:
    """The completions of all rounds, those of an episode together, turn by turn; and whose each is, (B,) int64."""
    owners = np.array([i for _, going in rounds for i in going])
    rollouts = Rollouts.join([part for part, _ in rounds])
    if len(rounds) == 1:
        return rollouts, owners
    order = owners.argsort(kind="stable")
    return rollouts.select(torch.from_numpy(order).to(rollouts.completion_ids.device)), owners[order]
