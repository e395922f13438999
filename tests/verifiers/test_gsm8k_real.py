"""GSM8K verdicts on recorded answers: real completions, hostile answers, the published references."""

import gzip
import json
from fractions import Fraction

import numpy as np

from verifiers import verify, verify_batch


def test_real_completions(shared_data):
    with gzip.open(shared_data / "llada_generations" / "gsm8k.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    verdicts = verify_batch(
        "gsm8k", [row["completion"] for row in rows], answer=[row["answer"] for row in rows]
    )
    given = np.array([row["correct"] for row in rows])
    assert len(rows) > 2000
    assert int((verdicts.correct != given).sum()) <= 1
    assert not (verdicts.correct & ~given).any()


def test_hostile_answers(shared_data):
    rows = [json.loads(line) for line in (shared_data / "hostile_answers.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["env"] == "gsm8k"]
    assert len(rows) > 30
    for row in rows:
        for mode, column in (("lenient", "correct"), ("strict", "strict")):
            verdict = verify("gsm8k", row["completion"], answer=row["answer"], mode=mode)
            assert verdict.correct is row[column], (row["case"], mode)


def test_every_answer_of_the_published_test_set_is_a_reference(shared_data):
    with gzip.open(shared_data / "gsm8k" / "test.jsonl.gz", "rt") as file:
        solutions = [json.loads(line)["answer"] for line in file]
    finals = [solution.rsplit("####", 1)[1].strip() for solution in solutions]
    texts = [f"<answer>\\boxed{{{final}}}</answer>" for final in finals]
    assert verify_batch("gsm8k", texts, answer=solutions).correct.all()
    assert verify_batch("gsm8k", texts, answer=finals).correct.all()
    wrong = [str(Fraction(final.replace(",", "")) + 1) for final in finals]
    assert not verify_batch("gsm8k", texts, answer=wrong).correct.any()
