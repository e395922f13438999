"""`decimal=` and `unit=`: how a file's numbers are written, and in which unit they are."""

import pytest

from verifiers import reward_function, verify, verify_batch
from verifiers.errors import InvalidReferenceError


@pytest.mark.parametrize(
    ("answer", "gold", "reason"),
    [
        ("1.250,5", "1250,5", "ok"),
        ("1250,5", "1.250,5", "ok"),
        ("12,50 €", "12,5 €", "ok"),
        ("12{,}50", "12,50", "ok"),
        (r"\boxed{18,5}", "18,5", "ok"),
        ("1.250", "1250", "ok"),
        ("-1.250,50 kg", "-1250,5", "ok"),
        ("3/4", "0,75", "ok"),
        ("18,5", 18.5, "ok"),
        ("50,12 €", "12,50 €", "wrong"),
        ("5,18", "18,5", "wrong"),
        ("1,250", "1250", "wrong"),
        ("12.50", "12,50", "malformed"),
        ("0.125", "125", "malformed"),
        ("1.250.50", "1250,5", "malformed"),
    ],
)
def test_a_decimal_comma_holds_for_reference_and_answer(answer, gold, reason) -> None:
    completion = f"<answer>{answer}</answer>"
    assert verify("gsm8k", completion, answer=gold, decimal=",").reason == reason
    texts = [completion] * 50  # so many that a kernel could judge them
    assert verify_batch("gsm8k", texts, answer=[gold] * 50, decimal=",").reasons == [reason] * 50


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("12.5", "ok"),
        ("50.12", "wrong"),
        ('"12,50"', "ok"),
        ('"12.50"', "malformed"),
    ],
)
def test_a_number_of_json_has_a_decimal_point_also_where_texts_have_a_comma(task, field, reason) -> None:
    completion = f'```json\n{{"answer": {field}}}\n```'
    assert verify(task, completion, answer="12,5", decimal=",").reason == reason
    assert verify_batch(task, [completion] * 50, answer=["12,5"] * 50, decimal=",").reasons == [reason] * 50
    thousands = verify(task, '{"answer": 1.250}', answer="1.250", decimal=",")
    assert thousands.reason == "wrong", "1.25 and not 1250"


def test_the_algebra_system_reads_a_number_of_json_as_well() -> None:
    limit = r"\lim_{x\to 0}\frac{1,5\sin x}{x}"
    for said, right in (('{"answer": 1.5}', True), ('{"answer": 2.5}', False)):
        assert verify("math500", said, answer=limit, decimal=",").correct is right
        assert verify_batch("math500", [said], answer=[limit], decimal=",").correct.tolist() == [right]


def test_a_decimal_comma_holds_in_every_mode() -> None:
    assert verify("gsm8k", "That costs 12,50 euros.", answer="12,5", decimal=",", mode="flexible").correct
    assert verify(
        "gsm8k", r"<answer>\boxed{12,5}</answer>", answer="12,5", decimal=",", mode="strict"
    ).correct
    assert not verify(
        "gsm8k", r"<answer>\boxed{12.5}</answer>", answer="12,5", decimal=",", mode="strict"
    ).correct


@pytest.mark.parametrize(
    ("answer", "gold", "reason"),
    [
        ("1.250,5", "1250,5", "ok"),
        ("12{,}50", "12,5", "ok"),
        (r"\frac{25}{2}", "12,5", "ok"),
        ("(1,5; 2)", "(1,5; 2)", "ok"),
        ("1,5x^2", "1,5x^2", "ok"),
        ("50,12", "12,50", "wrong"),
        ("12.50", "12,50", "malformed"),
    ],
)
def test_a_decimal_comma_holds_for_mathematics(answer, gold, reason) -> None:
    completion = rf"<answer>\boxed{{{answer}}}</answer>"
    assert verify("math500", completion, answer=gold, decimal=",").reason == reason
    texts = [completion] * 50
    assert verify_batch("math500", texts, answer=[gold] * 50, decimal=",").reasons == [reason] * 50
    with pytest.raises(InvalidReferenceError, match="is not written with a decimal comma"):
        verify("math500", completion, answer="12.50", decimal=",")


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
        ("18", "ml", True),
        ("18 ml", "ml", True),
        ("18mL", "ml", True),
        (r"18 \text{ milliliters of water}", "ml", True),
        ("about 18", "ml", True),
        ("2 * 9 = 18 ml", "ml", True),
        ("18 in total", "ml", True),
        ("18 km", "ml", False),
        ("18 km = 18", "ml", False),
        ("18 liters", "ml", False),
        ("18 ml per day", "ml", False),
        ("18 bottles", "ml", False),
        ("18 $", "ml", False),
        ("$18", "ml", False),
        ("$18$", "ml", True),
        ("$18 ml", "ml", True),
        ("18 cm²", "cm^2", True),
        ("18 square centimeters", "cm^2", True),
        ("18 cm", "cm^2", False),
        ("18 kilometers per hour", "km/h", True),
        ("18 km", "km/h", False),
        ("18 apples", "apple", True),
        ("€18", "€", True),
        ("18 EUR", "euro", True),
        ("$18", "€", False),
        ("18 $", "€", False),
        ("18 pounds", "lb", True),
        ("18 cents", "cents", True),
        ("18 degrees Celsius", "°C", True),
        ("18%", "%", True),
    ],
)
def test_another_unit_is_wrong_and_a_bare_number_right(answer, unit, right) -> None:
    verdict = verify("gsm8k", f"<answer>{answer}</answer>", answer="18", unit=unit)
    assert verdict.reason == ("ok" if right else "wrong")
    assert right or verdict.detail == f"The answer names another unit than {unit}."
    assert verify(
        "gsm8k", f"<answer>{answer}</answer>", answer="18"
    ).correct  # without unit=, none is compared


@pytest.mark.parametrize("unit", ["N", "K", "V", "A"])
def test_a_unit_of_one_letter_is_read_where_it_is_the_one_asked_for(unit) -> None:
    for reference in ("5", f"5 {unit}", 5):
        said = [f"<answer>{text}</answer>" for text in (f"5 {unit}", f"6 {unit}", f"5 k{unit}", "5 m", "5")]
        batched = verify_batch("gsm8k", said, answer=[reference] * 5, unit=[unit] * 5)
        assert list(batched.correct) == [True, False, False, False, True]
        assert [verify("gsm8k", text, answer=reference, unit=unit).correct for text in said] == list(
            batched.correct
        )


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"answer": "12.50", "decimal": ","}, "is not written with a decimal comma"),
        ({"answer": "5", "decimal": ";"}, 'neither "," nor "."'),
        ({"answer": "18 km", "unit": "ml"}, "has another unit than unit='ml'"),
        ({"answer": "5", "unit": " "}, "is no unit"),
        ({"answer": "Low"}, "labels and codes are for the task text"),
    ],
)
def test_a_reference_that_contradicts_its_setting_is_refused(reference, said) -> None:
    with pytest.raises(InvalidReferenceError, match=f"(?i){said}"):
        verify("gsm8k", "<answer>5</answer>", **reference)
