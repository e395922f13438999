"""Plays episodes of an environment with the model, in rounds: each decodes one turn of every episode that goes on."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from spg_trainer.models import Policy
from spg_trainer.rollout.tokens import decode_completions, encode_fitting
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import Rows

if TYPE_CHECKING:
    from envs.episodes import Episodes

Prompts = tuple[Tensor, Tensor]
"""Encoded prompts: ids and mask, (B, L) each."""
Round = tuple[Rows, list[int]]
"""The completions of a round, and their owners: the numbers of the episodes that they belong to."""


def play(
    policy: Policy,
    episodes: "Episodes",
    prompts: Prompts,
    owners: list[int],
    sampling: Sampling,
    decode_round: Callable[[Prompts, list[int], int], Rows],
) -> list[Round]:
    """Plays episodes to their end, and returns the rounds; they are not scored yet.

    owners: the numbers of the episodes to which `prompts` belong. decode_round: decodes a round, from its prompts,
    their owners and its number, from 0 on.
    """
    rounds: list[Round] = []
    while owners:
        rollouts = decode_round(prompts, owners, len(rounds))
        rounds.append((rollouts, owners))
        prompts, owners = take_turns(policy, episodes, rollouts, owners, sampling)
    return rounds


def take_turns(
    policy: Policy, episodes: "Episodes", rollouts: Rows, owners: Sequence[int], sampling: Sampling
) -> tuple[Prompts, list[int]]:
    """Gives the environment the completions of a round; returns the prompts of the next round, and their owners.

    `Episodes.take_turn` calls the environment's `reply`. An episode whose next prompt is too long for the model ends;
    the model does not read its last reply. owners: the episodes of the completions.
    """
    texts = decode_completions(policy, rollouts)
    prefixes = [problem.completion_prefix for problem in episodes.problems]
    going_on = episodes.take_turn({i: prefixes[i] + text for i, text in zip(owners, texts, strict=True)})
    chats = [episodes.prompt(i) for i in going_on]
    # `prompts` has only the prompts that fit; `fits` says for each of `going_on` whether its prompt fits.
    prompts, fits = encode_fitting(policy, chats, [prefixes[i] for i in going_on], sampling)
    episodes.cut([i for i, fit in zip(going_on, fits, strict=True) if not fit])
    return prompts, [i for i, fit in zip(going_on, fits, strict=True) if fit]
