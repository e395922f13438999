"""The `code` task: Python functions, judged by what they return."""

from envs.code.env import Code

__all__ = ["Code"]
