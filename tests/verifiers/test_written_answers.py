"""Answers as models write them, right and wrong by careful reading: the books of tests/verifiers/casebook."""

import pytest

from tests.common import casebook
from tests.common.casebook import BOOKS, Case, completions
from tests.common.soup import judge, use_kernels
from verifiers import verify
from verifiers.math500.task import cas_workers

PROGRAMS = {"code", "programs"}  # test_code.py and test_programs.py judge them
NAMES = sorted({path.stem for path in BOOKS.glob("*.txt")} - PROGRAMS)


def cases(book: str) -> list[Case]:
    """Those that lenient mode judges; test_flexible.py judges the others."""
    return [case for case in casebook.cases(book) if case.kind != "flexible"]


@pytest.fixture
def patient_cas(monkeypatch) -> None:
    """The computer algebra system has time on a slow machine too."""
    monkeypatch.setattr(cas_workers(), "soft", 10.0)
    monkeypatch.setattr(cas_workers(), "hard", 60.0)


@pytest.mark.usefixtures("patient_cas")
@pytest.mark.parametrize("book", NAMES)
def test_no_wrong_answer_is_paid_and_no_right_one_refused(book: str, monkeypatch) -> None:
    """In a block and in a box, and where there is compiled code, by it and without."""
    rows = [(text, case) for case in cases(book) for text in completions(case)]
    texts, references = [text for text, _ in rows], [case.reference for _, case in rows]
    use_kernels(monkeypatch)
    verdicts = judge(book, texts, references)
    assert set(verdicts.reasons) <= {"ok", "wrong", "no_answer", "malformed", "rule_broken", "hedge"}
    if book != "math":
        assert list(verdicts) == [verify(book, text, **case.reference) for text, case in rows]
    judged = [(case.answer, case.reference, case.right) for _, case in rows]
    assert [row for row, paid in zip(judged, verdicts.correct, strict=True) if paid and not row[2]] == []
    assert [row for row, paid in zip(judged, verdicts.correct, strict=True) if row[2] and not paid] == []


@pytest.mark.parametrize("book", NAMES)
def test_strict_mode_takes_its_own_format_only(book: str) -> None:
    """Of MATH's answers in a block, those below `% strict` alone say so."""
    for case in cases(book):
        if book == "math" and case.kind == "block":
            continue
        paid = [verify(book, text, mode="strict", **case.reference).correct for text in completions(case)]
        assert any(paid) == case.strict, case


def test_a_notation_is_read_and_not_waved_through() -> None:
    texts = [text for case in cases("gsm8k") if case.right for text in completions(case)]
    assert not judge("gsm8k", texts, [{"answer": "7"}] * len(texts)).correct.any()
