"""Countdown: the rules, the outcomes, the references; notations and near misses: casebook/countdown.txt."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from verifiers import verify, verify_batch
from verifiers.errors import InvalidReferenceError
from verifiers.verdicts import DETAILS

NUMBERS, TARGET = [3, 5, 7], 22


def judge(answer, numbers=NUMBERS, target=TARGET):
    text = f"so\n<answer>\n{answer}\n</answer><|eot_id|>"
    return verify("countdown", text, numbers=numbers, target=target)


def judge_many(text, numbers, target, count=300, mode="lenient"):
    """So many rows, by default, that a kernel may judge them."""
    return verify_batch(
        "countdown", [text] * count, mode=mode, numbers=[numbers] * count, target=[target] * count
    )


@pytest.mark.parametrize(
    ("answer", "numbers", "target", "reason", "tier"),
    [
        ("3+5+7", NUMBERS, 22, "wrong", "rational"), ("3*5+7-7", NUMBERS, 22, "rule_broken", "grammar"),
        ("35+7", NUMBERS, 42, "rule_broken", "grammar"), ("3.5+7", NUMBERS, 10.5, "rule_broken", "grammar"),
        ("22", NUMBERS, 22, "rule_broken", "grammar"), ("nothing works", NUMBERS, 22, "malformed", "grammar"),
        ("", NUMBERS, 22, "no_answer", "text"), ("0/0+22", [0, 0, 22], 22, "wrong", "rational"),
        ("22+1/(3-3)", [22, 1, 3, 3], 22, "wrong", "rational"),
        ("0/(3-3)+22 = 22", [0, 22, 3, 3], 22, "wrong", "rational"), ("5^2-3", [5, 2, 3], 22, "malformed", "grammar"),
        ("9**9**9**9", [9, 9, 9, 9], 22, "malformed", "grammar"),
        ("3*5+7 mod 9", [3, 5, 7, 9], 22, "malformed", "grammar"), ("5/7*7", [5, 7, 7], 5, "ok", "rational"),
        ("66/3+1/999999", [66, 3, 1, 999999], 22, "wrong", "rational"),
        ("(99999999999999999+1-99999999999999999)*22", [10**17 - 1, 1, 10**17 - 1, 22], 22, "ok", "rational"),
        ("9223372036854775807+1-9223372036854775808+22", [2**63 - 1, 1, 2**63, 22], 22, "ok", "rational"),
        ("9223372036854775807+9223372036854775807+24", [2**63 - 1, 2**63 - 1, 24], 22, "wrong", "rational"),
        ("4294967296*4294967296", [2**32, 2**32], 0, "wrong", "rational"),
        ("4294967296*4294967296", [2**32, 2**32], 2**64, "ok", "rational"),
        ("1/3037000501/3037000501", [1, 3037000501, 3037000501], Fraction(1, 3037000501**2), "ok", "rational"),
    ],
)  # fmt: skip
def test_each_outcome_has_its_reason_on_both_paths(answer, numbers, target, reason, tier):
    verdict = judge(answer, numbers=numbers, target=target)
    assert (verdict.reason, verdict.decided_by) == (reason, tier)
    many = judge_many(f"so\n<answer>\n{answer}\n</answer><|eot_id|>", numbers, target)
    assert set(map(str, many)) == {str(verdict)}


@pytest.mark.parametrize(
    "target", [22, 22.0, Fraction(22), Decimal("22.0"), "22", "44/2", " 22.0 ", np.int32(22), np.float32(22)]
)
@pytest.mark.parametrize(
    "numbers", [[3, 5, 7], (7, 5, 3), np.array([3, 5, 7]), [np.int8(3), 5, 7], [3.0, 5, 7]]
)
def test_references_come_in_many_types(numbers, target):
    assert judge("3*5+7", numbers=numbers, target=target).correct
    assert judge_many("<answer>3*5+7</answer>", numbers, target).correct.all()


def test_numbers_are_no_set_and_whole():
    said = judge("3*5", numbers=np.array([3.0, 5.0])).detail
    assert said and said == judge("3*5", numbers=[3, 5]).detail
    for numbers, said in (
        ({3, 5}, "is a set, which keeps only one of equal numbers; give a list"),
        ([3.5, 5], "is no list of 1 to 256 integers"),
        ([float("inf"), 5], "is no list of 1 to 256 integers"),
    ):
        with pytest.raises(InvalidReferenceError, match=said):
            judge("3*5", numbers=numbers)


def test_a_float_target_is_the_decimal_that_it_prints_as():
    assert judge("1/10", numbers=[1, 10], target=0.1).correct
    assert judge("1/10", numbers=[1, 10], target=np.float32(0.1)).correct
    assert not judge("1/3", numbers=[1, 3], target=1 / 3).correct


def test_depth_is_bounded_and_said_so():
    for depth, right in ((250, True), (300, False)):
        verdict = judge("(" * depth + "3*5+7" + ")" * depth)
        assert (verdict.correct, verdict.reason == "malformed") == (right, not right)


def test_many_and_huge_numbers_are_exact():
    huge, many = [10**3_998 + i for i in range(15)], list(range(1, 257))
    answer = "+".join(map(str, huge))
    assert judge(answer, numbers=huge, target=sum(huge)).correct
    assert not judge(answer, numbers=huge, target=sum(huge) + 1).correct
    text = "<answer>" + "+".join(map(str, many)) + "</answer>"
    assert judge_many(text, many, sum(many)).correct.all()


@pytest.mark.parametrize(
    ("answer", "numbers", "target", "detail"),
    [
        ("3*5+8", NUMBERS, 22, "8 is not given."), ("3*5+7-7", NUMBERS, 22, "7 is used twice."),
        ("7*8*8*8", [7, 8], 22, "8 is used 3 times."), ("3*5", NUMBERS, 22, "7 is not used."),
        ("7*(3-5)", NUMBERS, 22, "It makes -14, not 22."), ("(3+5)/7", NUMBERS, 22, "It makes 8/7, not 22."),
        ("3-5-7", NUMBERS, 22, "It makes -9, not 22."), ("7/5/3", NUMBERS, 22, "It makes 7/15, not 22."),
        ("-(3-5)*7", NUMBERS, "43/2", "It makes 14, not 43/2."), ("7+3--5", NUMBERS, 22, "It makes 15, not 22."),
        ("22+1/(3-3)", [22, 1, 3, 3], 22, "It divides by 0."), ("3×5−7", NUMBERS, 22, "It makes 8, not 22."),
        ("The answer is **3+5+7**.", NUMBERS, 22, "It makes 15, not 22."),
        ("3+5+7 = 8+7 = 15", NUMBERS, 22, "It makes 15, not 22."),
        ("3*5+7 = 23", NUMBERS, 22, "One side makes 23, not 22."), ("15+7 = 22", NUMBERS, 22, "15 is not given."),
        ("22 = 3*5+5", NUMBERS, 22, "5 is used twice."),
        ("3-5", [3, -5], -2, "Each number is used once, -5 as (-5)."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_on_both_paths(answer, numbers, target, detail):
    assert judge(answer, numbers=numbers, target=target).detail == detail
    many = judge_many(f"<answer>{answer}</answer>", numbers, target)
    assert many[7].detail == many[5:9][1].detail == detail and set(many.details) == {detail}


@pytest.mark.parametrize("answer", [r"\frac{3}{5}+7", "3.0*5-7", "3*5-7+" + "0" * 300])
def test_of_another_notation_the_reason_is_all_that_is_said(answer):
    verdict = judge(answer)
    malformed = "The answer is no expression of numbers, signs and brackets that is accepted in this mode, or too long."
    assert not verdict.correct
    assert verdict.detail == (malformed if verdict.reason == "malformed" else DETAILS[verdict.reason])
    assert judge("-3+5", numbers=[-3, 5]).detail == DETAILS["wrong"] and judge("3*5+7").detail == ""


def test_what_is_said_holds_by_counting_and_by_plain_python():
    rng = np.random.default_rng(0)
    for _ in range(300):
        numbers = rng.integers(1, 9, 3).tolist()
        written = [int(rng.choice([*numbers, 9])) for _ in range(3)]
        if rng.random() < 0.5:
            written = rng.permutation(numbers).tolist()
        signs = rng.choice([*"+-*/"], 2)
        answer = f"({written[0]}{signs[0]}{written[1]}){signs[1]}{written[2]}"
        verdict = judge(answer, numbers=numbers)
        number, _, said = verdict.detail.partition(" is ")
        if verdict.reason == "rule_broken":
            given, used = numbers.count(int(number)), written.count(int(number))
            right = {
                "not given.": given == 0 < used,
                "not used.": used < given,
                "used twice.": used == 2 > given,
            }
            assert right.get(said, used == 3 > given)
        elif verdict.reason == "wrong":
            value = eval(re.sub(r"\d+", r"Fraction(\g<0>)", answer))
            assert verdict.detail == f"It makes {value}, not 22."


@pytest.mark.parametrize(
    ("text", "lenient", "flexible"),
    [
        ("<answer>Using 3, 5 and 7: 3*5+7 = 22</answer>", "ok", "ok"),
        ("<answer>Not with 3, 5 and 7: 3*5+7</answer>", "malformed", "malformed"),
        ("<answer>With 3, 5 and 7: 3*5-7</answer>", "wrong", "wrong"),
        ("<answer>3*5+7==22</answer>", "malformed", "malformed"),
        ("So we get there.\nAnswer: 3*5 + 7 = 22", "no_answer", "ok"),
        ("3*5 + 7 = 22 uses 3, 5 and 7.", "no_answer", "ok"),
        ("First 3*5 = 15, then 15 + 7 = 22.", "no_answer", "rule_broken"),
        ("I do not know 22.", "no_answer", "no_answer"),
        ("(" * 100_000, "no_answer", "no_answer"),
    ],
)
def test_an_expression_that_no_mark_names_is_read_in_flexible_mode(text, lenient, flexible):
    for mode, reason in (("lenient", lenient), ("flexible", flexible)):
        assert verify("countdown", text, numbers=[3, 5, 7], target=22, mode=mode).reason == reason
    assert set(judge_many(text, NUMBERS, TARGET, 3, "flexible").reasons) == {flexible}
