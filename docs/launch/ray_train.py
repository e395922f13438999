"""Trains on a Ray cluster, with one process for each worker. The trainer's flags follow the number of workers:

    python ray_train.py 16 --env sudoku --model GSAI-ML/LLaDA-8B-Instruct --output-dir /shared/llada --save-steps 20

The folder must be on a disk that all nodes share. If a worker is lost, Ray starts all of them again, and the run goes
on from its last checkpoint. Needs `pip install 'ray[data,train]'` (the extra `ray`) and the trainer on every node.
"""

import os
import sys
import tempfile

import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def work(config: dict[str, list[str]]) -> None:
    """One process of the run. Ray has set RANK, WORLD_SIZE and the others, as torchrun does."""
    from spg_trainer.cli import main

    if code := main(config["flags"]):
        raise RuntimeError(f"the trainer ended with exit code {code}; its lines are above")


if __name__ == "__main__":
    workers, flags = int(sys.argv[1]), sys.argv[2:]
    TorchTrainer(
        work,
        train_loop_config={"flags": [*flags, "--resume", "auto"]},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=torch.cuda.is_available()),
        run_config=RunConfig(
            # Ray's own records: the run's are in its output folder.
            storage_path=os.environ.get("RAY_STORAGE", os.path.join(tempfile.gettempdir(), "ray_results")),
            failure_config=FailureConfig(max_failures=3),
        ),
    ).fit()
