"""The environment that a command's settings name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import TextEnv


def make_env(
    env: str, env_args: Mapping[str, object], reward_weights: Mapping[str, object], split: str
) -> "TextEnv":
    """The environment of a command's settings, in one of its splits; EnvError if the split has no problems."""
    weights = {"reward_weights": reward_weights} if reward_weights else {}
    opened = envs.make(env, split=split, **env_args, **weights)
    if len(opened) < 1:
        raise envs.EnvError(
            f"{opened.spec_name} has no {split} problems; it needs at least 1. If envs.split_of divides few problems, "
            f"{split} may get none: write more problems, or choose the problems of {split} yourself."
        )
    return opened
