"""MATH: competition problems with LaTeX answers, evaluated on MATH-500."""

from envs.math500.env import MATH500

__all__ = ["MATH500"]
