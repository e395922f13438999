"""What several tests of environments make: data sets on disk, and all splits of one environment."""

import json
from pathlib import Path

import envs

SPLITS = ("train", "validation", "test")


def write_dataset(folder: Path, train: list[dict], test: list[dict]) -> str:
    """Writes train.jsonl and test.jsonl; returns the folder for `source`."""
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def make_splits(task: str, **arguments) -> dict:
    """{split: environment}."""
    return {split: envs.make(task, split=split, **arguments) for split in SPLITS}
