"""An answer that is named in words at the end of a completion: one rule for GSM8K and MATH."""

import pytest

from tests.common.soup import use_kernels
from verifiers import verify, verify_batch

NAMED = [
    "The answer is $18$.",
    "The answer is: 18.",
    "Answer: $18$",
    "**Final Answer:** 18",
    "The final answer is $18$.",
    r"So it is \fbox{18}.",
    "### Answer\n18",
    "### Answer\n\n$18$",
    "**Final Answer**\n\n18",
    "**Final Answer**\n\\[18\\]",
    "Final Answer:\n\\[\n18\n\\]",
    "9 + 9 = 18.\n\nThe answer is:\n18",
    "<think>9 + 9</think>The answer is 18",
    "<answer>The final answer is: 18</answer>",
    "<answer>The answer is: 18</answer>",
    "The answer is **18**.",
    "So the answer is **$18$**",
    "The answer is 17. No.\nThe answer is 18.",
    "The answer is 17. No. So the answer is 18.",
    "The answer is 18. Final Answer: **18**.",
    "The answer is 18.\nHope this helps!",
    "Answer: 18<|im_end|>\nThe answer is 17",
    "Answer = 18",
    "9 + 9 is **18**\nSo she makes **\\$18** in all.",
    "So she makes **18** dollars.",
    "Thus **x = 18**",
    "So:\n**Total: $18**",
    "**#### 18**",
    "#### **18**",
    "<answer>#### 18</answer>",
    "<answer>9 + 9\n#### 18</answer>",
    # A line between the heading and the value only announces it.
    "## Answer\n\nThe total cost is:\n\n$$18$$",
    "**Final Answer:**\n\nThe total cost is:\n\n$18",
    "## Answer\n**Total:**\n18",
    "## Final Answer\nWith 2 boxes of 9 pens:\n$18$",
]
NOT_NAMED = [
    "If the answer is 18",
    "I doubt the answer is 18",
    "What the answer is: 18",
    "### Answer\n",
    "18",
    "It is not **18**.",
    "It is **17** or **18**.",
    "It is **18**.\nHope this helps!",
    "**Step 18**",
    "**Step 3: 18**",
    "It is **18.",
]
"""A condition, a doubt, a question, a heading without one, a bare number, and bold ones that
are denied, two, not at the end, behind a word, and not closed."""


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
@pytest.mark.parametrize("completion", NAMED)
def test_a_named_answer_is_read_in_lenient_mode_alone(task: str, completion: str) -> None:
    verdict = verify(task, completion, answer="18")
    assert verdict.correct, verdict
    assert verify_batch(task, [completion], answer=["18"]).correct[0]
    assert not verify(task, completion, answer="17").correct
    assert not verify(task, completion, answer="18", mode="strict").correct
    if "answer" in completion.lower() and "<answer>" not in completion:
        assert set(verdict.extracted) <= set("18$\\[]\n"), (
            "the stop and the stars are no part of what was found"
        )


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
@pytest.mark.parametrize("completion", NOT_NAMED)
def test_what_names_no_answer_has_none(task: str, completion: str) -> None:
    assert verify(task, completion, answer="18").reason.value == "no_answer"
    assert not verify_batch(task, [completion], answer=["18"]).correct[0]


def test_a_working_that_begins_below_a_heading_is_no_answer() -> None:
    for working in (
        "First we add:\n9 + 9 = 18",
        "To halve it:\n9 + 9 = 18\nThen we halve it.",
        "Given:\n18 eggs",
    ):
        assert not any(
            verify(task, f"## Answer\n{working}", answer="18").correct for task in ("gsm8k", "math500")
        )
    assert verify("gsm8k", "## Answer\nThe total is 18, as computed:\nThank you", answer="18").correct


def test_values_with_or_on_a_line_between_them_are_one_list() -> None:
    two_values = "### Answer\n\n$$x = 2$$\n\nor\n\n$$x = 3$$"
    assert verify("math500", two_values, answer="2,3").correct
    assert not verify("math500", two_values, answer="2").correct
    assert verify("math500", "### Answer\n\n$$x = 2$$\n\nor so we think.", answer="2").correct


