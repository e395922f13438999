"""The task `json`: which value of a completion is its answer, and when two values are equal."""

import pytest

from verifiers import verify
from verifiers.errors import InvalidReferenceError
from verifiers.reading.json_values import DEPTH_LIMIT

GOLD = {"a": 1, "b": [1, 2], "c": {"d": "x"}}
TEXT = '{"b": [1, 2.0], "a": 1e0, "c": {"d": "x"}}'


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (TEXT, "ok"), (f"<answer>{TEXT}</answer>", "ok"), (f"<answer>\n```json\n{TEXT}\n```\n</answer>", "ok"),
        (f"Here:\n```json\n{TEXT}\n```\nDone (see [notes]).", "ok"), (f"```\n{TEXT}\n```", "ok"),
        (f"```json\n{TEXT}", "ok"), (f"It is {TEXT}.", "ok"), (f"\\boxed{{{TEXT}}}", "ok"),
        (f'An example is {{"a": 2}}, and the answer {TEXT}', "ok"),
        (f'The answer is {TEXT}, unlike {{"a": 2}}', "wrong"),
        # a field of the answer is not the answer
        (f'{{"answer": {TEXT}}}', "wrong"), (f'<answer>{{"x": {TEXT}}}</answer>', "wrong"), (f"[{TEXT}]", "wrong"),
        (TEXT[:-1], "malformed"),
        # a dict of Python is no JSON, but it is the answer
        (f"Such as {TEXT}, and here {{'a': 2}}", "malformed"),
        # cut short, and its field is not the answer either
        (f'{{"x": {TEXT}', "malformed"), (f"```python\nx = {TEXT}\n```", "no_answer"),
        (f"<think>{TEXT}</think> I do not know.", "no_answer"), (f"<think>{TEXT}", "no_answer"),
        (f"{TEXT}<|eot_id|>[]", "ok"), (TEXT.replace("1e0", "true"), "wrong"), (TEXT.replace("1e0", '"1"'), "wrong"),
        (TEXT.replace('"x"', '"X"'), "wrong"), (TEXT.replace("[1, 2.0]", "[2, 1]"), "wrong"),
        (TEXT.replace('"a": 1e0', '"a": 2, "a": 1'), "malformed"), ("<answer>NaN</answer>", "malformed"),
        ("<answer>" + "[" * (DEPTH_LIMIT + 1) + "]" * (DEPTH_LIMIT + 1) + "</answer>", "malformed"),
        ("Nothing.", "no_answer"), ("<answer></answer>", "no_answer"),
    ],
)  # fmt: skip
def test_the_answer_is_the_last_value_that_stands_in_no_other(completion, reason) -> None:
    assert verify("json", completion, answer=GOLD).reason == reason


@pytest.mark.parametrize(
    ("completion", "gold"),
    [
        ("<answer>5.0</answer>", 5), ("#### 5", "5"), (r"\boxed{5}", 5), ("<answer>0.1</answer>", 0.1),
        ('"spam"', '"spam"'), ("<answer>null</answer>", "null"),
        ("<answer>100000000000000000001</answer>", 10**20 + 1), ("<answer>[]</answer>", ()),
    ],
)  # fmt: skip
def test_values_of_python_and_json_texts_are_references(completion, gold) -> None:
    assert verify("json", completion, answer=gold).correct
    assert not verify("json", "<answer>[1, 5]</answer>", answer=gold).correct


def test_some_keys_are_compared() -> None:
    completion = '{"total": 7.0, "note": "mine"}'
    gold = {"total": 7, "date": "1 May"}
    assert verify("json", completion, answer=gold, keys="total").correct
    assert verify("json", completion, answer=gold, keys=["total", "date"]).reason == "wrong"
    assert verify("json", "[7]", answer=gold, keys=["total"]).reason == "wrong"


def test_strict_mode_wants_the_value_alone_in_its_block() -> None:
    assert verify("json", f"so <answer>{TEXT}</answer>", answer=GOLD, mode="strict").correct
    fenced = f"<answer>```json\n{TEXT}\n```</answer>"
    assert verify("json", fenced, answer=GOLD, mode="strict").reason == "malformed"
    assert verify("json", TEXT, answer=GOLD, mode="strict").reason == "no_answer"


def test_what_is_no_json_is_told_why() -> None:
    verdict = verify("json", "<answer>{'a': 1}</answer>", answer=GOLD)
    assert verdict.reason == "malformed" and "is no JSON: Expecting property name" in verdict.detail


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"answer": "spam"}, "quotation marks"), ({"answer": None}, "it is empty"),
        ({"answer": {"a": float("nan")}}, "it has a float"), ({"answer": {1: 2}}, "it has a dict"),
        ({"answer": '{"a": 1, "a": 2}'}, 'the key "a" twice'),
        ({"answer": {"a": 1}, "keys": "b"}, "'b', a key that the reference has not"),
        ({"answer": [1], "keys": "b"}, "'b', a key that the reference has not"),
        ({"answer": {"a": 1}, "keys": 1}, "is no list of keys"),
    ],
)  # fmt: skip
def test_a_reference_that_is_no_json_is_refused(reference, said) -> None:
    with pytest.raises(InvalidReferenceError, match=said):
        verify("json", "{}", **reference)
