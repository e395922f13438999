"""What files of users' own hold: labels, choices, amounts and JSON as models write them."""

import pytest

import verifiers

QUESTION = "Which city?\nA) Paris\nB) Rome\nC) Berlin"
TONE = "The answer is based on the tone."
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
    ("text", "The answer is correct.", {"answer": "correct", "choices": "correct,incorrect"}, True),
    ("text", "The answer is unknown.", {"answer": "unknown"}, True),
    ("text", "The answer is not spam.", {"answer": "not spam", "choices": "spam,not spam"}, True),
    ("text", "The answer is not spam.", {"answer": "spam", "choices": "spam,not spam"}, False),
    ("text", "The answer is St. Louis.", {"answer": "St. Louis"}, True),
    ("text", "The answer is **E. coli**.", {"answer": "E. coli"}, True),
    ("text", f"The answer is spam. {TONE}", {"answer": "spam", "choices": "spam,ham"}, True),
    ("text", f"The answer is ham. {TONE}", {"answer": "spam", "choices": "spam,ham"}, False),
    ("text", f"The answer is spam. {TONE}", {"answer": "spam"}, False),
    ("text", "The answer is spam. The answer is ham or so.", {"answer": "spam", "choices": "spam,ham"}, False),
    ("text", "The answer is spam. The answer is not spam.", {"answer": "spam", "choices": "spam,not spam"}, False),
    ("text", "The answer is is.", {"answer": "is"}, True),
    ("text", "<answer>spam</", {"answer": "spam"}, True),
    ("text", "<answer>spam</ans", {"answer": "ham"}, False),
    ("choice", "<answer>B</", {"answer": "B"}, True),
    ("choice", "The answer is St. Louis.", {"answer": "B", "choices": "St. Paul,St. Louis"}, True),
    ("choice", "The answer is St. Paul.", {"answer": "B", "choices": "St. Paul,St. Louis"}, False),
    ("json", "7", {"answer": "7"}, True),
    ("json", "true", {"answer": "true"}, True),
]  # fmt: skip


@pytest.mark.parametrize(("task", "completion", "reference", "is_right"), CASES)
def test_a_plain_form_is_read(task: str, completion: str, reference: dict[str, str], is_right: bool) -> None:
    assert verifiers.verify(task, completion, **reference).correct is is_right
    lists = {name: [value] for name, value in reference.items()}
    assert verifiers.verify_batch(task, [completion], **lists)[0].correct is is_right