def test_of_an_equation_in_a_sentence_the_value_counts() -> None:
    assert verify("math500", "Therefore, the answer is $x = \\frac{1}{2}$.", answer="\\frac{1}{2}").correct
    assert not verify("math500", "The answer is not 5.", answer="5").correct


DENIED = [
    r"\boxed{18} is incorrect.",
    r"\boxed{18} is not the right answer.",
    r"\boxed{18} is wrong. I do not know.",
    r"\boxed{18} does not work.",
    r"So $x=\boxed{18}$ is extraneous.",
    "**18** is wrong",
    "<answer>18</answer> is incorrect.",
    "<answer>18</answer>\nWait, that is wrong, it should be 20.",
    "<answer>\\boxed{18}</answer>\nWait, that is wrong, it should be 20.",
    "The answer is 18, which contradicts the problem.",
    r"The answer cannot be \boxed{18}.",
    r"The answer isn't \boxed{18}.",
    r"The wrong answer: \boxed{18}",
    r"The answer is certainly not \boxed{18}",
    "Incorrect answer: 18",
    "I retract 18. The answer is unknown.",
    "<answer>unlikely to be 18</answer>",
    "<answer>far from 18</answer>",
    "<answer>unlike 18</answer>",
    "<answer>close to 18</answer>",
    "<answer>next to 18</answer>",
    "The answer is 18.\nNo wait, it's 20.",
    "\\boxed{18}\nNo wait, that's 20.",
    "<answer>18</answer>\nNo wait, it's 20.",
    "The answer is 18.\nScratch that: 20.",
    "#### 18\nDisregard the above.",
    "\\boxed{18}\nHold on, it's 20.",
    "<answer>&lt;18</answer>",
]
KEPT = [
    "The answer is 18. She does not need more than that.",
    r"\boxed{18} is correct.",
    r"\boxed{18} eggs. It does not matter.",
    "<answer>18</answer>\nI hope it is not too late.",
    "#### 18\n\nQuestion: Tom has 3. How many has he?\n#### 3",
    "The answer is 18.\n\nQ: Tom has 3. How many has he?\nA: The answer is 3.",
    "#### 18\nQ: Tom has 3. How many has he?\nA: 3",
    "The answer should be a whole number.\nQuestion: What is 15 + 3?\n#### 18",
    "<answer>\\text{The answer is: 18}</answer>",
    "<answer>$Answer: 18$</answer>",
]
"""Answers that what stands beside them denies, and those that are not: the rest says something else, or is another
text, with which the completion goes on."""


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
@pytest.mark.parametrize("mode", ["lenient", "flexible"])
def test_an_answer_that_is_denied_beside_it_is_none(task: str, mode: str) -> None:
    for completions, is_right in ((DENIED, False), (KEPT, True)):
        for completion in completions:
            assert verify(task, completion, answer="18", mode=mode).correct == is_right, completion
        found = verify_batch(task, completions, answer=["18"] * len(completions), mode=mode)
        assert set(found.correct) == {is_right}


