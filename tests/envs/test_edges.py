"""Edges of the environments: files that take too much, names that mislead, classes that hide things."""

from pathlib import Path
from typing import ClassVar

import pytest

import envs
from envs.__main__ import pairs
from envs.datasets import HubDataset, load_rows
from envs.template import write_task


def test_a_file_does_not_open_an_environment_of_ours(tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text("import envs\n")
    with pytest.raises(envs.EnvError, match="registers no environment"):
        envs.resolve(f"{empty}:sudoku")
    assert envs.resolve("envs:spg/Sudoku-v0") == envs.resolve("sudoku") == "spg/Sudoku-v0"


def test_a_folder_called_generated_is_not_shown_as_the_generator(tmp_path: Path, monkeypatch) -> None:
    for name in ("generated", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.jsonl").write_text('{"question": "2+3?", "answer": "5"}\n')
    monkeypatch.chdir(tmp_path)
    shown = {
        source: envs.make("gsm8k", source=source, split="test").spec_name
        for source in ("generated", "./generated", "mine/", "mine")
    }
    assert shown == {
        "generated": "gsm8k[generated]",
        "./generated": "gsm8k[./generated]",
        "mine/": "gsm8k[mine]",
        "mine": "gsm8k[mine]",
    }


class Loose(envs.TextEnv):
    """Takes any argument, and none called split."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0}
    notice = "Mind the gap."

    def __init__(self, **other: object) -> None:
        self.other = other

    def __len__(self) -> int:
        return 100

    def problem(self, index: int) -> envs.Problem:
        return envs.Problem(f"p{index}", {})

    def score(self, problem: envs.Problem, completion: str) -> dict[str, float]:
        return {"correct": 0.0}


def test_a_class_without_split_is_divided_whatever_else_it_takes_and_keeps_its_notice() -> None:
    envs.register("edges/Loose-v0", Loose)
    parts = {s: envs.make("edges/Loose-v0", split=s) for s in ("train", "validation", "test")}
    prompts = [{e.problem(i).prompt for i in range(len(e))} for e in parts.values()]
    assert sum(map(len, prompts)) == len(set().union(*prompts)) == 100
    assert parts["test"].notice.startswith("Mind the gap. ") and "80/10/10" in parts["test"].notice


def test_arguments_that_have_a_flag_are_refused() -> None:
    with pytest.raises(envs.EnvError, match="--env-args split=test: split is no argument here"):
        pairs(["level=2", "split=test"])


def test_a_part_of_a_set_that_is_missing_is_told(tmp_path: Path) -> None:
    (tmp_path / "train-00000-of-00002.parquet").write_bytes(b"")
    with pytest.raises(envs.EnvError, match="holds 1 of the 2 parts"):
        load_rows(
            "gsm8k", str(tmp_path), "train", hub=HubDataset("a/b", None, "train", 1), columns=("question",)
        )


def test_content_without_a_fixed_text_is_named() -> None:
    with pytest.raises(envs.EnvError, match=r"A problem holds \{1\} \(set\)"):
        envs.draw_for("train", 0, lambda rng: {"numbers": {1}})


def test_a_new_task_may_not_hide_a_package(tmp_path: Path) -> None:
    with pytest.raises(envs.EnvError, match="would hide our package envs"):
        write_task(str(tmp_path / "envs.py"))
    assert not (tmp_path / "envs.py").exists()
