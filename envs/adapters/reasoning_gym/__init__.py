"""`reasoning_gym:NAME`: the datasets of the reasoning-gym package (an optional extra) as environments."""

from envs.adapters.reasoning_gym.env import ReasoningGym, class_of

__all__ = ["ReasoningGym", "class_of"]
