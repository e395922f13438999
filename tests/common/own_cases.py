"""A task of a user's own, and how a process comes not to know it."""

import os
import sys
from pathlib import Path

import gymnasium

import envs
from envs import registry


class Mine(envs.TextEnv):
    """A task of a user's own, which `tests.common.task_file` writes into a file."""

    reward_weights = {"correct": 1.0}  # noqa: RUF012

    def __init__(self, split="train"):
        self.split = split

    def __len__(self):
        return 8

    def problem(self, index):
        return envs.Problem(f"{self.split} {index}", {})

    def score(self, problem, completion):
        return {"correct": float("e" in completion)}


def forget(folder: Path) -> None:
    """Leaves this process as if it had imported no file below a folder: a new one takes seconds to import torch."""
    folder = folder.resolve()
    files = {name: file for name, m in [*sys.modules.items()] if (file := getattr(m, "__file__", None))}
    folders = {os.path.dirname(file) for file in files.values()}
    below = {place for place in folders if Path(place).resolve().is_relative_to(folder)}
    for name, file in files.items():
        if os.path.dirname(file) in below:
            del sys.modules[name]
            for id, cls in registry.known().items():
                if cls.__module__ == name:
                    del registry._classes[id], gymnasium.registry[id]
    sys.path[:] = [place for place in sys.path if folder not in Path(place).resolve().parents]
    sys.path_importer_cache.clear()
