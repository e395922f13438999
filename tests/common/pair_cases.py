"""Pairs, and settings for runs on a file of pairs."""

import json
from pathlib import Path
from typing import Any

from spg_trainer.settings.configs import Config
from tests.common.trainer_cases import made_once, small_config

COUNT = 10


def pairs_file() -> Path:
    """A file of ten pairs for all processes of the test session: letters are better than digits."""
    return made_once("pairs", _write_pairs) / "pairs.jsonl"


def _write_pairs(folder: Path) -> None:
    texts = [
        {"prompt": f"write {i} {'x' * i}", "chosen": "abcdefgh"[: 1 + i % 8], "rejected": "7" * (1 + i % 5)}
        for i in range(COUNT)
    ]
    folder.mkdir()
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(text)}\n" for text in texts))


def pair_config(folder: Path | None, file: Path | str, **changes: Any) -> Config:
    """4 pairs a step in float64, 5 steps, each with a checkpoint."""
    settings = {"algorithm": "vrpo", "algorithm_args": {"num_masks": 2}, "ref_copy": True, "dtype": "float64"}
    settings |= {
        "source": "pairs",
        "pairs": str(file),
        "num_generations": 2,
        "save_steps": 1,
        "keep": 9,
        "max_steps": 5,
    }
    return small_config(folder, **{**settings, **changes})
