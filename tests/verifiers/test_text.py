"""The task `text`: labels, names and codes are compared as texts, and no mathematics is read into them."""

import pytest

from verifiers import verify, verify_batch
from verifiers.errors import InvalidReferenceError


@pytest.mark.parametrize(
    ("answer", "gold", "settings", "reason"),
    [
        ("Low", "LOW", {}, "ok"), ("  new\n  york ", "New York", {}, "ok"),
        ("STRASSE", "Straße", {}, "ok"), ("Cafe\u0301", "CAFÉ", {}, "ok"), ("ＯＫ", "ok", {}, "ok"),
        ("**Spam**", "spam", {}, "ok"), (r"\boxed{\text{Spam}}", "spam", {}, "ok"),
        ("Spam.", "spam", {}, "ok"), ("Form 8, because it is due", "form 8, because it is due", {}, "ok"),
        ("Plan B as agreed", "Plan B", {}, "wrong"), (".", ".", {}, "ok"), ("*****", "*****", {}, "ok"),
        ("*****", "*", {}, "wrong"), ("init", "__init__", {}, "wrong"), ("`__init__`", "__init__", {}, "ok"),
        ("True", True, {}, "ok"), ("7", 7.0, {}, "ok"), ("si", "is", {}, "wrong"),
        ("50,12 €", "12,50 €", {}, "wrong"), ("spam or ham", "spam", {}, "wrong"),
        ("LOW", "Low", {"case": "exact"}, "wrong"), ("Low", "Low", {"case": "exact"}, "ok"),
        ("low", "Low", {"case": "fold"}, "ok"), ("Ham", "spam", {"choices": ["spam", "ham"]}, "wrong"),
        ("eggs", "spam", {"choices": ["spam", "ham"]}, "malformed"),
        ("HAM", "spam", {"choices": "spam,ham", "case": "exact"}, "malformed"),
        ("ham, eggs", "ham, eggs", {"choices": "ham, eggs\nspam"}, "ok"),
        ("spam", "spam", {"choices": '["spam", "a, b"]'}, "ok"),
    ],
)  # fmt: skip
def test_an_answer_is_compared_as_text(answer, gold, settings, reason) -> None:
    assert verify("text", f"so\n<answer>{answer}</answer>", answer=gold, **settings).reason == reason


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("The answer is spam.", "ok"), ("#### spam", "ok"), ("spam", "no_answer"),
        ('{"answer": "Spam"}', "ok"), ("**Answer:** spam", "ok"),
        ("<think>spam</think><answer>ham</answer>", "wrong"), ("", "no_answer"),
    ],
)  # fmt: skip
def test_the_answer_stands_where_it_does_for_every_task(completion, reason) -> None:
    assert verify("text", completion, answer="spam").reason == reason


def test_strict_mode_wants_the_text_alone_in_its_block() -> None:
    assert verify("text", "<answer>Spam</answer>", answer="spam", mode="strict").correct
    assert (
        verify("text", r"<answer>\boxed{spam}</answer>", answer="spam", mode="strict").reason == "malformed"
    )
    assert verify("text", "The answer is spam.", answer="spam", mode="strict").reason == "no_answer"


def test_a_label_that_is_not_known_is_told_which_ones_are() -> None:
    verdict = verify("text", "<answer>eggs</answer>", answer="spam", choices=["spam", "ham"])
    assert verdict.detail == "'eggs' is none of the known answers: spam, ham."


def test_a_setting_is_one_for_all_rows_or_one_for_each() -> None:
    texts = ["<answer>HAM</answer>"] * 2
    assert verify_batch("text", texts, answer=["ham"] * 2, case="exact").reasons == ["wrong"] * 2
    assert verify_batch("text", texts, answer=["ham"] * 2, case=["exact", None]).reasons == ["wrong", "ok"]
    known = [["spam", "ham"], "ham,eggs"]
    assert verify_batch("text", texts, answer=["spam", "eggs"], choices=known).reasons == ["wrong"] * 2


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"answer": ""}, "is no text, or an empty one"),
        ({"answer": None}, "is no text, or an empty one"),
        ({"answer": ["spam"]}, "is no text, or an empty one"),
        ({"answer": "eggs", "choices": "spam,ham"}, "is none of the choices: spam, ham"),
        ({"answer": "low", "choices": "low,LOW"}, "'low' and 'LOW', which count as one answer"),
        ({"answer": "low", "choices": 3}, "is no list of answers"),
        ({"answer": "low", "choices": []}, "is no list of answers"),
        ({"answer": "low", "case": "upper"}, 'neither "exact" nor "fold"'),
    ],
)
def test_a_reference_that_cannot_be_used_is_refused(reference, said) -> None:
    with pytest.raises(InvalidReferenceError, match=said):
        verify("text", "<answer>low</answer>", **reference)
