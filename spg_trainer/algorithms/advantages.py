"""How a reward compares with the others of its group."""

from typing import Literal

from torch import Tensor

from spg_trainer.errors import ConfigError

AdvantageForm = Literal["mean", "mean_std", "leave_one_out"]

STD_FLOOR = 1e-4
"""Added to the standard deviation, as in TRL's GRPO."""


def group_advantages(rewards: Tensor, form: AdvantageForm) -> Tensor:
    """Advantages (P*G,) of rewards (P, G), group after group; exactly zero where all rewards are equal.

    mean: reward - group mean (SPG, Dr. GRPO). mean_std: the same over the group's standard deviation (GRPO).
    leave_one_out: reward - mean of the others (RLOO). Raises ConfigError for groups of one.
    """
    size = rewards.shape[1]
    if size < 2:
        raise ConfigError(
            "a group of 1 completion has nothing to be compared with; set --num-generations 2 or more"
        )
    # Measured from the group's first reward: rounding in the mean cannot make equal rewards differ from it.
    shifted = rewards - rewards[:, :1]
    advantages = shifted - shifted.mean(1, keepdim=True)
    if form == "mean_std":
        advantages = advantages / (shifted.std(1, keepdim=True) + STD_FLOOR)
    elif form == "leave_one_out":
        advantages = advantages * (size / (size - 1))
    return advantages.reshape(-1)
