"""Countdown: every accepted notation with a near miss that is refused, the rules, the references."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from verifiers import verify, verify_batch
from verifiers.countdown.task import reference_columns
from verifiers.errors import ArgumentError, InvalidReferenceError

NUMBERS, TARGET = [3, 5, 7], 22


def judge(answer, mode="lenient", numbers=NUMBERS, target=TARGET, block=True):
    text = f"so\n<answer>\n{answer}\n</answer><|eot_id|>" if block else answer
    return verify("countdown", text, mode=mode, numbers=numbers, target=target)


# (accepted in lenient mode, the refused near misses)
NOTATIONS = [
    ("3*5+7", ["3*5+7+0", "3*5", "3*5+8", "3**5+7", "3*5+7..", "3*5+7,", ";3*5+7;", "+3*5+7", "3*5+7!"]),
    ("(3*5)+7", ["(3*5+7", "3*5)+7", "[3*5]+7", "()3*5+7", "(3)(5)+7", "3(5)+7"]),
    ("3*5- -7", ["3*5-+7", "3*5+-7", "3*5~7", "3*5-7"]),
    ("-(-3)*5+7", ["(-3)*5+7", "- -3*-5+7"]),
    ("3×5+7", ["3x5+7", "3X5+7", "3⊗5+7"]),
    ("3∗5＋7", ["3⋆5+7", "3#5+7"]),
    ("3·5+7", ["3.5+7", "3•5+7"]),
    ("３*５+７", ["３５+７", "³*5+7", "③*5+7"]),
    ("٣*٥+٧", ["٣٥+٧", "Ⅲ*5+7"]),
    ("3\u00a0*\u20095+7", ["3 5+7", "3\u00a05+7"]),
    ("3*5\n+7", ["3*5\n7", "3*5+7\n3*5+7"]),
    ("3*5+\u200b7", ["3*5+\u00007", "3*5+7\udfff", "3*5\u00ac+7"]),
    ("3 \\times 5 + 7", ["3 \\time 5 + 7", "3 \\timesX 5 + 7", "3 \\otimes 5 + 7", "3 times 5 + 7"]),
    ("3 \\cdot 5 + 7", ["3 \\cdots 5 + 7", "3 \\bullet 5 + 7"]),
    ("\\left(3*5\\right)+7", ["\\left[3*5\\right]+7", "\\left(3*5\\right)+\\right7", "\\sqrt(3*5)+7"]),
    ("3\\,*\\;5 + \\quad 7", ["3\\,5+7", "3*5\\\\+7", "3*5\\&+7"]),
    ("3.0*5+7.00", ["3.*5+7", ".3*5+7", "3.05*5+7", "3.0.0*5+7", "3,0*5+7", "3e0*5+7", "03*5+7"]),
    ("`3*5+7`", ["`3*5+7", "3*5+7`", "`3`*`5`+`7`"]),
    ("```\n3*5+7\n```", ["```\n3*5+7\n``"]),
    ("**3*5+7**", ["**3*5+7*", "*3*5+7", "** **3*5+7**", "**3*5**+7", "3*5+7**"]),
    ("<b>3*5+7</b>", ["<b>3*5+7</i>", "<b>3*5+7", "<b>3*5</b>+7", "<x>3*5+7</x>", "3<b>*5+7</b>"]),
    ("3*5+7.", ["3*5+7..", "3*5.+7", "3*5+7.!"]),
    ("3*5+7 == 22", ["3*5+7 === 22", "3*5+7 = = 22", "3*5+7 == 23", "3*5+7 =="]),
    ("**Answer:** 3*5+7", ["**Answer** * 3*5+7", "Answer *3*5+7", "**Not:** 3*5+7", "**Answer 1:** 3*5+7"]),
    ("$3*5+7$", ["$3*5+7", "$3$*$5$+$7$", "3*5+7€"]),
    ("\\[ 3*5+7 \\]", ["\\[ 3*5+7 \\)", "[ 3*5+7 ]"]),
    ('"3*5+7"', ['"3*5+7', "«3*5+7»"]),
    ("“3*5+7”", ["“3*5+7“", "”3*5+7“"]),
    ("The answer is 3*5+7", ["3*5+7 is the answer", "exit(3*5+7)", "answer3*5+7"]),
    ("Answer: $3*5+7$", ["Answer = 3*5+7", "x = 3*5+7", "Answer1: 3*5+7", "Answer (A): 3*5+7", "x - 3*5+7"]),
    ("Here's our\nbest one:\n(3*5)+7", ["Here's:'(3*5)+7", "It is not (3*5)+7"]),
    ("so 3*5+7", ["so sqrt (3*5)+7", "so minus 3*5+7", "half of (3*5)+7", "so3*5+7", "so /3*5+7"]),
    ("3*5+7=22", ["3+5+7=22", "3*5+7=23", "3*5+7=", "3*5+7===22", "3*5+7= =22", "=22", "3*5+7≈22", "15+7=22"]),
    ("3*5+7 = 15+7 = 22", ["3*5+7 = 15+8 = 22", "3*5 = 15 + 7 = 22", "(3*5+7 = 22)", "3*5+7 => 22"]),
    ("（3*5）+7＝22", ["（3*5）+7＝23", "（3*5+7", "3*5＝+7"]),
    ("22 = 3*5+7.0 = 22.0", ["22 = 3*5+7 = 22.01", "22 = 15+7"]),
]  # fmt: skip


@pytest.mark.parametrize(("accepted", "refused"), NOTATIONS)
def test_every_notation_has_a_near_miss(accepted, refused):
    verdict = judge(accepted)
    assert verdict.correct and verdict.score == 1.0
    assert (verdict.reason, verdict.decided_by) == ("ok", "rational")
    assert judge(f"\\boxed{{{accepted}}}").correct
    for answer in refused:
        verdict = judge(answer)
        assert not verdict.correct and verdict.score == 0.0, answer
        assert judge(f"\\boxed{{{answer}}}").correct is False, answer
        assert judge(answer, "strict").correct is False, answer


@pytest.mark.parametrize(
    ("accepted", "refused", "numbers", "target"),
    [
        ("66 ÷ 3", "66 : 3", [66, 3], 22), ("66 \\div 3", "66 \\mid 3", [66, 3], 22),
        ("\\frac{66}{3}", "\\frac{66}3", [66, 3], 22), ("\\dfrac {66} {3}", "\\frac66{3}", [66, 3], 22),
        ("66 ∕ 3", "66 // 3", [66, 3], 22), ("\\frac{\\frac{6}{2}}{3}", "\\frac{\\frac{6}{2}{3}}", [6, 2, 3], 1),
        ("5-\\frac{1+2}{3}", "5\\frac{1+2}{3}", [5, 1, 2, 3], 4), ("9−4", "9—4", [9, 4], 5), ("9–4", "9_4", [9, 4], 5),
        ("-\\frac{1}{2}+1", "\\frac{-1}{2}+-1", [1, 1, 2], Fraction(1, 2)),
        ("1/2+5 = 5.5", "1/2+5 = 5.6", [1, 2, 5], 5.5),
        ("(1+2)/4 = \\frac{3}{4} = 0.75", "(1+2)/4 = 0.7500001", [1, 2, 4], "3/4"),
        ("1/3+2 = 7/3", "1/3+2 = 2.3333333", [1, 2, 3], Fraction(7, 3)),
    ],
)  # fmt: skip
def test_fractions_and_other_targets(accepted, refused, numbers, target):
    assert judge(accepted, numbers=numbers, target=target).reason == "ok"
    assert not judge(refused, numbers=numbers, target=target).correct


STRICT = ["3*5+7", " 3\t*\t5+7 ", "((3*5))+7", "\\boxed{3*5+7}", "\\boxed{ 3 * 5 + 7 }", "\\boxed {3*5+7}\n"]
LENIENT_ONLY = [
    "3*5\n+7", "3*5- -7", "3.0*5+7", "3*5+7=22", "3×5+7", "`3*5+7`", "$3*5+7$", "３*5+7", "3\u00a0*5+7", "--3*5+7",
    "Answer: 3*5+7", "it is \\boxed{3*5+7}", "\\boxed{3*5+7}.", "\\boxed{3*5+7} \\boxed{3*5+7}", "$\\boxed{3*5+7}$",
    "\\fbox{3*5+7}", "3*5+7\u200b", "{3*5+7}",
]  # fmt: skip


@pytest.mark.parametrize("answer", STRICT + LENIENT_ONLY)
def test_strict_takes_the_prompts_format_only(answer):
    assert judge(answer, "strict").correct is (answer in STRICT)


@pytest.mark.parametrize(
    ("text", "lenient"),
    [
        ("<answer>3+5+7</answer><answer>3*5+7</answer>", True), ("<answer>3*5+7</answer><answer>3+5+7</answer>", False),
        ("<answer>3*5+7", True), ("so \\boxed{3*5+7}", True), ("#### 3*5+7\nyes", True), ("3*5+7", False),
        ("<answer>\\boxed{3*5} + 7</answer>", False), ("<answer>\\boxed{3*5+7} or \\boxed{7*5+3}</answer>", False),
        ("<answer></answer>", False),
    ],
)  # fmt: skip
def test_strict_needs_one_block_and_the_box_inside_it(text, lenient):
    assert judge(text, block=False).correct is lenient
    assert not judge(text, "strict", block=False).correct


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
    text = f"so\n<answer>\n{answer}\n</answer><|eot_id|>"
    many = verify_batch("countdown", [text] * 300, numbers=[numbers] * 300, target=[target] * 300)
    assert set(map(str, many)) == {str(verdict)}


@pytest.mark.parametrize(
    ("answer", "numbers", "target", "lenient", "strict"),
    [
        ("5-3", [-3, 5], 2, False, False), ("5+-3", [-3, 5], 2, True, True), ("5+(-3)", [-3, 5], 2, True, True),
        ("5+(- 3)", [-3, 5], 2, True, False), ("-3+5", [3, 5], 2, True, False), ("3--3", [3, -3], 6, True, True),
        ("3-3", [3, -3], 0, False, False), ("-(3)+5", [-3, 5], 2, False, False), ("-3-3", [3, -3], -6, True, True),
        ("-3+-3", [3, -3], -6, True, False), ("-0+5", [0, 5], 5, True, True), ("5-−−3", [-3, 5], 2, True, False),
    ],
)  # fmt: skip
def test_a_negative_number_is_a_literal_with_its_sign(answer, numbers, target, lenient, strict):
    assert judge(answer, numbers=numbers, target=target).correct is lenient
    assert judge(answer, "strict", numbers, target).correct is strict


@pytest.mark.parametrize(
    "target", [22, 22.0, Fraction(22), Decimal("22.0"), "22", "44/2", " 22.0 ", np.int32(22), np.float32(22)]
)
@pytest.mark.parametrize("numbers", [[3, 5, 7], (7, 5, 3), np.array([3, 5, 7]), [np.int8(3), 5, 7]])
def test_references_come_in_many_types(numbers, target):
    assert judge("3*5+7", numbers=numbers, target=target).correct
    columns = {"numbers": [numbers] * 300, "target": [target] * 300}
    assert verify_batch("countdown", ["<answer>3*5+7</answer>"] * 300, **columns).correct.all()


def test_a_float_target_is_the_decimal_that_it_prints_as():
    assert judge("1/10", numbers=[1, 10], target=0.1).correct
    assert judge("1/10", numbers=[1, 10], target=np.float32(0.1)).correct
    assert not judge("1/3", numbers=[1, 3], target=1 / 3).correct


def test_numbers_of_one_problem_are_not_numbers_of_a_batch():
    with pytest.raises(InvalidReferenceError, match=r"numbers\[0\]=3 "):
        verify_batch("countdown", ["a", "b", "c"], numbers=[3, 5, 7], target=[22] * 3)
    with pytest.raises(ArgumentError, match="target=22 is a int"):
        verify_batch("countdown", ["a"], numbers=[[3]], target=22)


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
    verdicts = verify_batch("countdown", [text] * 300, numbers=[many] * 300, target=[sum(many)] * 300)
    assert verdicts.correct.all()


def test_references_as_columns_hold_what_was_given():
    for numbers, targets, expected in [
        ([[1, 2], (3,), [4, 5]], [1, 2, 3], ([1, 2, 3, 4, 5], [0, 2, 3, 5], [1, 2, 3], [1, 1, 1])),
        ([[1, 2], [2**70], [4]], [1, 2, "1/3"], ([1, 2, 4], [0, 2, 2, 3], [1, 0, 1], [1, 1, 3])),
    ]:
        assert tuple(column.tolist() for column in reference_columns(numbers, targets)) == expected
