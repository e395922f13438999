"""What one of two processes makes of a step of dialogues: its gradients and metrics, left in a folder."""

import os
import sys
from pathlib import Path

import torch

from tests.common.process_cases import one_step
from tests.common.trainer_cases import SELF_NORMALISED
from tests.common.turn_cases import talk_algorithm

ALGORITHMS = (
    "spg",
    "espo",
    "stabledrl",
    "raft",
    "mapg",
    "forkgrpo",
    "rspo",
    SELF_NORMALISED,
)


def config(output: Path, algorithm: str):
    """Two updates on all weights, or on adapters where a reference is needed; groups are shared."""
    return talk_algorithm(output, algorithm, num_generations=5, num_minibatches=1)


if __name__ == "__main__":
    here = Path(sys.argv[1])
    found = {name: one_step(config(here / str(i), name)) for i, name in enumerate(ALGORITHMS)}
    torch.save(found, here / f"rank-{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()
