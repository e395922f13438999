"""Verdicts on recorded answers: real completions, hostile answers, and the published references."""

import gzip
import json
from fractions import Fraction

import numpy as np
import pytest

from tests.common.soup import REFERENCES, judge
from verifiers import verify, verify_batch

FIELDS = {task: tuple(references[0]) for task, references in REFERENCES.items()}


def rows_of(path) -> list[dict]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("task", "least", "wrongly_refused", "fields"),
    [
        ("gsm8k", 2001, 1, {}), ("math500", 1000, 0, {}), ("math500", 1000, 0, {"problem": "question"}),
        ("countdown", 512, 0, {}), ("sudoku", 512, 0, {}),
    ],
)  # fmt: skip
def test_real_completions_get_the_recorded_verdicts(shared_data, task, least, wrongly_refused, fields):
    rows = rows_of(shared_data / "llada_generations" / f"{task}.jsonl.gz")
    fields = {name: name for name in FIELDS[task]} | fields
    references = [{name: row[column] for name, column in fields.items()} for row in rows]
    completions = [row["completion"] for row in rows]
    correct = judge(task, completions, references).correct
    recorded = np.array([row["correct"] for row in rows])
    assert len(rows) >= least and not (correct & ~recorded).any()
    assert (recorded & ~correct).sum() <= wrongly_refused
    if task == "sudoku":
        strict = judge(task, completions, references, "strict")
        assert strict.correct.tolist() == [row.get("strict", row["correct"]) for row in rows]


@pytest.mark.parametrize(
    ("task", "least"), [("gsm8k", 31), ("math500", 62), ("countdown", 47), ("sudoku", 31)]
)
def test_hostile_answers_get_the_recorded_verdicts(shared_data, task, least):
    rows = [row for row in rows_of(shared_data / "hostile_answers.jsonl") if row["env"] == task]
    assert len(rows) >= least
    for row in rows:
        for mode, column in (("lenient", "correct"), ("strict", "strict")):
            reference = {name: row[name] for name in FIELDS[task]}
            verdict = verify(task, row["completion"], mode=mode, **reference)
            either = task in ("countdown", "math500") and row.get("either")  # where both verdicts are fair
            assert verdict.correct is row[column] or either, (row["case"], mode)


def test_every_answer_of_gsm8k_is_a_reference(shared_data):
    solutions = [row["answer"] for row in rows_of(shared_data / "gsm8k" / "test.jsonl.gz")]
    finals = [solution.rsplit("####", 1)[1].strip() for solution in solutions]
    texts = [f"<answer>\\boxed{{{final}}}</answer>" for final in finals]
    assert verify_batch("gsm8k", texts, answer=solutions).correct.all()
    assert verify_batch("gsm8k", texts, answer=finals).correct.all()
    wrong = [str(Fraction(final.replace(",", "")) + 1) for final in finals]
    assert not verify_batch("gsm8k", texts, answer=wrong).correct.any()


@pytest.mark.parametrize("name", ["test", "ambiguous"])
def test_stored_sudoku_solutions_solve_their_puzzles(shared_data, name):
    rows = rows_of(shared_data / "sudoku" / f"{name}.jsonl")
    puzzles = [row["puzzle"] for row in rows]
    solved = [f"<answer>{row['solution']}</answer>" for row in rows]
    assert verify_batch("sudoku", solved, mode="strict", puzzle=puzzles).correct.all()
    echoed = verify_batch("sudoku", [f"<answer>{puzzle}</answer>" for puzzle in puzzles], puzzle=puzzles)
    assert not echoed.correct.any() and not echoed.score.any()
