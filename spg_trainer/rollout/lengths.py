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
from spg_trainer.settings.resolve import resolve

if TYPE_CHECKING:
    from envs import TextEnv


def settled_decoding(
    config: Config,
    policy: Policy,
    train: "TextEnv | None",
    mix: Mapping[str, float],
) -> Sampling:
    """The decoding of a run on demonstrations, with all its lengths; lengths that are set stay as they are.

    policy: its tokenizer and configuration are enough. train: the split that is learned; None if a length is given and
    the data is not here. mix: as `mix_shares` returns it. Raises ConfigError for settings that cannot decode.
    """
    rollout = config.rollout
    length, block = rollout.max_completion_length, rollout.block_length
    if not length:  # 0 = it is chosen here
        length = completion_length(policy, train, mix)
        if block:  # the completion gets whole blocks
            length = math.ceil(length / block) * block
    if not block:
        training = resolve(Config, env=config.env, model=config.model.model).config
        block = fitting_block(length, training.rollout.block_length, pattern_of(policy.model.config))
    block = min(block, length)
    sampling = replace(
        rollout,
        max_completion_length=length,
        block_length=block,
        diffusion_steps=count_steps(length, block, rollout.diffusion_steps),
    )
    sampling.check()
    return sampling


def fitting_block(length: int, of_training: int, pattern: Pattern) -> int:
    """The length of a block of a completion of `length` tokens that learns from demonstrations.

    If the model's attention has blocks, it is the largest length that divides both the completion and a block of
    attention. Otherwise it is that of a training by RL on the task (`of_training`), if it divides the completion; if
    not, the whole completion is one block.
    """
    if not pattern.is_full:
        return math.gcd(length, pattern.block_size)
    return length if length % of_training else of_training
