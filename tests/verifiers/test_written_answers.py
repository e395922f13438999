"""Answers as models write them: the right ones are taken and the wrong ones are not."""

import pytest

from tests.common.written_answers import CASES, HELD_OUT
from verifiers import verify, verify_batch

ROWS = [
    (task, place.format(text), reference, right)
    for book in (HELD_OUT, CASES)
    for task, place, reference, *lists in book
    for right, texts in zip((True, False), lists, strict=True)
    for text in texts
]


@pytest.mark.parametrize("task", ["gsm8k", "sudoku", "countdown"])
def test_no_written_answer_is_misjudged(task):
    rows = [row for row in ROWS if row[0] == task]
    found = [verify(task, text, **reference).correct for _, text, reference, _ in rows]
    assert [row[1] for row, correct in zip(rows, found, strict=True) if correct is not row[3]] == []
    columns = {name: [reference[name] for _, _, reference, _ in rows] * 8 for name in rows[0][2]}
    assert verify_batch(task, [row[1] for row in rows] * 8, **columns).correct.tolist() == found * 8
