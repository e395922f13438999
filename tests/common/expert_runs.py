"""Runs of three steps of a mixture that any number of processes makes: three algorithms, all weights and adapters."""

import itertools
import sys
from pathlib import Path
from typing import Any

import torch

from spg_trainer.algorithms.registry import build
from spg_trainer.distributed import rank
from spg_trainer.settings.configs import Config
from spg_trainer.training.loop import train
from tests.common.family_cases import untrained
from tests.common.process_cases import algorithm_config, one_step
from tests.common.trainer_cases import LORA

ALGORITHMS = ("spg", "wd1", "d2_stepmerge")
TRAINED = ("all weights", "adapters")
CASES = tuple(itertools.product(ALGORITHMS, TRAINED))


def model() -> Path:
    """An untrained mixture with two key-value heads."""
    return untrained("llada2", kv_heads=2)


def config(output: Path, experts_of: int, columns_of: int, algorithm: str, trained: str) -> Config:
    """The settings of a run with groups of so many processes for experts and for columns; 1 = no groups."""
    changes: dict[str, Any] = {"max_steps": 3, "max_grad_norm": 1.0, "eval_steps": 0, "save_steps": 0}
    changes |= {"model": str(model()), "env_args": {"dull": "0,3,5"}, "sequence_parallel": columns_of}
    changes |= {"shard": "layer", "expert_parallel": experts_of} if experts_of > 1 else {}
    changes |= LORA if trained == "adapters" else {"lora_r": 0, "lora_alpha": None}
    if trained == "all weights" and "reference" in build(algorithm).needs:
        changes["ref_copy"] = True
    return algorithm_config(output, algorithm, **changes)


def make_all(folder: Path, experts_of: int, columns_of: int) -> None:
    """Every case, each in a folder of its own: the run, and the gradients and metrics of its first step."""
    for case in CASES:
        run = place(folder, *case)
        train(config(run, experts_of, columns_of, *case), quiet=True)
        first_step = one_step(config(run / "first step", experts_of, columns_of, *case))
        if rank() == 0:
            torch.save(first_step, run / "first_step.pt")


def place(folder: Path, *case: str) -> Path:
    """Where a case's run is."""
    return folder / "-".join(case).replace(" ", "_")


if __name__ == "__main__":
    make_all(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    torch.distributed.destroy_process_group()
