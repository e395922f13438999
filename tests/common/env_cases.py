"""What several tests of environments need: classes of outside authors, data sets on disk, all splits of one."""

import json
import re
from collections import ChainMap
from pathlib import Path

import pytest

import envs
from envs import Problem, TextEnv, checking

SPLITS = ("train", "validation", "test")


def check_only(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on an environment is checked for this alone: other checks start a process, or score long texts."""
    monkeypatch.setattr(checking, "_CHECKS", {title: checking._CHECKS[title]})


def write_dataset(folder: Path, train: list[dict], test: list[dict]) -> str:
    """Writes train.jsonl and test.jsonl; returns the folder for `source`."""
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def write_rows(folder: Path, *rows: dict) -> str:
    """Writes the rows to a .jsonl file of its own, and returns its path."""
    file = folder / f"rows{len(list(folder.iterdir()))}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def plain(text: str) -> str:
    """A text without the colours of a terminal."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def make_splits(task: str, **arguments) -> dict:
    """{split: environment}."""
    return {split: envs.make(task, split=split, **arguments) for split in SPLITS}


class Doubling(TextEnv):
    """A class as an author outside writes it: no super().__init__(), no split, no render_mode."""

    reward_weights = {"correct": 1.0, "short": 0.5}  # noqa: RUF012

    def __init__(self, size: int = 50) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def problem(self, index: int) -> Problem:
        return Problem(f"2 * {index} = ?", {"answer": 2 * index})

    def score(self, problem: Problem, completion: str) -> dict[str, float]:
        if completion == "boom":
            raise ZeroDivisionError("the author's mistake")
        return {"correct": completion == str(problem.reference["answer"]), "short": 1 / (1 + len(completion))}


class Returning(Doubling):
    """Returns a given value from `score`."""

    value: object = None

    def score(self, problem: Problem, completion: str) -> object:
        return self.value


class Batching(Doubling):
    """Returns a given value from `score_batch`, raises it, or calls it."""

    value: object = None
    score = TextEnv.score

    def score_batch(self, problems, completions) -> object:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value(problems, completions) if callable(self.value) else self.value


class Torn(Doubling):
    """Some of its problems are not there, which a library says."""

    def problem(self, index: int) -> Problem:
        rows = ChainMap({"row 0": 0})
        return Problem(str(rows[f"row {index}"]), {"answer": 0})


for _class in (Doubling, Returning, Batching, Torn):
    envs.register(f"test/{_class.__name__}-v0", _class)
