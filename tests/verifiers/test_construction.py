"""Answers by the thousand: right ones in every accepted notation, and those one edit away, against slow oracles."""

from collections.abc import Iterator
from itertools import islice

import pytest

from tests.common import countdown_writer, gsm8k_oracle, sudoku_answers
from tests.common.constructed import Case
from tests.common.countdown_oracle import oracle
from verifiers import batch, verify, verify_batch

CASES = {
    "gsm8k": gsm8k_oracle.cases,
    "countdown": countdown_writer.cases,
    "sudoku": sudoku_answers.cases,
}
COUNT = 10_000
TASKS = [("gsm8k", "lenient"), ("countdown", "lenient"), ("countdown", "strict"), ("sudoku", "lenient")]


def cases(task: str, mode: str, seed: int) -> Iterator[Case]:
    return CASES[task](seed, mode == "strict")


def judge(task: str, mode: str, completions: list[str], references: list[dict]):
    columns = {name: [reference[name] for reference in references] for name in references[0]}
    return verify_batch(task, completions, mode=mode, **columns)


@pytest.mark.parametrize(("task", "mode"), TASKS)
def test_ten_thousand_right_answers_are_accepted(task, mode):
    made = list(islice(cases(task, mode, 11), COUNT))
    verdicts = judge(task, mode, [case.right for case in made], [case.reference for case in made])
    assert [made[row].right for row in (~verdicts.correct).nonzero()[0]] == []
    assert all(case.oracle(case.right) for case in made[:1000])


@pytest.mark.parametrize(("task", "mode"), TASKS)
def test_ten_thousand_answers_one_edit_away_are_refused(task, mode):
    wrong = (case for case in cases(task, mode, 12) if not case.oracle(case.edited))
    made = list(islice(wrong, COUNT))
    verdicts = judge(task, mode, [case.edited for case in made], [case.reference for case in made])
    assert [made[row].edited for row in verdicts.correct.nonzero()[0]] == []
    assert (verdicts.score < 1.0).all() and {"wrong", "malformed"} <= set(verdicts.counts())


@pytest.mark.parametrize(("task", "mode"), TASKS)
def test_compiled_and_interpreted_code_agree_on_them(task, mode, monkeypatch):
    monkeypatch.setattr(batch, "MIN_COMPILED_ROWS", 0)
    made = list(islice(cases(task, mode, 13), 750))
    texts = [text for case in made for text in (case.right, case.edited)]
    references = [case.reference for case in made for _ in range(2)]
    one_by_one = [
        verify(task, text, mode=mode, **reference) for text, reference in zip(texts, references, strict=True)
    ]
    assert list(judge(task, mode, texts, references)) == one_by_one
    assert 750 <= sum(verdict.correct for verdict in one_by_one) < 1500


@pytest.mark.parametrize(
    ("answer", "right"),
    [("3*5+7", True), ("3*5+8", False), ("3*5", False), ("35+7", False), ("3.5+7", False)],
)
def test_an_oracle_is_not_a_rubber_stamp(answer, right):
    assert oracle(f"<answer>{answer}</answer>", [3, 5, 7], 22, False) is right
    assert not oracle("<answer>3*5- -7</answer>", [3, 5, 7], 22, True)
