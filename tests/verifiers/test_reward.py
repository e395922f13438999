"""`reward_function`: what a trainer of the TRL kind hands over, and what it gets back."""

import inspect

import numpy as np
import pytest

import verifiers
from verifiers import ArgumentError, InvalidReferenceError, UnknownTaskError, reward_function
from verifiers.reward import unwrap

PUZZLE, SOLUTION = "4320004330100004", "4321124334122134"
RIGHT, WRONG = f"<answer>{SOLUTION}</answer>", "<answer>4321124334121234</answer>"


def test_pays_one_for_right_and_ignores_what_trl_also_sends():
    reward = reward_function("sudoku")
    rewards = reward(
        prompts=["p"] * 3,
        completions=[RIGHT, WRONG, "nothing"],
        completion_ids=[[1], [2], [3]],
        puzzle=[PUZZLE] * 3,
        solution=[SOLUTION] * 3,
        trainer_state=object(),
        log_metric=print,
    )
    assert rewards == [1.0, 0.0, 0.0]
    assert type(rewards) is list and all(type(value) is float for value in rewards)
    assert not inspect.iscoroutinefunction(reward)


def test_names_tell_the_variants_apart():
    names = [
        reward_function("sudoku", mode=mode, partial=partial).__name__
        for mode in ("lenient", "strict")
        for partial in (False, True)
    ]
    assert names == ["sudoku", "sudoku_partial", "sudoku_strict", "sudoku_strict_partial"]


def test_strict_and_partial_do_what_they_say():
    rows = "<answer>4321\n1243\n3412\n2134</answer>"
    assert reward_function("sudoku")([rows], puzzle=[PUZZLE]) == [1.0]
    assert reward_function("sudoku", mode="strict")([rows], puzzle=[PUZZLE]) == [0.0]
    (partial,) = reward_function("sudoku", partial=True)([WRONG], puzzle=[PUZZLE])
    assert 0 < partial < 1
    assert partial == verifiers.verify("sudoku", WRONG, puzzle=PUZZLE).score


def test_chat_messages_are_unwrapped():
    said = [{"role": "assistant", "content": RIGHT}]
    corrected = [
        {"role": "assistant", "content": WRONG},
        {"role": "tool", "content": "try again"},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": RIGHT[:10]}, {"type": "text", "text": RIGHT[10:]}],
        },
        {"role": "user", "content": WRONG},
    ]
    hostile = {"role": np.zeros(2), "content": [{"text": 3}, {"type": "image"}, None]}
    completions = [
        said, [hostile], corrected, [{"role": "assistant", "content": None}], [], [3], None, [{"role": "x"}],
    ]  # fmt: skip
    rewards = reward_function("sudoku")(completions=completions, puzzle=[PUZZLE] * len(completions))
    assert rewards == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert unwrap("text") == "text" and unwrap([3, "x"]) == [3, "x"]
    assert unwrap([{"content": "no role"}]) == "no role"


def test_another_column_can_hold_the_reference():
    reward = reward_function("sudoku", puzzle="question")
    assert reward(completions=[RIGHT], question=[PUZZLE]) == [1.0]
    with pytest.raises(
        ArgumentError, match=r'needs question=.*reward_function\("sudoku", puzzle="your_column"\)'
    ):
        reward(completions=[RIGHT], puzzle=[PUZZLE])


def test_mistakes_are_named():
    with pytest.raises(UnknownTaskError, match=r'Did you mean "sudoku"'):
        reward_function("sodoku")
    with pytest.raises(ArgumentError, match="'loose' is not a mode"):
        reward_function("sudoku", mode="loose")
    with pytest.raises(ArgumentError, match="no reference field answer; it has puzzle"):
        reward_function("sudoku", answer="solution")
    reward = reward_function("sudoku")
    with pytest.raises(ArgumentError, match="is one string where a sequence"):
        reward(completions=[RIGHT], puzzle=PUZZLE)
    with pytest.raises(ArgumentError, match="is one string where a sequence"):
        reward(completions=RIGHT, puzzle=[PUZZLE])
    with pytest.raises(ArgumentError, match="puzzle has 1 values for 2 completions"):
        reward(completions=[RIGHT] * 2, puzzle=[PUZZLE])
    with pytest.raises(InvalidReferenceError) as caught:
        reward(completions=[RIGHT] * 2, puzzle=[PUZZLE, "12"])
    assert caught.value.index == 1
