"""What stands last is the answer, for every task: an unclosed block or a line with #### behind a box in the working."""

import pytest

from verifiers import verify, verify_batch

SUDOKU = {"puzzle": "4320004330100004"}
LAST = [
    ("gsm8k", r"<reasoning>\boxed{18}</reasoning>", "<answer>17", False, {"answer": "18"}),
    ("gsm8k", r"<reasoning>\boxed{17}</reasoning>", "<answer>18", True, {"answer": "18"}),
    ("gsm8k", r"first \boxed{18}, no", "#### 17", False, {"answer": "18"}),
    ("gsm8k", r"first \boxed{17}, no", "#### 18", True, {"answer": "18"}),
    ("math500", r"<reasoning>\boxed{18}</reasoning>", r"<answer>\boxed{17", False, {"answer": "18"}),
    ("math500", r"<reasoning>\boxed{17}</reasoning>", "<answer>18", True, {"answer": "18"}),
    ("countdown", r"\boxed{3*5+7}", "<answer>3+5+7", False, {"numbers": [3, 5, 7], "target": 22}),
    ("countdown", r"\boxed{3+5+7}", "<answer>3*5+7", True, {"numbers": [3, 5, 7], "target": 22}),
    ("sudoku", r"\boxed{4321124334122134}", "<answer>4321124334122143", False, SUDOKU),
    ("sudoku", r"\boxed{4321124334122143}", "<answer>4321124334122134", True, SUDOKU),
]
"""(task, reasoning, what is written last, whether it is right, reference); from a public report of unclosed answers."""


@pytest.mark.parametrize(("task", "reasoning", "last", "right", "reference"), LAST)
def test_what_stands_last_counts(task, reasoning, last, right, reference):
    text = f"{reasoning}\n{last}"
    assert verify(task, text, **reference).correct is right
    columns = {name: [value] for name, value in reference.items()}
    assert verify_batch(task, [text], **columns).correct.tolist() == [right]
    assert verify(task, text, mode="strict", **reference).correct is False


def test_an_empty_block_or_line_behind_a_box_is_no_answer():
    for last in ("<answer>", "<answer> \n", "</<answer><|eot_id|>", "#### ", "####\n"):
        assert verify("gsm8k", f"\\boxed{{3}} plums.\n{last}", answer="3").correct, last
