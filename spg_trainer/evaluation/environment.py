"""The environment that a command's settings name."""

from typing import TYPE_CHECKING

from spg_trainer.settings.fields import Config, EvalCommand
from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import TextEnv


def make_env(command: Config | EvalCommand, split: str) -> "TextEnv":
    """The environment of a command, in one of its splits; EnvError if that has no problems."""
    weights = command.reward_weights
    env = envs.make(
        command.env, split=split, **command.env_args, **({"reward_weights": weights} if weights else {})
    )
    if len(env) < 1:
        raise envs.EnvError(f"{env.spec_name} has no {split} problems; its __len__ must be at least 1.")
    return env
