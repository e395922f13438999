"""Chooses the lengths of completions and blocks that settings leave open if demonstrations are learned."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.architecture.shape import pattern_of
from spg_trainer.models import Policy
from spg_trainer.rollout.demonstrations import completion_length
from spg_trainer.settings.decoding import Sampling, count_steps
from spg_trainer.settings.fields import Config
from spg_trainer.settings.resolve import FLAG, TRAINING

if TYPE_CHECKING:
    from envs import TextEnv

BLOCK_LENGTH = "rollout.block_length"
"""The setting of a block's length. Whether it gives way if it does not fit depends on its origin: who set it."""


def settled_decoding(
    config: Config,
    origins: Mapping[str, str],
    policy: Policy,
    train: "TextEnv | None",
    mix: Mapping[str, float],
) -> Sampling:
    """The decoding of a run on demonstrations, with all its lengths; lengths that are set stay as they are.

    origins: {setting: where its value is from}. policy: its tokenizer and configuration are enough. train: the split
    that is learned; None if a length is given and the data is not here. mix: as `mix_shares` returns it. Raises
    ConfigError for settings that cannot decode.
    """
    # Without origins, e.g. from Python, all settings count as the user's.
    rollout, origin = config.rollout, origins.get(BLOCK_LENGTH, FLAG)
    length, pattern = rollout.max_completion_length, pattern_of(policy.model.config)
    if not length:  # 0 = it is chosen here
        length = completion_length(policy, train, mix)
        if rollout.block_length and not origin.startswith(TRAINING):
            # The user has set a block's length: the completion gets whole blocks. (One from a training by RL gives way
            # instead, in `fitting_block`.)
            length = math.ceil(length / rollout.block_length) * rollout.block_length
    user_set_block = origin in (FLAG, config.config)  # by a flag, or in the file of --config
    block = fitting_block(length, rollout.block_length, pattern, origin, asked_for=user_set_block)
    sampling = replace(
        rollout,
        max_completion_length=length,
        block_length=block,
        diffusion_steps=count_steps(length, block, rollout.diffusion_steps),
    )
    sampling.check()
    return sampling


def fitting_block(length: int, block: int, pattern: Pattern, origin: str, *, asked_for: bool) -> int:
    """The length of a block of a completion of `length` tokens: usually `block`, which the settings have (0 = none).

    - A block length that the user asked for stays, and is refused later if it does not fit.
    - Any other stays if it divides the completion. But if the model's attention has blocks, one that comes from a
      training by RL on the task does not stay, since it may not suit this attention.
    - If none stays, the whole completion is one block; or if attention has blocks, the length is the largest that
      divides both the completion and a block of attention.
    """
    divides = block > 0 and length % block == 0
    may_not_suit_attention = origin.startswith(TRAINING) and not pattern.is_full
    if block and not may_not_suit_attention and (asked_for or divides):
        return min(block, length)
    return length if pattern.is_full else math.gcd(length, pattern.block_size)