NEXT_TURNS = [
    "User: What is 3*3?\nAssistant: {}",
    "Human: What is 3*3?\n\nAssistant: {}",
    "Problem: What is 3*3?\nSolution: {}",
    "Problem 2\nWhat is 3*3?\n{}",
    "**Exercise 2:** What is 3*3?\n{}",
    "Next question: What is 3*3?\n{}",
    "### Instruction:\nWhat is 3*3?\n### Response:\n{}",
    "### Problem\nWhat is 3*3?\n{}",
    "[INST] What is 3*3? [/INST] {}",
    "<|user|>\nWhat is 3*3?\n<|assistant|>\n{}",
    "Input: What is 3*3?\nOutput: {}",
    "user\nWhat is 3*3?\nassistant\n{}",
    "Q: What is 3*3?\nA: {}",
]


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
@pytest.mark.parametrize("mark", ["#### {}", "\\boxed{{{}}}", "The answer is {}."])
@pytest.mark.parametrize("mode", ["lenient", "flexible"])
def test_what_goes_on_with_another_turn_keeps_its_answer(
    task: str, mark: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_kernels(monkeypatch)
    for turn in NEXT_TURNS:
        text = f"7 * 12 = 84\n{mark.format(84)}\n\n{turn.format(mark.format(9))}"
        assert verify(task, text, answer="84", mode=mode).correct, text
        assert verify_batch(task, [text, text], answer=["84", "9"], mode=mode).correct.tolist() == [
            True,
            False,
        ]
    again = f"Problem: 7 * 12\n{mark.format(84)}\n\nProblem: 3 * 3\n{mark.format(9)}"
    assert verify(task, "\n" + again, answer="84", mode=mode).correct
    for working in ("\nProblem: 7 * 12", "#### Step 1\nProblem 1: 7 * 12", "The answer follows.\n## Problem"):
        assert verify(task, f"{working}\n{mark.format(84)}", answer="84", mode=mode).correct, working
    wrong = f"{mark.format(84)}\nWait, it is 80.\n\nUser: And now?\n{mark.format(84)}"
    assert not verify(task, wrong, answer="84", mode=mode).correct


@pytest.mark.parametrize(
    "text",
    [
        "Question 1: Per carton?\nThe answer is 12.\n\nQuestion 2: In 7 cartons?\n7 * 12 = 84. The answer is 84.",
        "Put your final answer within \\boxed{...}.\n\nProblem: 7 * 12\n\\boxed{84}",
        "The answer to the first part is 12, and with it we can finish this\nproblem. 7 * 12 = 84\n#### 84",
    ],
)
def test_a_line_of_the_answer_itself_ends_no_text(text: str) -> None:
    assert verify("gsm8k", text, answer="84").correct


def test_a_choice_that_another_question_follows_is_the_answer() -> None:
    text = "The answer is (C).\n\nQ: And this one? (A) 1 (B) 2\nA: The answer is (B)."
    assert verify("math500", text, answer="C").correct
    assert not verify("math500", text, answer="B").correct
    assert verify(
        "countdown", "\\boxed{3*5+7}\n\nProblem: 1 1\n\\boxed{1+1}", numbers=[3, 5, 7], target=22
    ).correct


SECOND_THOUGHTS = [
    "However, 4 eggs are broken, so the final count is 80.",
    "However, 84 - 4 = 80, so the final count is 80.",
    "Hmm, but we need to subtract the 4 broken eggs, giving 80.",
    "However, the correct total is 80.",
]
SAME_THOUGHTS = [
    "Let me double check. 7*12 = 84. So 84 eggs.",
    "Let me double check: 7*12 = 84. Therefore, the total is 84 eggs.",
    "Let me verify: 84 / 12 = 7",
    "Let me verify: 84 / 12 = 7. So there are 7 boxes.",
    "Let me check: 84 / 7 = 12. Thus each box has 12 eggs.",
    "However, note that 84 = 7*12.",
    "However, if 4 eggs were broken, the total would be 80.",
    "However, the total weight is 96 grams.",
    "But 12 of them are brown.",
    "But 4 of them are brown, so 80 are white.",
    "But note that 7 dozen is 84, so 84 it is.",
]


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
@pytest.mark.parametrize("mark", ["#### 84", "\\boxed{84}", "<answer>84</answer>", "The answer is 84."])
@pytest.mark.parametrize("mode", ["lenient", "flexible"])
def test_a_second_thought_that_ends_in_another_value_takes_an_answer_back(
    task: str, mark: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_kernels(monkeypatch)
    for thoughts, value in ((SECOND_THOUGHTS, "80"), (SAME_THOUGHTS, "84")):
        texts = [f"{mark}\n{thought}" for thought in thoughts]
        for text in texts:
            is_right = (
                value == "84" or "<" not in mark
            )  # a block's answer is taken back, and no other one counts
            assert verify(task, text, answer=value, mode=mode).correct == is_right, text
        found = verify_batch(task, texts, answer=["84"] * len(texts), mode=mode)
        assert set(found.correct) == {value == "84"}
