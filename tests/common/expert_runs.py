"""Runs of three steps of a mixture that any number of processes makes: three algorithms, all weights and adapters."""

import itertools
import sys
from pathlib import Path
from typing import Any

import torch

from spg_trainer.algorithms.registry import build
from spg_trainer.settings.fields import Config
from spg_trainer.training.loop import train
from tests.common.family_cases import untrained
from tests.common.process_cases import algorithm_config
from tests.common.trainer_cases import LORA

ALGORITHMS = ("spg", "wd1", "d2_stepmerge")
TRAINED = ("all weights", "adapters")
CASES = tuple(itertools.product(ALGORITHMS, TRAINED))


def config(output: Path, size: int, algorithm: str, trained: str) -> Config:
    """The settings of a run whose experts `size` processes share; 1 = one process has them all."""
    divided = {"shard": "layer", "expert_parallel": size} if size > 1 else {}
    changes: dict[str, Any] = {"max_steps": 3, "max_grad_norm": 1.0, "eval_steps": 0, "save_steps": 0}
    changes |= {"model": str(untrained("llada2")), "env_args": {"dull": "0,3,5"}, **divided}
    changes |= LORA if trained == "adapters" else {"lora_r": 0, "lora_alpha": None}
    if trained == "all weights" and "reference" in build(algorithm).needs:
        changes["ref_copy"] = True
    return algorithm_config(output, algorithm, **changes)


def make_all(folder: Path, size: int) -> None:
    """Every case, each in a folder of its own."""
    for case in CASES:
        train(config(place(folder, *case), size, *case), quiet=True)


def place(folder: Path, *case: str) -> Path:
    """Where a case's run is."""
    return folder / "-".join(case).replace(" ", "_")


if __name__ == "__main__":
    make_all(Path(sys.argv[1]), int(sys.argv[2]))
    torch.distributed.destroy_process_group()
