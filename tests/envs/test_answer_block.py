"""What authors build on: the answer block of a completion, and the score of a right or wrong answer."""

import pytest

from envs.answer_block import judge, only_answer, read_answer
from verifiers import verify


@pytest.mark.parametrize(
    ("completion", "answer", "whole"),
    [
        ("<answer> 4 </answer>", "4", 1),
        ("<answer>1</answer><answer>2</answer>", "2", 0),
        ("<answer>1</answer> so </answer>", "1", 0),
        ("<answer>1<answer>2</answer>", "2", 0),
        ("<answer>1</answer><answer>2", "1", 0),
        ("<answer>1", None, 0),
        ("1</answer>", None, 0),
        ("</answer><answer>", None, 0),
        ("", None, 0),
        ("<answer></answer>", "", 1),
        ("<answer>1</answer><|eot_id|><answer>2</answer>", "1", 1),
        ("<|endoftext|><answer>2</answer>", None, 0),
        ("<answer>7</answer><|return|><answer>8</answer>", "7", 1),
        ("<think><answer>7</answer></think>It is so.", None, 0),
    ],
)
def test_the_answer_is_the_last_closed_block_before_the_end(completion, answer, whole) -> None:
    assert read_answer(completion) == answer
    assert only_answer(completion) == (answer if whole else None)
    score = judge(completion, lambda text: True)
    assert score.rewards == {"correct": float(answer is not None), "format": float(whole)}
    assert score.reason == ("no_answer" if answer is None else "ok") and score.extracted == answer
    if answer:  # the verifiers read the same block
        assert verify("gsm8k", completion, answer=answer, mode="lenient").extracted == answer


def test_a_huge_answer_is_malformed_and_not_shown_to_the_author() -> None:
    score = judge(f"<answer>{'1' * 65_537}</answer>", lambda text: pytest.fail("it was asked"))
    assert score.reason == "malformed" and score.rewards["correct"] == 0
