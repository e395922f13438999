"""What files of users' own hold: labels, choices, amounts and JSON as models write them."""

import pytest

import verifiers

QUESTION = "Which city?\nA) Paris\nB) Rome\nC) Berlin"
CASES = [
    ("text", "The answer is **BUG**, because the app crashes.", {"answer": "bug"}, True),
    ("text", "#### **BUG**", {"answer": "bug"}, True),
    ("text", "<answer>**a** b</answer>", {"answer": "**a** b"}, True),
    ("text", '<answer>"Positive"</answer>', {"answer": "positive"}, True),
    ("choice", "The answer is B (Rome).", {"answer": "B", "problem": QUESTION}, True),
    ("choice", "The answer is B (Paris).", {"answer": "B", "problem": QUESTION}, False),
    ("choice", "**Answer: C. Berlin**\n\n**Incorrect Answers:**\n- B. Rome", {"answer": "C"}, True),
    ("gsm8k", "The answer is 20. A common incorrect answer is 18.", {"answer": "18"}, False),
    ("gsm8k", "<answer>5 pounds</answer>", {"answer": "5", "unit": "kg"}, False),
    ("gsm8k", "<answer>5 €</answer>", {"answer": "5", "unit": "hours"}, False),
    ("gsm8k", "<answer>5 €</answer>", {"answer": "5", "unit": "euros"}, True),
    ("gsm8k", "<answer>2,5 €</answer>", {"answer": "2,5 Mrd. €", "decimal": ","}, False),
    ("gsm8k", "<answer>2.500.000.000 €</answer>", {"answer": "2,5 Mrd. €", "decimal": ","}, True),
    ("json", "7", {"answer": "7"}, True),
    ("json", "true", {"answer": "true"}, True),
]


@pytest.mark.parametrize(("task", "completion", "reference", "is_right"), CASES)
def test_a_plain_form_is_read(task: str, completion: str, reference: dict[str, str], is_right: bool) -> None:
    assert verifiers.verify(task, completion, **reference).correct is is_right
    lists = {name: [value] for name, value in reference.items()}
    assert verifiers.verify_batch(task, [completion], **lists)[0].correct is is_right
