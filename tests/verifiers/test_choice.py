"""The task `choice`: a letter or the text of an option, and where the options are known from."""

import pytest

from verifiers import verify
from verifiers.choice import label_of, options_of
from verifiers.errors import InvalidReferenceError

PROBLEM = "Which is right?\n**A)** A dog\n**B)** Cats\nC. 12.5 kg"


@pytest.mark.parametrize(
    ("answer", "letter_alone", "with_problem"),
    [
        ("C", "ok", "ok"), ("(C)", "ok", "ok"), ("C)", "ok", "ok"), ("C.", "ok", "ok"), ("c", "ok", "ok"),
        (r"\textbf{(C)}", "ok", "ok"), ("**C**", "ok", "ok"), ("C. 12.5 kg", "ok", "ok"), ("C - 12.5 kg", "ok", "ok"),
        ("Option C", "ok", "ok"), ("12.5 KG", "malformed", "ok"), ("B", "wrong", "wrong"),
        ("cats", "malformed", "wrong"), ("A dog", "malformed", "wrong"),
        # the letter of one and the text of another
        ("C. Cats", "ok", "wrong"), ("A. A dog", "wrong", "wrong"), ("B or C", "hedge", "hedge"),
        ("C, B", "hedge", "hedge"), ("A) B) C)", "hedge", "hedge"), ("D", "wrong", "malformed"),
        ("Birds", "malformed", "malformed"),
    ],
)  # fmt: skip
def test_an_answer_names_an_option_by_its_letter_or_its_text(answer, letter_alone, with_problem) -> None:
    completion = f"<answer>{answer}</answer>"
    assert verify("choice", completion, answer="C").reason == letter_alone
    assert verify("choice", completion, answer="C", problem=PROBLEM).reason == with_problem
    assert verify("choice", completion, answer="12.5 kg", problem=PROBLEM).reason == with_problem
    options = ["A dog", "Cats", "12.5 kg"]
    assert verify("choice", completion, answer="(C)", choices=options).reason == with_problem


@pytest.mark.parametrize(
    "choices",
    [
        ["Paris", "Rome"], "Paris,Rome", {"A": "Paris", "B": "Rome"},
        {"label": ["A", "B"], "text": ["Paris", "Rome"]}, {"label": ["1", "2"], "text": ["Paris", "Rome"]},
    ],
)  # fmt: skip
def test_options_come_as_lists_and_by_their_letters(choices) -> None:
    assert verify("choice", "<answer>rome</answer>", answer="Rome", choices=choices).correct
    letter = "2" if "label" in choices and "1" in choices["label"] else "B"
    assert verify("choice", f"<answer>({letter})</answer>", answer="Rome", choices=choices).correct
    assert verify("choice", f"<answer>{letter}</answer>", answer="Paris", choices=choices).reason == "wrong"


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        ("(A) 10 (B) 12", {"A": "10", "B": "12"}), ("A. one\nB. two", {"A": "one", "B": "two"}),
        ("Pick A) x B) y C) z", {"A": "x", "B": "y", "C": "z"}), ("(a) 1 (b) 2 (c) 3", {"A": "1", "B": "2", "C": "3"}),
        ("Show that (a) holds and (b) fails.", {}),
        ("".join(f"({letter}) {letter * 2}\n" for letter in "ABCDEFGHIJ"), {c: c * 2 for c in "ABCDEFGHIJ"}),
    ],
)  # fmt: skip
def test_a_problem_lists_its_options(problem, options) -> None:
    assert options_of(problem) == options


def test_an_article_is_no_letter_and_a_letter_needs_a_mark() -> None:
    assert [label_of(answer)[0] for answer in ("A dog", "a", "e.g. this", "U.S.", "Cats", "B: so")] == [
        *("", "A"),
        *("",) * 3,
        "B",
    ]


def test_an_answer_that_names_no_option_is_told_what_would() -> None:
    verdict = verify("choice", "<answer>Birds</answer>", answer="C", problem=PROBLEM)
    assert (
        verdict.detail
        == "'Birds' names no option; an answer is the letter or the text of an option (A, B, C)."
    )


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"answer": "Rome"}, "is no letter such as 'C'"), ({"answer": 2}, "is no letter such as 'C'"),
        ({"answer": "D", "problem": PROBLEM}, "none of the options A, B, C"),
        ({"answer": "A", "choices": 7}, "is no list of up to 10 options"),
        ({"answer": "A", "choices": list("abcdefghijk")}, "is no list of up to 10 options"),
        ({"answer": "A", "problem": 7}, "is no text"), ({"answer": ""}, "is no text, or an empty one"),
    ],
)  # fmt: skip
def test_a_reference_that_names_no_option_is_refused(reference, said) -> None:
    with pytest.raises(InvalidReferenceError, match=said):
        verify("choice", "<answer>A</answer>", **reference)
