"""Runs of four steps that any number of processes makes: eight algorithms, three tasks, all weights and adapters."""

import itertools
import sys
from pathlib import Path
from typing import Any

import torch

from spg_trainer.algorithms.registry import build, get
from spg_trainer.settings.configs import Config
from spg_trainer.training.loop import train
from tests.common.process_cases import algorithm_config
from tests.common.trainer_cases import ENV, LORA, made_once, save_tiny
from tests.common.turn_cases import TALK

ALGORITHMS = ("spg", "wd1", "gdpo", "espo", "vrpo", "justgrpo", "d2_stepmerge", "rspo")
TASKS = ("letters", "talk", "sudoku")
TRAINED = ("all weights", "adapters")
CASES = tuple(itertools.product(ALGORITHMS, TASKS, TRAINED))


def sudoku_writer() -> Path:
    """An untrained model that writes digits into the empty cells of a board, some of them right by chance."""
    return made_once("sudoku-writer", lambda folder: save_tiny(folder, end=0.0, letters="1234", letter=4.0))


def config(output: Path, shard: str, algorithm: str, task: str, trained: str) -> Config:
    """The settings of a run; what needs a reference has a frozen copy of the weights where all of them are trained."""
    changes: dict[str, Any] = {"env": TALK if task == "talk" else ENV, "max_steps": 4, "max_grad_norm": 1.0}
    if task == "sudoku":
        changes |= {
            "env": "sudoku",
            "env_args": {"infill": True, "blanks": 6, "reward_preset": "paper"},
            "model": str(sudoku_writer()),
            "max_completion_length": 20,
            "block_length": 1 if get(algorithm).left_to_right else 10,
            "diffusion_steps": 20 if get(algorithm).left_to_right else 6,
        }
    changes |= LORA if trained == "adapters" else {"lora_r": 0, "lora_alpha": None}
    if trained == "all weights" and "reference" in build(algorithm).needs:
        changes["ref_copy"] = True
    return algorithm_config(output, algorithm, **changes, shard=shard, eval_steps=0, save_steps=0)


def make_all(folder: Path, shard: str) -> None:
    """Every case, each in a folder of its own."""
    for case in CASES:
        train(config(place(folder, *case), shard, *case), quiet=True)


def place(folder: Path, *case: str) -> Path:
    """Where a case's run is."""
    return folder / "-".join(case).replace(" ", "_")


if __name__ == "__main__":
    make_all(Path(sys.argv[1]), "layer")
    torch.distributed.destroy_process_group()
