"""The environment of an OpenEnv server, as a task: `openenv:http://127.0.0.1:8000`."""

from envs.adapters.openenv.env import OpenEnv, class_of

__all__ = ["OpenEnv", "class_of"]
