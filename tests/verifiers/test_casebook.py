"""The case book: answers as models write them, each in a block and in a box, and what a careful reader says of them."""

from pathlib import Path

import pytest

from verifiers import verify_batch

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
