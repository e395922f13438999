"""Half of a character (a lone surrogate), which JSON may hold and no tokenizer reads: refused where a row is read."""

import json
from pathlib import Path
from typing import ClassVar

import pytest

import envs
from envs import EnvError, Problem, TextEnv
from envs.files.datasets import read_files
from envs.problem import read_problem
from envs.text.surrogates import half_character
from tests.common import field_reports
from tests.common.field_reports import cases
from verifiers import __main__ as verifiers_command

HALF = "What is \ud83d plus 1?"
GOOD = {"question": "1 + 1?", "solution": "2", "work": "<answer>2</answer>"}
COLUMNS = {"verifier": "gsm8k", "prompt": "question", "answer": "solution", "demonstration": "work"}


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"question": HALF}, "question"),
        ({"question": [{"role": "user", "content": HALF}]}, "question"),
        ({"solution": "#### 2 \udc00"}, "solution"),
        ({"work": "\ud83d<answer>2</answer>"}, "work"),
    ],
)
def test_a_row_is_refused_by_its_line(row: dict, column: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", GOOD, GOOD, GOOD | row)
    with pytest.raises(EnvError, match=f'rows.jsonl, line 3: column "{column}" has half of a character'):
        envs.make(path, **COLUMNS)


def test_texts_to_imitate_are_refused_by_line(tmp_path: Path) -> None:
    for row in ({"prompt": HALF, "completion": "2"}, {"prompt": "1", "completion": HALF}):
        path = write(tmp_path / "texts.jsonl", {"prompt": "a", "completion": "b"}, row)
        with pytest.raises(EnvError, match=r"line 2: the (prompt|completion) has half"):
            envs.Texts(path)


def test_pairs_and_copies_of_published_sets_are_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write(path, {"prompt": "a", "chosen": "b"}, {"prompt": "a", "chosen": HALF})
    with pytest.raises(EnvError, match=r"pairs\.jsonl, line 2 has half"):
        read_files("--pairs", [path], ("prompt", "chosen"))
    write(path, {"prompt": "a", "other": HALF})  # a column that nobody reads
    assert len(read_files("--pairs", [path], ("prompt",))) == 1


def test_a_task_of_ones_own_is_refused_by_its_name_and_index() -> None:
    class Half(TextEnv):
        reward_weights: ClassVar = {"correct": 1.0}

        def __len__(self) -> int:
            return 3

        def problem(self, index: int) -> Problem:
            return Problem(HALF if index == 2 else "1", {}, "\ud83d" if index == 1 else "")

    assert read_problem(Half(), 0).prompt == "1"
    for index, name in ((1, "completion prefix"), (2, "prompt")):
        with pytest.raises(EnvError, match=f"Half, problem {index}: the {name} has half of a character"):
            read_problem(Half(), index)


@pytest.mark.parametrize(("given", "right"), cases(field_reports.HALVES))
def test_a_reported_text_is_told_from_whole_ones(given: str, right: bool) -> None:
    assert bool(half_character({"content": [given]})) is right


def test_the_verifiers_command_judges_what_has_halves(tmp_path: Path, capsys) -> None:
    rows = [
        {"completion": f"\ud83d#### {n}", "answer": f"{answer}"}
        for n, answer in ((2, 2), (3, 2), (2, "2\ud83d"), (2, "\udc00"))
    ]
    path = write(tmp_path / "samples.jsonl", *rows)
    assert verifiers_command.main(["gsm8k", path, "--workers", "1"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("correct") for line in lines[:2]] == [True, False] and len(lines) == 4
