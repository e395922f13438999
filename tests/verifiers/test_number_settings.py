"""`decimal=` and `unit=`: how a file's numbers are written, and in which unit they are."""

import pytest

from verifiers import reward_function, verify, verify_batch
from verifiers.errors import InvalidReferenceError

DECIMAL_COMMA = {
    ("gsm8k", "<answer>{}</answer>"): [
        ("1.250,5", "1250,5", "ok"), ("1250,5", "1.250,5", "ok"), ("12,50 €", "12,5 €", "ok"),
        ("12{,}50", "12,50", "ok"), (r"\boxed{18,5}", "18,5", "ok"), ("1.250", "1250", "ok"), ("3/4", "0,75", "ok"),
        ("-1.250,50 kg", "-1250,5", "ok"), ("18,5", 18.5, "ok"), ("50,12 €", "12,50 €", "wrong"),
        ("5,18", "18,5", "wrong"), ("1,250", "1250", "wrong"),
        ("12.50", "12,50", "malformed"), ("0.125", "125", "malformed"), ("1.250.50", "1250,5", "malformed"),
    ],
    ("math500", "<answer>\\boxed{{{}}}</answer>"): [
        ("1.250,5", "1250,5", "ok"), ("12{,}50", "12,5", "ok"), (r"\frac{25}{2}", "12,5", "ok"),
        ("(1,5; 2)", "(1,5; 2)", "ok"), ("1,5x^2", "1,5x^2", "ok"), ("50,12", "12,50", "wrong"),
        ("12.50", "12,50", "malformed"),
    ],
    # A number of JSON has a decimal point also where texts have a comma, and 1.250 is 1.25 and not 1250.
    ("gsm8k, math500", '```json\n{{"answer": {}}}\n```'): [
        ("12.5", "12,5", "ok"), ("50.12", "12,5", "wrong"), ('"12,50"', "12,5", "ok"), ('"12.50"', "12,5", "malformed"),
        ("1.250", "1.250", "wrong"),
    ],
    # What the algebra system reads.
    ("math500", '{{"answer": {}}}'): [(said, r"\lim_{x\to 0}\frac{1,5\sin x}{x}", reason)
                                      for said, reason in (("1.5", "ok"), ("2.5", "wrong"))],
}  # fmt: skip
"""{(tasks, frame of a completion): (answer, reference, reason)}"""


@pytest.mark.parametrize(("tasks", "frame"), DECIMAL_COMMA)
def test_a_decimal_comma_holds_for_reference_and_answer(tasks, frame) -> None:
    for task in tasks.split(", "):
        for answer, gold, reason in DECIMAL_COMMA[tasks, frame]:
            completion = frame.format(answer)
            assert verify(task, completion, answer=gold, decimal=",").reason == reason, answer
            columns = {"answer": [gold] * 50, "decimal": [","] * 50}  # so many that a kernel could judge them
            assert verify_batch(task, [completion] * 50, **columns).reasons == [reason] * 50, answer


@pytest.mark.parametrize(
    ("mode", "completion", "right"),
    [
        ("flexible", "That costs 12,50 euros.", True), ("strict", r"<answer>\boxed{12,5}</answer>", True),
        ("strict", r"<answer>\boxed{12.5}</answer>", False),
    ],
)  # fmt: skip
def test_a_decimal_comma_holds_in_every_mode(mode, completion, right) -> None:
    assert verify("gsm8k", completion, answer="12,5", decimal=",", mode=mode).correct is right


def test_a_setting_of_a_reward_is_a_column_or_one_value_for_all() -> None:
    texts = ["<answer>12,50</answer>", "<answer>12.50</answer>"]
    golds = ["12,50", "12,50"]
    assert reward_function("gsm8k", decimal=",")(completions=texts, answer=golds) == [1.0, 0.0]
    of_column = reward_function("gsm8k", decimal="sign")
    assert of_column(completions=texts, answer=["12,50", "12.50"], sign=[",", "."]) == [1.0, 1.0]
    known = reward_function("text", choices=["spam", "ham"])
    assert known(completions=["<answer>ham</answer>"] * 2, answer=["ham", "spam"]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("answer", "unit", "right"),
    [
        ("18", "ml", True), ("18 ml", "ml", True), ("18mL", "ml", True),
        (r"18 \text{ milliliters of water}", "ml", True), ("about 18", "ml", True),
        ("2 * 9 = 18 ml", "ml", True), ("18 in total", "ml", True), ("18 km", "ml", False),
        ("18 km = 18", "ml", False), ("18 liters", "ml", False), ("18 ml per day", "ml", False),
        ("18 bottles", "ml", False), ("18 $", "ml", False), ("$18", "ml", False), ("$18$", "ml", True),
        ("$18 ml", "ml", True), ("18 cm²", "cm^2", True), ("18 square centimeters", "cm^2", True),
        ("18 cm", "cm^2", False), ("18 kilometers per hour", "km/h", True), ("18 km", "km/h", False),
        ("18 apples", "apple", True), ("€18", "€", True), ("18 EUR", "euro", True), ("$18", "€", False),
        ("18 $", "€", False), ("18 pounds", "lb", True), ("18 cents", "cents", True),
        ("18 degrees Celsius", "°C", True), ("18%", "%", True),
    ],
)  # fmt: skip
def test_another_unit_is_wrong_and_a_bare_number_right(answer, unit, right) -> None:
    completion = f"<answer>{answer}</answer>"
    verdict = verify("gsm8k", completion, answer="18", unit=unit)
    assert verdict.reason == ("ok" if right else "wrong")
    assert right or verdict.detail == f"The answer names another unit than {unit}."
    assert verify("gsm8k", completion, answer="18").correct, "without unit=, none is compared"


@pytest.mark.parametrize("unit", ["N", "K", "V", "A"])
def test_a_unit_of_one_letter_is_read_where_it_is_the_one_asked_for(unit) -> None:
    for reference in ("5", f"5 {unit}", 5):
        said = [f"<answer>{text}</answer>" for text in (f"5 {unit}", f"6 {unit}", f"5 k{unit}", "5 m", "5")]
        right = [True, False, False, False, True]
        assert [verify("gsm8k", text, answer=reference, unit=unit).correct for text in said] == right
        assert list(verify_batch("gsm8k", said, answer=[reference] * 5, unit=[unit] * 5).correct) == right


@pytest.mark.parametrize(
    ("task", "reference", "said"),
    [
        ("gsm8k", {"answer": "12.50", "decimal": ","}, "is not written with a decimal comma"),
        ("math500", {"answer": "12.50", "decimal": ","}, "is not written with a decimal comma"),
        ("gsm8k", {"answer": "5", "decimal": ";"}, 'neither "," nor "."'),
        ("gsm8k", {"answer": "5", "unit": " "}, "is no unit"),
        ("gsm8k", {"answer": "18 km", "unit": "ml"}, "has another unit than unit='ml'"),
        ("gsm8k", {"answer": "Low"}, "labels and codes are for the task text"),
    ],
)  # fmt: skip
def test_a_reference_that_contradicts_its_setting_is_refused(task, reference, said) -> None:
    with pytest.raises(InvalidReferenceError, match=f"(?i){said}"):
        verify(task, "<answer>5</answer>", **reference)
