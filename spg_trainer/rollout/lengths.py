"""The lengths of completions and blocks that settings leave open where demonstrations are learned."""

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
"""The setting, by its dotted name, whose origin decides whether it gives way where it does not fit."""


def settled_decoding(
    config: Config,
    origins: Mapping[str, str],
    policy: Policy,
    train: "TextEnv | None",
    mix: Mapping[str, float],
) -> Sampling:
    """The decoding of a run on demonstrations, with all its lengths; settled ones stay as they are.

    origins: where each setting is from. policy: its tokenizer and configuration are enough. train: what is learned,
    None where a length is given and the data is not here. mix: as `mix_shares` has it. Raises ConfigError for what
    cannot be decoded.
    """
    r, origin = (
        config.rollout,
        origins.get(BLOCK_LENGTH, FLAG),
    )  # without origins, as from Python, all is asked for
    length, pattern = r.max_completion_length, pattern_of(policy.model.config)
    if not length:
        length = completion_length(policy, train, mix)
        # In whole blocks if somebody has said how long a block is; that of a training by RL gives way instead.
        length += 0 if origin.startswith(TRAINING) else -length % max(1, r.block_length)
    block = fitting_block(length, r.block_length, pattern, origin, asked_for=origin in (FLAG, config.config))
    sampling = replace(
        r,
        max_completion_length=length,
        block_length=block,
        diffusion_steps=count_steps(length, block, r.diffusion_steps),
    )
    sampling.check()
    return sampling


def fitting_block(length: int, block: int, pattern: Pattern, origin: str, *, asked_for: bool) -> int:
    """The length of a block of a completion of `length` tokens.

    Where none is given, or that of a training by RL does not fit, blocks are those of the model's attention, or the
    largest parts of these that divide the completion, or the whole completion. One that was asked for stays, and is
    refused later where it does not fit.
    """
    does_not_divide = block > 0 and length % block > 0
    is_of_other_attention = origin.startswith(TRAINING) and not pattern.is_full
    if block and not is_of_other_attention and (asked_for or not does_not_divide):
        return min(block, length)
    return length if pattern.is_full else math.gcd(length, pattern.block_size)
