"""CONTRIBUTING.md's table of a training step against what a profiler sees in one."""

import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from spg_trainer.training import loop
from tests.common.trainer_cases import LORA, small_config

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "CONTRIBUTING.md"


def named_functions() -> list[tuple[str, str]]:
    """(pattern of a file, function) of every function in the first column of the table, from top to bottom."""
    section = PAGE.read_text(encoding="utf-8").partition("## One training step")[2].partition("\n## ")[0]
    found, file = [], ""
    for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE):
        for part in re.findall(r"`(.+?)`", cell):
            file, _, name = part.rpartition(": ") if ".py: " in part else (file, "", part)
            found.append((file, name))
    return found


def functions_called(config) -> list[tuple[str, str]]:
    """(file, qualified name) of the packages' functions that a step calls, in the order of their first calls."""
    calls: dict[object, int] = {}

    def note(frame, event: str, argument: object) -> None:
        if event == "call":
            calls.setdefault(frame.f_code, len(calls))

    def traced(run) -> None:
        sys.setprofile(note)
        train_step(run)

    train_step, loop.train_step = loop.train_step, traced
    try:
        loop.train(config, quiet=True)  # also what `train` does behind the step: a checkpoint
    finally:
        sys.setprofile(None)
        loop.train_step = train_step
    places = [(Path(code.co_filename), code.co_qualname) for code in sorted(calls, key=calls.__getitem__)]
    packages = {Path(loop.__file__).parents[1], Path(sys.modules["envs"].__file__).parent}
    return [
        (str(file.relative_to(package.parent)), name)
        for file, name in places
        for package in packages
        if file.is_relative_to(package)
    ]


def first_call(called: list[tuple[str, str]], pattern: str, name: str) -> int | None:
    """Where in `called` a function of the page is, or None; files of the trainer are named without its folder."""
    for number, (file, qualified) in enumerate(called):
        is_file = fnmatch(file, pattern) or fnmatch(file, f"spg_trainer/{pattern}")
        if is_file and (qualified == name or qualified.endswith(f".{name}")):
            return number
    return None


@pytest.mark.skipif(not PAGE.is_file(), reason="no CONTRIBUTING.md beside the tests")
def test_the_page_names_what_a_step_calls_in_the_order_of_its_calls(tmp_path) -> None:
    task = {"env": "sudoku", "model": "tiny", "max_completion_length": 32, "block_length": 32}
    few = {"prompts_per_step": 2, "num_generations": 2, "eval_problems": 2}
    settings = {"algorithm": "gdpo", "algorithm_args": {"beta": 0.1}, "num_iterations": 2, "max_steps": 1}
    config = small_config(
        tmp_path / "run", eval_steps=1, diffusion_steps=8, **few, **settings, **LORA, **task
    )
    called = functions_called(config)
    places = [(f"{file}: {name}", first_call(called, file, name)) for file, name in named_functions()]
    assert len(places) > 20 and [place for place, number in places if number is None] == []
    in_order = sorted(places, key=lambda place: place[1])
    assert [place for place, _ in places] == [place for place, _ in in_order]
