"""Runs whose columns a group of processes shares, which any number of processes makes."""

import itertools
import sys
from pathlib import Path
from typing import Any

import torch

from spg_trainer.algorithms.registry import build
from spg_trainer.settings.configs import Config
from spg_trainer.training.loop import train
from tests.common.family_cases import UNTRAINED, untrained
from tests.common.pair_cases import pair_config, pairs_file
from tests.common.process_cases import gradient_config, sft_command
from tests.common.trainer_cases import LORA, change, made_once, save_tiny

FAMILIES = ("llada", *UNTRAINED)
ALGORITHMS = ("spg", "wd1", "d2_stepmerge")
TRAINED: dict[str, dict[str, Any]] = {
    "all weights": {},
    "by phase": {"shard": "phase"},
    "by layer": {"shard": "layer"},
    "adapters": LORA,
    "adapters by layer": {**LORA, "shard": "layer"},
}
GIVEN = {
    "pairs": lambda output: pair_config(output, pairs_file(), max_steps=3, save_steps=0),
    "demonstrations": lambda output: sft_command(output, sample_steps=1),
}
"""Settings of runs on completions that are given, in place of the model's own."""
CASES = (
    *((source,) for source in GIVEN),
    *itertools.product(("llada", "sdar", "llada2"), ALGORITHMS, TRAINED),
    *((family, "spg", "all weights") for family in UNTRAINED),
)


def model(family: str) -> Path:
    """An untrained model with four key-value heads."""
    if family == "llada":
        return made_once("llada-4-heads", lambda folder: save_tiny(folder, heads=4, hidden_size=32))
    return untrained(family, kv_heads=4)


def config(output: Path, size: int, *case: str) -> Config:
    """The settings of a case's run, whose columns groups of `size` processes share; 1 = no groups."""
    if case[0] in GIVEN:
        return change(GIVEN[case[0]](output), model=str(model("llada")), sequence_parallel=size)
    family, algorithm, trained = case
    of_run = {"max_steps": 3, "max_grad_norm": 1.0, "eval_steps": 0, "save_steps": 0, "num_iterations": 2}
    own: dict[str, Any] = {} if algorithm == "spg" else {"algorithm": algorithm, "algorithm_args": {}}
    if "reference" in build(algorithm).needs and "lora_r" not in TRAINED[trained]:
        own["ref_copy"] = True
    settings = gradient_config(output, "float64", "tokens", model=model(family))
    settings = change(settings, **own, **of_run, **TRAINED[trained], sequence_parallel=size)
    return settings if size > 1 else change(settings, shard="none")


def place(folder: Path, *case: str) -> Path:
    """Where a case's run is."""
    return folder / "-".join(case).replace(" ", "_")


def make_all(folder: Path, size: int) -> None:
    """Every case, each in a folder of its own."""
    for case in dict.fromkeys(CASES):
        train(config(place(folder, *case), size, *case), quiet=True)


if __name__ == "__main__":
    make_all(Path(sys.argv[1]), int(sys.argv[2]))
    torch.distributed.destroy_process_group()
