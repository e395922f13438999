"""Answers as models write them: the right ones are taken and the wrong ones are not.

Those to MATH stand in case books, each judged in a block and in a box.
"""

from pathlib import Path

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


BOOKS = Path(__file__).parent / "casebook"


def cases(book: str) -> list[tuple[str, str, bool]]:
    """(reference, answer, if it is right) of a book: a line "= reference", then "+ right" and "- wrong" answers."""
    rows, gold = [], ""
    for line in (BOOKS / f"{book}.txt").read_text(encoding="utf-8").splitlines():
        mark, _, text = line.partition(" ")
        if mark == "=":
            gold = text
        elif mark in ("+", "-"):
            rows.append((gold, text, mark == "+"))
    return rows


def completions(answer: str) -> list[str]:
    """The answer in its block, and in a box there where it is no sentence that holds one."""
    texts = [f"so\n</reasoning>\n<answer>\n{answer}\n</answer>"]
    if "\\boxed" not in answer and answer.count("{") == answer.count("}"):
        texts.append(f"so\n</reasoning>\n<answer>\n\\boxed{{{answer}}}\n</answer>")
    return texts


def failures(book: str) -> tuple[list, list]:
    """The right answers that are refused and the wrong ones that are paid."""
    rows = [
        (gold, text, right, answer) for gold, answer, right in cases(book) for text in completions(answer)
    ]
    correct = verify_batch("math500", [row[1] for row in rows], answer=[row[0] for row in rows]).correct
    refused = [(row[0], row[3]) for row, paid in zip(rows, correct, strict=True) if row[2] and not paid]
    paid = [(row[0], row[3]) for row, paid in zip(rows, correct, strict=True) if paid and not row[2]]
    return sorted(set(refused)), sorted(set(paid))


@pytest.mark.parametrize("book", ["math", "math_held_out", "math_review"])
def test_no_wrong_answer_is_paid_and_few_right_ones_refused(book: str) -> None:
    refused, paid = failures(book)
    assert not paid
    assert len(refused) <= 0.01 * len(cases(book)), refused
