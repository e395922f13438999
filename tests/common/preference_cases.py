"""Pairs, settings for runs on a file of pairs, and what each of two processes does with them."""

import functools
import json
import os
from pathlib import Path
from typing import Any

import torch

from spg_trainer.settings.fields import Config
from spg_trainer.training.loop import train
from tests.common.process_cases import one_step
from tests.common.trainer_cases import session_folder, small_config

COUNT = 10


@functools.cache
def pairs_file() -> Path:
    """Ten pairs: letters are better than digits."""
    texts = [
        {"prompt": f"write {i} {'x' * i}", "chosen": "abcdefgh"[: 1 + i % 8], "rejected": "7" * (1 + i % 5)}
        for i in range(COUNT)
    ]
    path = session_folder("pairs-") / "pairs.jsonl"
    path.write_text("".join(f"{json.dumps(text)}\n" for text in texts))
    return path


def pair_config(folder: Path | None, file: Path | str, **changes: Any) -> Config:
    """4 pairs a step in float64, 5 steps, each with a checkpoint."""
    settings = {"algorithm": "vrpo", "algorithm_args": {"num_masks": 2}, "ref_copy": True, "dtype": "float64"}
    settings |= {"pairs": str(file), "num_generations": 2, "save_steps": 1, "keep": 9, "max_steps": 5}
    return small_config(folder, **{**settings, **changes})


def in_each_process(here: Path, file: str) -> None:
    """Leaves the gradient and metrics of a step, and a run of two steps, in the folder."""
    found = one_step(pair_config(here / "step", file, max_grad_norm=1e9))
    train(pair_config(here / "run", file, max_steps=2), quiet=True)
    torch.save(found, here / f"rank-{os.environ['RANK']}.pt")
