"""Countdown: combine the given numbers, each once, so that they make the target."""

from envs.countdown.env import Countdown

__all__ = ["Countdown"]
